// Tables on the terminal and in files.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace colossus {

struct TextTable {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;  // each as long as the header
};

// Columns side by side, two spaces apart; those that hold numbers alone are flush right. A row is one line: "; " stands
// for ends of lines within it.
std::string aligned_text(const TextTable& table);
std::string csv_text(const TextTable& table);  // io/csv.h reads it

// As CSV to `file`, or where that is "" to the standard output.
Status write_csv(const TextTable& table, const std::string& file);

}  // namespace colossus
