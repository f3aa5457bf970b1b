// Comma-separated tables with a header line (RFC 4180): fields in quotes may hold commas, quotes (doubled) and ends of
// lines.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace colossus {

class CsvTable {
 public:
  // `place` names the text in errors. Fails for a row with another number of fields than the header, for a quote that
  // does not end, for no header.
  static Result<CsvTable> parse(std::string_view text, const std::string& place);

  size_t num_rows() const { return rows_.size(); }
  const std::vector<std::string>& header() const { return header_; }
  bool has_column(std::string_view name) const { return column(name).has_value(); }
  // "" where there is no such column.
  const std::string& at(size_t row, std::string_view column) const;
  int line(size_t row) const { return lines_[row]; }  // of the text, from 1

 private:
  std::optional<size_t> column(std::string_view name) const;

  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
  std::vector<int> lines_;
};

// A record as CsvTable reads it, with the line feed behind it: fields that need quotes have them.
std::string csv_record(std::span<const std::string> fields);

}  // namespace colossus
