#include "cli/text_table.h"

#include <algorithm>
#include <charconv>

#include "cli/terminal.h"
#include "io/csv.h"
#include "io/file_system.h"

namespace colossus {
namespace {

bool is_number(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

// Errors have a line for each fault.
std::string on_one_line(std::string text) {
  for (size_t at = text.find('\n'); at != std::string::npos; at = text.find('\n', at)) text.replace(at, 1, "; ");
  return text;
}

struct Column {
  int width = 0;
  bool numbers = true;
};

}  // namespace

std::string aligned_text(const TextTable& given) {
  TextTable table = given;
  for (auto& row : table.rows) std::ranges::transform(row, row.begin(), on_one_line);
  std::vector<Column> columns;
  for (size_t i = 0; i < table.header.size(); ++i) {
    Column column{.width = display_width(table.header[i])};
    for (const auto& row : table.rows) {
      column.width = std::max(column.width, display_width(row[i]));
      column.numbers = column.numbers && (row[i].empty() || is_number(row[i]));
    }
    columns.push_back(column);
  }
  std::string text;
  const auto add = [&](const std::vector<std::string>& row) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string space(static_cast<size_t>(columns[i].width - display_width(row[i])), ' ');
      line += (i > 0 ? "  " : "") + (columns[i].numbers ? space + row[i] : row[i] + space);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  };
  add(table.header);
  for (const auto& row : table.rows) add(row);
  return text;
}

std::string csv_text(const TextTable& table) {
  std::string text = csv_record(table.header);
  for (const auto& row : table.rows) text += csv_record(row);
  return text;
}

Status write_csv(const TextTable& table, const std::string& file) {
  return file.empty() ? print(csv_text(table)) : write_file_atomically(local_files(), file, csv_text(table));
}

}  // namespace colossus
