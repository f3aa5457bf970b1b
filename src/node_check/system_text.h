// What the system and other programs have to say, as text.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace colossus {

// Files of /proc and /sys say they have no bytes, so io's read_file finds none. "" when it cannot be read.
std::string read_system_file(const std::string& path);

// The kernel's log as it is kept in memory, each line beginning "[seconds since boot] ". kUnavailable without the right
// to read it (dmesg_restrict).
Result<std::string> read_kernel_log();
double seconds_since_boot();

struct ProgramOutput {
  int exit_code = 0;
  bool timed_out = false;   // it was killed; text is what it had written
  bool unkillable = false;  // it hangs in the kernel; it was left behind
  std::string text;         // standard output and error, at most kMaxProgramOutput bytes
};
constexpr int64_t kMaxProgramOutput = int64_t{64} << 20;

// Runs a program and waits. kNotFound when it is not there.
Result<ProgramOutput> run_program(const std::vector<std::string>& arguments, double timeout_seconds);

}  // namespace colossus
