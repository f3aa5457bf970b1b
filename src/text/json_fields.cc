#include "text/json_fields.h"

#include <fmt/format.h>

#include <algorithm>

namespace colossus {

Status wanted_json(const std::string& path, const Json& got, std::string_view what) {
  return invalid(fmt::format("{} is {}; wanted {}", path, brief_json(got), what));
}

Result<Json> parse_json_object(std::string_view text) {
  ASSIGN_OR_RETURN(Json json, parse_checked_json(text));
  if (!json.is_object()) return wanted_json("$", json, "an object");
  return json;
}

Status only_keys(const Json& object, const std::string& path, std::initializer_list<std::string_view> known) {
  if (!object.is_object()) return wanted_json(path, object, "an object");
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return invalid(fmt::format("{}.{} is not supported: {}", path, key, brief_json(value)));
    }
  }
  return ok_status();
}

Status must_be_neutral(const Json& object, const std::string& path, const char* key, const Json& neutral) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null() || *found == neutral) return ok_status();
  return wanted_json(path + "." + key, *found, neutral.is_null() ? "null" : fmt::format("null or {}", neutral.dump()));
}

Result<bool> read_bool(const Json& object, const std::string& path, const char* key, bool absent) {
  const auto found = object.find(key);
  if (found == object.end()) return absent;
  if (!found->is_boolean()) return wanted_json(path + "." + key, *found, "true or false");
  return found->get<bool>();
}

Result<std::string> read_string(const Json& object, const std::string& path, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return invalid(fmt::format("{}.{} is missing", path, key));
  if (!found->is_string()) return wanted_json(path + "." + key, *found, "a string");
  return found->get<std::string>();
}

Result<int32_t> read_id(const Json& value, const std::string& path, int32_t limit) {
  if (!value.is_number_integer()) return wanted_json(path, value, "an id, a whole number");
  if (value.is_number_unsigned() ? value.get<uint64_t>() >= static_cast<uint64_t>(limit) : true) {
    return wanted_json(path, value,
                       fmt::format("an id from 0 to {} (this many tokens leave no wider gaps)", limit - 1));
  }
  return value.get<int32_t>();
}

const Json& field_or_null(const Json& object, const char* key) {
  static const Json null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

}  // namespace colossus
