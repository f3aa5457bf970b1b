#include "convert/checked_json.h"

#include <fmt/format.h>

#include <set>

namespace colossus {
namespace {

using Json = nlohmann::json;

// Looks at the text before a tree is made of it: depth takes stack, and a tree forgets that a key came twice.
class Checker final : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override {
    keys_.emplace_back();
    return enter();
  }
  bool end_object() override {
    keys_.pop_back();
    --depth_;
    return true;
  }
  bool start_array(std::size_t) override { return enter(); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(std::string& name) override {
    return keys_.back().insert(name).second ||
           fail(fmt::format("the key \"{}\" stands twice in one object; remove one of them", name));
  }
  bool parse_error(std::size_t position, const std::string&, const Json::exception&) override {
    return fail(fmt::format("byte {} is not valid JSON; was the file cut?", position));
  }
  const std::string& error() const { return error_; }

 private:
  bool enter() {
    return ++depth_ <= kMaxJsonDepth ||
           fail(fmt::format("objects and lists nested more than {} deep; no file of this kind needs that",
                            kMaxJsonDepth));
  }
  bool fail(std::string message) {
    if (error_.empty()) error_ = std::move(message);
    return false;
  }

  int depth_ = 0;
  std::vector<std::set<std::string>> keys_;
  std::string error_;
};

}  // namespace

Result<Json> parse_checked_json(std::string_view text, const std::string& place) {
  Checker checker;
  if (!Json::sax_parse(text, &checker)) return invalid(checker.error()).at(place);
  return Json::parse(text, nullptr, false);
}

Result<Json> read_checked_json(FileSystem& files, const std::string& path, int64_t max_bytes) {
  ASSIGN_OR_RETURN(const std::string text, read_file(files, path, max_bytes));
  return parse_checked_json(text, path);
}

}  // namespace colossus
