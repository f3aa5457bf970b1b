#include "text/json_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

namespace colossus {

namespace {

constexpr int kMaxDepth = 128;

// A key twice in one object: JSON libraries keep either; a vocabulary must not depend on which. Counting keys against
// what the object ends up with finds that out; only then is it worth keeping them all to name the one.
class RepeatedKeys {
 public:
  explicit RepeatedKeys(bool keep_names) : keep_names_(keep_names) {}

  bool operator()(int depth, Json::parse_event_t event, Json& value) {
    if (depth > kMaxDepth) {
      too_deep_ = true;
      return false;
    }
    if (event == Json::parse_event_t::object_start) open_.emplace_back();
    if (event == Json::parse_event_t::key) {
      ++open_.back().num_keys;
      const std::string& key = value.get_ref<const std::string&>();
      if (keep_names_ && !open_.back().names.insert(key).second && name_.empty()) name_ = key;
    }
    if (event == Json::parse_event_t::object_end) {
      found_ |= open_.back().num_keys != value.size();
      open_.pop_back();
    }
    return true;
  }
  bool found() const { return found_; }
  bool too_deep() const { return too_deep_; }
  const std::string& name() const { return name_; }

 private:
  struct OpenObject {
    size_t num_keys = 0;
    std::unordered_set<std::string> names;
  };
  const bool keep_names_;
  std::vector<OpenObject> open_;
  bool found_ = false;
  bool too_deep_ = false;
  std::string name_;
};

}  // namespace

std::string brief_json(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

Status wanted_json(const std::string& path, const Json& got, std::string_view what) {
  return invalid(fmt::format("{} is {}; wanted {}", path, brief_json(got), what));
}

Result<Json> parse_json_object(std::string_view text) {
  RepeatedKeys repeated(false);
  Json json;
  try {
    json = Json::parse(text, std::ref(repeated));
    if (repeated.too_deep()) return invalid(fmt::format("nested more than {} deep", kMaxDepth));
    if (repeated.found()) {
      RepeatedKeys named(true);
      json = Json::parse(text, std::ref(named));
      return invalid(fmt::format("the key '{}' stands twice in one object", named.name()));
    }
  } catch (const Json::exception& error) {
    return corrupt(fmt::format("not JSON ({} bytes): {}", text.size(), error.what()));
  }
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
