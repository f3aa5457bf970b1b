#include "cli/exit_code.h"

#include <cstdio>

namespace colossus {

int exit_code(const Status& status) {
  if (status.ok()) return 0;
  switch (status.code()) {
    case ErrorCode::kInvalid: return kUsageExitCode;
    case ErrorCode::kNotFound: return 3;
    case ErrorCode::kExhausted: return 4;
    case ErrorCode::kCorrupt: return 5;
    case ErrorCode::kUnavailable: return 6;
    case ErrorCode::kInterrupted: return 130;
  }
  return 1;
}

int report(const Status& status) {
  if (!status.ok()) std::fprintf(stderr, "colossus: %s\n", status.message().c_str());
  return exit_code(status);
}

const char* exit_code_help() {
  return "Exit codes:\n"
         "  0    done\n"
         "  1    a fault of colossus itself\n"
         "  2    an argument, a setting or a file's contents is wrong\n"
         "  3    a file is not there\n"
         "  4    the disk, the memory or a limit is exhausted\n"
         "  5    a file is corrupt: cut short, or a checksum does not match\n"
         "  6    the system refused: permissions, input/output, the processor\n"
         "  7    colossus check: a machine is slower than expected, or wants a look\n"
         "  8    colossus check: a machine is not fit for a run\n"
         "  130  stopped by Ctrl-C or SIGTERM; what was done is saved\n";
}

}  // namespace colossus
