#include "node_check/kernel_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "node_check/xid.h"

namespace colossus {
namespace {

constexpr size_t kMaxLineShown = 200;
// Of trouble in one log. More than all devices of a machine can have says no more than these.
constexpr size_t kMaxKinds = 1000;

struct LinePattern {
  const char* kind;
  const char* all[3];  // parts that the line has, in any order; null: no more
  Verdict verdict;
  const char* meaning;
};

// In order: the first that matches counts.
constexpr LinePattern kPatterns[] = {
    {"nvswitch_fatal",
     {"detected NVSwitch fatal error"},
     Verdict::kBad,
     "an NVSwitch failed: reset GPUs and NVSwitches"},
    {"nvswitch", {"detected NVSwitch non-fatal error"}, Verdict::kSlow, "an NVSwitch reports errors: watch its links"},
    {"gpu_lost",
     {"NVRM", "GPU has fallen off the bus"},
     Verdict::kBad,
     "a GPU has fallen off the bus: restart the node"},
    {"gpu_lost", {"NVRM", "RmInitAdapter failed"}, Verdict::kBad, "a GPU could not be initialised: restart the node"},
    {"gpu_lost", {"NVRM", "GPU is lost"}, Verdict::kBad, "a GPU is lost: restart the node"},
    {"nccl_crash", {"segfault", "libnccl"}, Verdict::kSlow, "NCCL crashed a process: look for link or driver errors"},
    {"peermem",
     {"nvidia-peermem", "ERROR"},
     Verdict::kSlow,
     "GPU memory registered for RDMA was lost: see the driver's version"},
    {"machine_check",
     {"Machine check events logged"},
     Verdict::kSlow,
     "the processor reported errors: see mcelog or rasdaemon"},
    {"machine_check",
     {"mce: [Hardware Error]"},
     Verdict::kBad,
     "the processor reported a hardware error: see rasdaemon"},
    {"memory_error", {"EDAC", " UE "}, Verdict::kBad, "uncorrectable memory errors: replace the memory"},
    {"memory_error", {"Memory failure: 0x"}, Verdict::kBad, "uncorrectable memory errors: replace the memory"},
    {"memory_corrected", {"EDAC", " CE "}, Verdict::kSlow, "corrected memory errors: watch the memory"},
    {"memory_error", {"Hardware Error", "uncorrected"}, Verdict::kBad, "an uncorrected hardware error"},
    {"hardware_error", {"[Hardware Error]: event severity: fatal"}, Verdict::kBad, "a fatal hardware error"},
    {"hardware_error", {"[Hardware Error]: event severity: recoverable"}, Verdict::kBad, "a hardware error lost data"},
    {"pcie", {"PCIe Bus Error", "severity=Uncorrect"}, Verdict::kBad, "uncorrected errors of a PCI Express link"},
    {"pcie", {"AER:", "Uncorrected", "Fatal"}, Verdict::kBad, "uncorrected errors of a PCI Express link"},
    {"pcie_corrected",
     {"PCIe Bus Error", "severity=Correct"},
     Verdict::kSlow,
     "corrected errors of a PCI Express link"},
    {"heat",
     {"temperature above threshold"},
     Verdict::kSlow,
     "the processor was slowed down by heat: look at the cooling"},
    {"disk_error", {"I/O error", "dev "}, Verdict::kBad, "a disk failed to read or write"},
    {"disk_error", {"critical medium error"}, Verdict::kBad, "a disk lost data"},
    {"disk_error", {"nvme", "controller is down"}, Verdict::kBad, "an NVMe disk stopped answering"},
    {"disk_slow", {"nvme", "timeout"}, Verdict::kSlow, "an NVMe disk answered late"},
    {"file_system", {"EXT4-fs error"}, Verdict::kBad, "a damaged file system: run fsck"},
    {"file_system", {"XFS", "orruption"}, Verdict::kBad, "a damaged file system: run xfs_repair"},
    {"file_system", {"Remounting filesystem read-only"}, Verdict::kBad, "a damaged file system: run fsck"},
    {"nfs", {"nfs: server", "not responding"}, Verdict::kSlow, "a file server did not answer"},
    {"infiniband", {"mlx5_core", "health"}, Verdict::kBad, "a network adapter reports that it is not well"},
    {"infiniband", {"mlx5_core", "Link down"}, Verdict::kSlow, "a network link went down"},
    {"link_down", {"NIC Link is Down"}, Verdict::kSlow, "a network link went down"},
    {"lockup", {"soft lockup"}, Verdict::kSlow, "a core was stuck in the kernel"},
    {"lockup", {"hard LOCKUP"}, Verdict::kBad, "a core was stuck in the kernel"},
    {"hung_task",
     {"blocked for more than", "seconds"},
     Verdict::kSlow,
     "a process hung in the kernel: a disk, a file server or a driver"},
    {"clocksource", {"Marking clocksource", "unstable"}, Verdict::kSlow, "the kernel distrusts its clock"},
    {"out_of_memory", {"Out of memory: Killed process"}, Verdict::kPass, "a process was killed for memory"},
};

// "[ 12.345678] text" or "6,3964,206764307,-;text".
std::optional<double> seconds_of_line(std::string_view line) {
  const auto number = [](std::string_view text) -> std::optional<double> {
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
  };
  if (line.starts_with('[')) {
    const size_t close = line.find(']');
    if (close != std::string_view::npos) return number(line.substr(1, close - 1));
  }
  const size_t text = line.find(';');
  const size_t first = line.find(','), second = line.find(',', first + 1), third = line.find(',', second + 1);
  if (text == std::string_view::npos || third == std::string_view::npos || third > text) return std::nullopt;
  const auto microseconds = number(line.substr(second + 1, third - second - 1));
  return microseconds ? std::optional(*microseconds * 1e-6) : std::nullopt;
}

bool matches(const LinePattern& pattern, std::string_view line) {
  for (const char* part : pattern.all)
    if (part != nullptr && line.find(part) == std::string_view::npos) return false;
  return true;
}

std::optional<KernelLogFinding> find_trouble(std::string_view line) {
  if (const auto xid = parse_xid(line)) {
    XidJudgement judgement = judge_xid(*xid);
    return KernelLogFinding{.kind = fmt::format("{} {} of {}", xid->of_switch ? "SXid" : "Xid", xid->code, xid->device),
                            .verdict = judgement.verdict,
                            .meaning = std::move(judgement.meaning)};
  }
  for (const LinePattern& pattern : kPatterns)
    if (matches(pattern, line))
      return KernelLogFinding{.kind = pattern.kind, .verdict = pattern.verdict, .meaning = pattern.meaning};
  return std::nullopt;
}

}  // namespace

std::vector<KernelLogFinding> scan_kernel_log(std::string_view log, const KernelLogOptions& options) {
  std::vector<KernelLogFinding> findings;
  for (size_t at = 0; at < log.size();) {
    const size_t end = std::min(log.find('\n', at), log.size());
    const std::string_view line = log.substr(at, end - at);
    at = end + 1;
    auto found = find_trouble(line);
    if (!found) continue;
    if (const auto seconds = seconds_of_line(line);
        seconds && options.seconds_since_boot - *seconds > options.max_age_seconds)
      continue;
    auto known = std::find_if(findings.begin(), findings.end(),
                              [&](const KernelLogFinding& finding) { return finding.kind == found->kind; });
    if (known == findings.end()) {
      if (findings.size() == kMaxKinds) continue;
      known = findings.insert(findings.end(), *found);
    }
    // Xid 154 and the NVLink errors differ from line to line: the worst counts.
    if (found->verdict > known->verdict) {
      known->verdict = found->verdict;
      known->meaning = found->meaning;
    }
    ++known->count;
    known->last_line = line.substr(0, kMaxLineShown);
  }
  return findings;
}

CheckResult judge_kernel_log(std::string_view log, const KernelLogOptions& options) {
  CheckResult result{.name = "kernel_log", .value = 0, .unit = "lines of trouble"};
  std::vector<KernelLogFinding> findings = scan_kernel_log(log, options);
  std::stable_sort(findings.begin(), findings.end(),
                   [](const KernelLogFinding& a, const KernelLogFinding& b) { return a.verdict > b.verdict; });
  for (const KernelLogFinding& finding : findings) {
    if (finding.verdict != Verdict::kPass) result.value = *result.value + static_cast<double>(finding.count);
    result.worsen(finding.verdict, fmt::format("{} ({} time{}): {}", finding.kind, finding.count,
                                               finding.count == 1 ? "" : "s", finding.meaning));
  }
  return result;
}

}  // namespace colossus
