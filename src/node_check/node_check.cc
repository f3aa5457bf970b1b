#include "node_check/node_check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/clock.h"
#include "comm/key_value_store.h"
#include "node_check/clock_check.h"
#include "node_check/gpu_check.h"
#include "node_check/kernel_log.h"
#include "node_check/system_text.h"

namespace colossus {
namespace {

constexpr int64_t kMaxSavedBytes = int64_t{256} << 20;
constexpr double kSecondsPerHour = 3600;

Result<std::vector<CheckResult>> run_gpu_check(FileSystem& files, const NodeCheckOptions& options) {
  const Expected expected = options.expected.value_or(Expected{});
  if (options.gpu_listings.empty()) return check_gpus(expected);
  GpuListings listings;
  for (const std::string& path : options.gpu_listings) {
    ASSIGN_OR_RETURN(const std::string text, read_file(files, path, kMaxSavedBytes));
    if (const Status added = add_listing(text, listings); !added.ok()) return added.at(path);
  }
  return judge_gpus(listings, expected);
}

Result<std::vector<CheckResult>> run_kernel_log_check(FileSystem& files, const NodeCheckOptions& options) {
  if (!options.kernel_log.empty()) {
    // Its times are of another machine, or of another boot: all lines count.
    ASSIGN_OR_RETURN(const std::string log, read_file(files, options.kernel_log, kMaxSavedBytes));
    return std::vector{judge_kernel_log(log, {})};
  }
  const auto log = read_kernel_log();
  if (log.ok())
    return std::vector{judge_kernel_log(*log, {.max_age_seconds = options.kernel_log_hours * kSecondsPerHour,
                                               .seconds_since_boot = seconds_since_boot()})};
  // Not a fault of the machine.
  CheckResult unread{.name = "kernel_log", .message = log.status().message()};
  return std::vector{unread};
}

std::vector<CheckResult> run_link_check(const NodeCheckOptions& options) {
  const auto store = open_store(options.store);
  if (store.ok()) return check_links(**store, options.links);
  CheckResult failed{.name = "links"};
  failed.worsen(Verdict::kBad, store.status().message());
  return {failed};
}

bool is_wanted(const NodeCheckOptions& options, const std::string& name) {
  if (!options.only.empty()) return std::find(options.only.begin(), options.only.end(), name) != options.only.end();
  return name != "links" || !options.store.empty();
}

}  // namespace

Result<NodeReport> check_node(FileSystem& files, const NodeCheckOptions& options, const std::atomic<bool>& stop) {
  for (const std::string& name : options.only) {
    if (std::find(kCheckNames.begin(), kCheckNames.end(), name) == kCheckNames.end())
      return invalid(fmt::format("there is no check \"{}\"; there are {}", name, fmt::join(kCheckNames, ", ")));
    if (name == "links" && options.store.empty()) return invalid("to check links, give --store");
  }
  const double start = monotonic_seconds();
  NodeReport report{.host = this_host()};
  ClockCheck clock;
  for (const char* const check : kCheckNames) {
    const std::string name = check;
    if (!is_wanted(options, name)) continue;
    if (stop) return interrupted("stopped");
    if (options.on_check) options.on_check(check);
    Result<std::vector<CheckResult>> results = std::vector<CheckResult>{};
    if (name == "gpu") results = run_gpu_check(files, options);
    if (name == "kernel-log") results = run_kernel_log_check(files, options);
    if (name == "cpu") results = check_cpu(options.cpu);
    if (name == "memory") results = check_memory(options.memory);
    if (name == "disk") results = check_disk(files, options.disk);
    if (name == "links") results = run_link_check(options);
    if (name == "clock") results = std::vector{clock.finish()};
    RETURN_IF_ERROR(results);
    for (CheckResult& result : *results) report.results.push_back(std::move(result));
  }
  if (options.expected) compare_all(report, *options.expected, "file");
  report.seconds = monotonic_seconds() - start;
  return report;
}

}  // namespace colossus
