// What the kernel has said about the hardware: GPUs, memory, disks, links, heat.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "node_check/report.h"

namespace colossus {

struct KernelLogOptions {
  // Lines older than this are left out, where they say their age ("[ 12.345678] ..." or a record of /dev/kmsg): what
  // was repaired stays in the log until the next boot.
  double max_age_seconds = 24 * 3600;
  double seconds_since_boot = 0;  // now
};

// One kind of trouble: "xid_79 of 0000:9b:00", the verdict, what it means, how often, and the last such line.
struct KernelLogFinding {
  std::string kind;
  Verdict verdict = Verdict::kPass;
  std::string meaning;
  int64_t count = 0;
  std::string last_line;
};

// Of a log as dmesg, journalctl -k, /dev/kmsg or the fabric manager write it. In order of first appearance.
std::vector<KernelLogFinding> scan_kernel_log(std::string_view log, const KernelLogOptions& options);

// "kernel_log": the findings as one result.
CheckResult judge_kernel_log(std::string_view log, const KernelLogOptions& options);

}  // namespace colossus
