// JSON from strangers. One set of rules for every reader, held before a value is believed:
//   - valid JSON and nothing behind it, in valid UTF-8
//   - objects and lists nested no more than 128 deep
//   - no key twice in one object (libraries keep either, so two programs would read two files)
//   - sizes within limits: of the text, and of the tree that is made of it
// Errors give the path of the value ("$.model.vocab"), what was found, and what was needed.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/status.h"
#include "io/file_system.h"

namespace colossus {

using Json = nlohmann::json;

inline constexpr int kMaxJsonDepth = 128;
inline constexpr int64_t kMaxJsonBytes = int64_t{256} << 20;  // ten times the largest published tokenizer.json
inline constexpr int64_t kMaxJsonValues = int64_t{8} << 20;   // of a tree; a value of two bytes can take some dozens

// The tree of the text. `place` is put before messages; "": the caller does.
Result<Json> parse_checked_json(std::string_view text, const std::string& place = "");
Result<Json> read_checked_json(FileSystem& files, const std::string& path, int64_t max_bytes = kMaxJsonBytes);

// For who makes no tree: hears of everything in its order, and ends it by an error. Keys are told once in an object.
class JsonVisitor {
 public:
  virtual ~JsonVisitor() = default;
  virtual Status begin_object() = 0;
  virtual Status end_object() = 0;
  virtual Status begin_list() = 0;
  virtual Status end_list() = 0;
  virtual Status key(const std::string& name) = 0;
  virtual Status value(Json value) = 0;  // null, true, false, a number, a string
};
// The visitor's errors come back as they are.
Status visit_checked_json(std::string_view text, JsonVisitor& visitor);

// The value as JSON, cut where it is long: for messages, whatever is in it.
std::string brief_json(const Json& value);

}  // namespace colossus
