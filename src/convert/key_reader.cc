#include "convert/key_reader.h"

#include <fmt/format.h>

#include <cmath>

namespace colossus {
const Json& KeyReader::take(const std::string& key) {
  static const Json none;
  seen_.insert(key);
  return object_.contains(key) ? object_.at(key) : none;
}

void KeyReader::refuse(const std::string& key, const std::string& why) {
  if (!status_.ok()) return;
  const Json& value = take(key);
  status_ = invalid(value.is_null() ? fmt::format("[{}] {} is not there; {}", place_, key, why)
                                    : fmt::format("[{}] {} = {}: {}", place_, key, brief_json(value), why));
}

int64_t KeyReader::whole(const std::string& key, std::optional<int64_t> standard, int64_t max) {
  const Json& value = take(key);
  if (value.is_null() && standard) return *standard;
  if (value.is_number_unsigned() && value.get<uint64_t>() <= static_cast<uint64_t>(max)) return value.get<int64_t>();
  refuse(key, fmt::format("needed a whole number from 0 to {}", max));
  return standard.value_or(0);
}

double KeyReader::number(const std::string& key, std::optional<double> standard) {
  const Json& value = take(key);
  if (value.is_null() && standard) return *standard;
  if (value.is_number() && std::isfinite(value.get<double>())) return value.get<double>();
  refuse(key, "needed a number");
  return standard.value_or(0);
}

bool KeyReader::flag(const std::string& key, bool standard) {
  const Json& value = take(key);
  if (value.is_null()) return standard;
  if (value.is_boolean()) return value.get<bool>();
  refuse(key, "needed true or false");
  return standard;
}

std::string KeyReader::text(const std::string& key, const std::string& standard) {
  const Json& value = take(key);
  if (value.is_null()) return standard;
  if (value.is_string()) return value.get<std::string>();
  refuse(key, "needed a string");
  return standard;
}

void KeyReader::want_flag(const std::string& key, bool wanted, bool standard, const std::string& why) {
  if (flag(key, standard) != wanted) refuse(key, why);
}

std::vector<std::string> KeyReader::unread() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object_.items())
    if (!seen_.contains(key)) keys.push_back(key);
  return keys;
}

}  // namespace colossus
