// Errors as exit codes, and the one place that prints them.
#pragma once

#include "base/status.h"

namespace colossus {

// 0 done · 2 invalid · 3 not found · 4 exhausted · 5 corrupt · 6 unavailable · 130 interrupted.
int exit_code(const Status& status);
constexpr int kUsageExitCode = 2;
// Of `colossus check`: it worked, and this is what it found.
constexpr int kSlowExitCode = 7;
constexpr int kBadExitCode = 8;

// Prints "colossus: message" on stderr when the status failed; returns its exit code.
int report(const Status& status);

// For `colossus --help`.
const char* exit_code_help();

}  // namespace colossus
