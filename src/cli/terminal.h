// What the place we print to can do.
#pragma once

#include <string>
#include <string_view>

#include "base/quantity.h"
#include "base/status.h"

namespace colossus {

struct Terminal {
  bool interactive = false;  // a person is looking, not a file or a pipe
  int columns = 80;
  bool unicode = false;
};

// Asks anew each time: windows change their size. COLUMNS in the environment overrules the window.
Terminal query_terminal(int descriptor);

// Results, to the standard output.
Status print(std::string_view text);

// Columns that UTF-8 text takes, counting one for each character.
int display_width(std::string_view text);
// The longest beginning of `text` that takes at most `columns`.
std::string_view fit_to_columns(std::string_view text, int columns);

// 3723 as "1:02:03", 42 as "0:42"; "?" when it is not known or above a year.
std::string format_duration(double seconds);

}  // namespace colossus
