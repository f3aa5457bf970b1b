// The keys of a JSON object, read one by one; what is wrong and what is left over is known at the end.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "io/checked_json.h"

namespace colossus {

class KeyReader {
 public:
  // `object` outlives this; `place` is for messages.
  KeyReader(const Json& object, std::string place) : object_(object), place_(std::move(place)) {}

  bool contains(const std::string& key) const { return object_.contains(key); }  // also with null
  bool has(const std::string& key) const { return object_.contains(key) && !object_.at(key).is_null(); }
  // Without a standard the key must be there. A whole number is in 0..max, a number is finite.
  int64_t whole(const std::string& key, std::optional<int64_t> standard = {}, int64_t max = int64_t{1} << 24);
  double number(const std::string& key, std::optional<double> standard = {});
  bool flag(const std::string& key, bool standard);
  std::string text(const std::string& key, const std::string& standard);
  // Another value than the wanted one is refused; absent is the standard.
  void want_flag(const std::string& key, bool wanted, bool standard, const std::string& why);
  void ignore(std::initializer_list<const char*> keys) { seen_.insert(keys.begin(), keys.end()); }
  const Json& take(const std::string& key);  // null where it is not there

  void refuse(const std::string& key, const std::string& why);  // what the key says
  const Status& status() const { return status_; }
  std::vector<std::string> unread() const;

 private:
  const Json& object_;
  const std::string place_;
  std::set<std::string> seen_;
  Status status_;  // the first fault
};

}  // namespace colossus
