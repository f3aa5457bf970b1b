#include "io/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace colossus {
namespace {

class Reader {
 public:
  Reader(std::string_view text, const std::string& place) : text_(text), place_(place) {}

  bool at_end() const { return at_ >= text_.size(); }
  int line() const { return line_; }

  // The fields of the next record.
  Result<std::vector<std::string>> record() {
    std::vector<std::string> fields;
    for (;;) {
      ASSIGN_OR_RETURN(std::string field, next_field());
      fields.push_back(std::move(field));
      if (at_end()) return fields;
      const char end = text_[at_++];
      if (end == ',') continue;
      if (end == '\r' && !at_end() && text_[at_] == '\n') ++at_;
      ++line_;
      return fields;
    }
  }

  // An empty line is no record.
  bool skip_empty_line() {
    size_t end = at_;
    if (text_[end] == '\r' && end + 1 < text_.size()) ++end;
    if (text_[end] != '\n') return false;
    at_ = end + 1;
    ++line_;
    return true;
  }

 private:
  static bool ends_field(char c) { return c == ',' || c == '\n' || c == '\r'; }

  Result<std::string> next_field() {
    std::string field;
    if (at_end() || text_[at_] != '"') {
      while (!at_end() && !ends_field(text_[at_])) field += text_[at_++];
      return field;
    }
    const int first_line = line_;
    for (++at_; !at_end(); ++at_) {
      if (text_[at_] == '\n') ++line_;
      if (text_[at_] != '"') {
        field += text_[at_];
      } else if (at_ + 1 < text_.size() && text_[at_ + 1] == '"') {
        field += '"';
        ++at_;
      } else {
        ++at_;
        if (!at_end() && !ends_field(text_[at_]))
          return invalid(
              fmt::format("[{}:{}] text behind a closing quote; double the quotes within a field", place_, line_));
        return field;
      }
    }
    return invalid(fmt::format("[{}:{}] a quote that does not end", place_, first_line));
  }

  std::string_view text_;
  const std::string& place_;
  size_t at_ = 0;
  int line_ = 1;
};

}  // namespace

Result<CsvTable> CsvTable::parse(std::string_view text, const std::string& place) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  Reader reader(text, place);
  if (reader.at_end()) return invalid(fmt::format("[{}] is empty; needed a line with the names of columns", place));
  CsvTable table;
  ASSIGN_OR_RETURN(table.header_, reader.record());
  std::set<std::string_view> names;
  for (const std::string& name : table.header_)
    if (!names.insert(name).second) return invalid(fmt::format("[{}:1] two columns are called {}", place, name));
  while (!reader.at_end()) {
    if (reader.skip_empty_line()) continue;
    const int line = reader.line();
    ASSIGN_OR_RETURN(std::vector<std::string> fields, reader.record());
    if (fields.size() != table.header_.size())
      return invalid(fmt::format("[{}:{}] {} fields; the header has {}: quote those that hold commas", place, line,
                                 fields.size(), table.header_.size()));
    table.rows_.push_back(std::move(fields));
    table.lines_.push_back(line);
  }
  return table;
}

std::optional<size_t> CsvTable::column(std::string_view name) const {
  const auto found = std::find(header_.begin(), header_.end(), name);
  if (found == header_.end()) return std::nullopt;
  return static_cast<size_t>(found - header_.begin());
}

const std::string& CsvTable::at(size_t row, std::string_view name) const {
  static const std::string kNone;
  const auto found = column(name);
  return found ? rows_[row][*found] : kNone;
}

std::string csv_record(std::span<const std::string> fields) {
  std::string record;
  for (size_t i = 0; i < fields.size(); ++i) {
    if (i > 0) record += ',';
    const std::string& field = fields[i];
    // An empty line is no record, so a record of one empty field is quoted.
    if (field.find_first_of(",\"\r\n") == std::string::npos && !(field.empty() && fields.size() == 1)) {
      record += field;
      continue;
    }
    record += '"';
    for (const char c : field) {
      if (c == '"') record += '"';
      record += c;
    }
    record += '"';
  }
  return record + '\n';
}

}  // namespace colossus
