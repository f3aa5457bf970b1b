#include "io/checked_json.h"

#include <fmt/format.h>

#include <unordered_set>
#include <vector>

namespace colossus {
namespace {

constexpr size_t kBriefBytes = 60;
constexpr size_t kMaxFaultBytes = 300;  // a message of the parser repeats what it read last

// "[json.exception.parse_error.101] parse error at line 1, column 5: ..." without what only a program asks for.
std::string fault_of(const Json::exception& error) {
  std::string text = error.what();
  if (const size_t end = text.find("] "); text.starts_with('[') && end != std::string::npos) text.erase(0, end + 2);
  if (text.size() > kMaxFaultBytes) text = text.substr(0, kMaxFaultBytes) + "...";
  // Bytes of the file that are no characters.
  const std::string escaped = Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  return escaped.size() == text.size() + 2 ? text : escaped;
}

// Holds the parser's events to the rules and hands them on. Knows where in the tree it is.
class Checker final : public nlohmann::json_sax<Json> {
 public:
  explicit Checker(JsonVisitor& visitor) : visitor_(visitor) { open_.reserve(kMaxJsonDepth); }

  bool null() override { return value(nullptr); }
  bool boolean(bool flag) override { return value(flag); }
  bool number_integer(number_integer_t number) override { return value(number); }
  bool number_unsigned(number_unsigned_t number) override { return value(number); }
  bool number_float(number_float_t number, const std::string&) override { return value(number); }
  bool string(std::string& text) override { return value(std::move(text)); }
  bool binary(binary_t&) override { return false; }  // JSON has none
  bool start_object(std::size_t) override { return enter(true) && pass(visitor_.begin_object()); }
  bool end_object() override {
    open_.pop_back();
    return pass(visitor_.end_object());
  }
  bool start_array(std::size_t) override { return enter(false) && pass(visitor_.begin_list()); }
  bool end_array() override {
    open_.pop_back();
    return pass(visitor_.end_list());
  }
  bool key(std::string& name) override {
    Open& object = open_.back();
    const auto [added, is_new] = object.keys.insert(std::move(name));
    object.key = is_new ? &*added : nullptr;
    if (!is_new)
      return pass(
          invalid(fmt::format("{}: the key {} stands twice in one object; needed once, and only its writer "
                              "knows which of the two counts",
                              path(), brief_json(*added))));
    return pass(visitor_.key(*added));
  }
  bool parse_error(std::size_t, const std::string&, const Json::exception& error) override {
    return pass(corrupt(fmt::format("not JSON, behind {}: {}; was the file cut?", path(), fault_of(error))));
  }

  const Status& status() const { return status_; }

 private:
  struct Open {
    bool is_object = false;
    int64_t num_items = 0;  // of a list
    const std::string* key = nullptr;
    std::unordered_set<std::string> keys;
  };

  bool pass(Status status) {
    if (status.ok()) return true;
    status_ = std::move(status);
    return false;
  }
  void count_item() {
    if (!open_.empty()) ++open_.back().num_items;
  }
  bool enter(bool is_object) {
    count_item();
    if (open_.size() == kMaxJsonDepth)
      return pass(
          invalid(fmt::format("{}: objects and lists are nested more than {} deep; no file of this kind needs "
                              "that",
                              path(), kMaxJsonDepth)));
    open_.push_back({.is_object = is_object, .keys = {}});
    return true;
  }
  bool value(Json value) {
    count_item();
    return pass(visitor_.value(std::move(value)));
  }
  std::string path() const {
    std::string path = "$";
    for (const Open& open : open_) {
      if (path.size() > 4 * kBriefBytes) return path + "...";
      if (!open.is_object)
        path += fmt::format("[{}]", std::max<int64_t>(open.num_items - 1, 0));
      else if (open.key != nullptr)
        path += "." + plain_or_quoted(*open.key);
    }
    return path;
  }
  static std::string plain_or_quoted(const std::string& key) {
    const bool plain = key.size() < kBriefBytes && key.find_first_not_of(
                                                       "abcdefghijklmnopqrstuvwxyz"
                                                       "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                       "0123456789_-") == std::string::npos;
    return plain && !key.empty() ? key : brief_json(key);
  }

  JsonVisitor& visitor_;
  std::vector<Open> open_;
  Status status_;
};

class TreeBuilder final : public JsonVisitor {
 public:
  Status begin_object() override { return open(Json::object()); }
  Status begin_list() override { return open(Json::array()); }
  Status end_object() override { return close(); }
  Status end_list() override { return close(); }
  Status key(const std::string& name) override {
    slot_ = &open_.back()->emplace(name, nullptr).first.value();
    return ok_status();
  }
  Status value(Json value) override {
    if (++num_values_ > kMaxJsonValues) return too_many();
    place(std::move(value));
    return ok_status();
  }
  Json take() { return std::move(root_); }

 private:
  static Status too_many() {
    return exhausted(fmt::format("has more than {} values; no file of this kind needs so many", kMaxJsonValues));
  }
  // Where it lies: it stays there until what holds it grows.
  Json* place(Json value) {
    if (!open_.empty() && open_.back()->is_array()) {
      auto& list = open_.back()->get_ref<Json::array_t&>();
      list.push_back(std::move(value));
      return &list.back();
    }
    Json& slot = open_.empty() ? root_ : *slot_;
    slot = std::move(value);
    return &slot;
  }
  Status open(Json empty) {
    if (++num_values_ > kMaxJsonValues) return too_many();
    open_.push_back(place(std::move(empty)));
    return ok_status();
  }
  Status close() {
    open_.pop_back();
    return ok_status();
  }

  Json root_;
  std::vector<Json*> open_;
  Json* slot_ = nullptr;  // of the last key
  int64_t num_values_ = 0;
};

}  // namespace

Status visit_checked_json(std::string_view text, JsonVisitor& visitor) {
  Checker checker(visitor);
  Json::sax_parse(text, &checker);
  return checker.status();
}

Result<Json> parse_checked_json(std::string_view text, const std::string& place) {
  Status read;
  TreeBuilder tree;
  if (static_cast<int64_t>(text.size()) > kMaxJsonBytes)
    read = exhausted(fmt::format("has {} bytes; needed at most {}", text.size(), kMaxJsonBytes));
  else
    read = visit_checked_json(text, tree);
  if (!read.ok()) return place.empty() ? read : read.at(place);
  return tree.take();
}

Result<Json> read_checked_json(FileSystem& files, const std::string& path, int64_t max_bytes) {
  ASSIGN_OR_RETURN(const std::string text, read_file(files, path, max_bytes));
  return parse_checked_json(text, path);
}

std::string brief_json(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() <= kBriefBytes) return text;
  size_t end = kBriefBytes - 3;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) --end;  // not within a character
  return text.substr(0, end) + "...";
}

}  // namespace colossus
