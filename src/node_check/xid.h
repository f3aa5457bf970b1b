// What NVIDIA's driver reports in the kernel's log, by number, and what that means for a node. After NVIDIA's "Xid
// Errors" (https://docs.nvidia.com/deploy/xid-errors/), table "Analyzing Xid Errors with the Xid Catalog", for A100 and
// later; its "immediate action" decides the verdict:
//   ignore or restart the application            kPass: the GPU is well
//   reset when convenient, contact support later kSlow: it works, and wants a look
//   reset the GPU, restart the node              kBad
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "node_check/report.h"

namespace colossus {

struct XidMeaning {
  int code;
  Verdict verdict;
  const char* meaning;
  const char* action;
};

// Null for a number the table does not have.
const XidMeaning* find_xid(int code);

struct XidLine {
  bool of_switch = false;  // an SXid, of an NVSwitch
  std::string device;      // PCI address: "0000:9b:00"
  int code = 0;
  std::string text;  // what follows the number
};

// "... NVRM: Xid (PCI:0000:9b:00): 119, pid=1, ..." or "... SXid (PCI:0000:86:00.0): 12028, Non-fatal, ...".
std::optional<XidLine> parse_xid(std::string_view line);

struct XidJudgement {
  Verdict verdict;
  std::string meaning;  // with what to do
};
XidJudgement judge_xid(const XidLine& line);

}  // namespace colossus
