#include "base/status.h"

namespace colossus {

const char* error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalid: return "invalid";
    case ErrorCode::kNotFound: return "not found";
    case ErrorCode::kExhausted: return "exhausted";
    case ErrorCode::kCorrupt: return "corrupt";
    case ErrorCode::kUnavailable: return "unavailable";
    case ErrorCode::kInterrupted: return "interrupted";
  }
  return "unknown";
}

Status Status::at(const std::string& place) const {
  if (ok()) return *this;
  return {code_, "[" + place + "] " + message_};
}

}  // namespace colossus
