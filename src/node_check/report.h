// What was found out about one machine, and how it travels: one line of JSON.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace colossus {

// In order of gravity. kSlow: it works, below what is expected or with a warning that wants a look; kBad: keep work
// away.
enum class Verdict { kPass, kSlow, kBad };
const char* verdict_name(Verdict verdict);

struct CheckResult {
  std::string name;  // "memory_read", "gpu_3": letters, digits, '_', '.', '-'
  Verdict verdict = Verdict::kPass;
  std::optional<double> value = {};
  std::string unit = {};
  std::optional<double> expected = {};
  std::string expected_from = {};  // whose word that is: "file", "fleet median", "processor"; "" without expectation
  std::string message = {};        // what was seen and what to do about it; "" when the figure says all

  void worsen(Verdict to, const std::string& why);
};

struct NodeReport {
  std::string host;
  double seconds = 0;  // the check took
  std::vector<CheckResult> results;

  Verdict verdict() const;  // the worst
  const CheckResult* find(std::string_view name) const;
};

// The name Slurm knows this machine by, else its host name.
std::string this_host();
// Letters, digits, '.', '-', '_', beginning with a letter or digit, at most 255: safe in a command.
bool is_host_name(std::string_view name);

// Without a newline.
std::string to_json_line(const NodeReport& report);
// For lines from other machines: kInvalid for whatever this program does not write. Sizes are bounded, and control
// characters do not get through to a terminal.
Result<NodeReport> parse_node_report(std::string_view line);

}  // namespace colossus
