// Fields of JSON objects with their paths, so that every refusal says where: "$.model.type is ...; wanted ...".
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "base/status.h"
#include "io/checked_json.h"

namespace colossus {

Status wanted_json(const std::string& path, const Json& got, std::string_view what);

// parse_checked_json, of an object.
Result<Json> parse_json_object(std::string_view text);

// Every key of `object` must be in `known`.
Status only_keys(const Json& object, const std::string& path, std::initializer_list<std::string_view> known);
// `key` of `object` must be absent, null, or `neutral`.
Status must_be_neutral(const Json& object, const std::string& path, const char* key, const Json& neutral);

Result<bool> read_bool(const Json& object, const std::string& path, const char* key, bool absent);
Result<std::string> read_string(const Json& object, const std::string& path, const char* key);
// A whole number from 0 to below `limit`.
Result<int32_t> read_id(const Json& value, const std::string& path, int32_t limit);
// The field, or null.
const Json& field_or_null(const Json& object, const char* key);

}  // namespace colossus
