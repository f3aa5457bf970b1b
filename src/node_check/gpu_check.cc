#include "node_check/gpu_check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "node_check/system_text.h"

namespace colossus {
namespace {

bool is_set(const std::optional<bool>& flag) { return flag.value_or(false); }
bool is_some(const std::optional<int64_t>& number) { return number.value_or(0) > 0; }

void judge_memory(const GpuState& gpu, CheckResult& result) {
  if (is_set(gpu.remap_failed)) result.worsen(Verdict::kBad, "a row of its memory could not be remapped: replace it");
  if (is_set(gpu.unrepairable_memory)) result.worsen(Verdict::kBad, "its memory cannot be repaired: replace it");
  if (is_set(gpu.sram_threshold_exceeded))
    result.worsen(Verdict::kBad, "more uncorrectable SRAM errors than NVIDIA allows: replace it");
  if (is_some(gpu.ecc_uncorrected))
    result.worsen(Verdict::kBad, fmt::format("{} uncorrectable memory errors: reset it", *gpu.ecc_uncorrected));
  if (is_set(gpu.remap_pending) || is_set(gpu.retired_pages_pending) || is_set(gpu.repair_pending))
    result.worsen(Verdict::kBad, "a repair of its memory waits for a reset: reset it");
  if (is_some(gpu.banks_without_spare_rows))
    result.worsen(Verdict::kSlow,
                  fmt::format("{} banks of memory have no spare rows left", *gpu.banks_without_spare_rows));
  if (gpu.ecc_enabled && !*gpu.ecc_enabled) result.worsen(Verdict::kSlow, "ECC is off: nvidia-smi -e 1, then reset it");
}

void judge_speed(const GpuState& gpu, CheckResult& result) {
  if (gpu.pcie_width && gpu.pcie_width_max && *gpu.pcie_width < *gpu.pcie_width_max)
    result.worsen(Verdict::kSlow, fmt::format("its PCI Express link has {} of {} lanes: seat it again", *gpu.pcie_width,
                                              *gpu.pcie_width_max));
  // A GPU at rest may slow its link down.
  if (gpu.performance_state == "P0" && gpu.pcie_generation && gpu.pcie_generation_max &&
      *gpu.pcie_generation < *gpu.pcie_generation_max)
    result.worsen(Verdict::kSlow, fmt::format("its PCI Express link runs at generation {} of {}", *gpu.pcie_generation,
                                              *gpu.pcie_generation_max));
  if (gpu.power_brake) result.worsen(Verdict::kSlow, "power delivery slows it down: look at the power supplies");
  if (gpu.thermal_slowdown) result.worsen(Verdict::kSlow, "heat slows it down: look at the cooling");
  if (gpu.hardware_slowdown && !gpu.power_brake && !gpu.thermal_slowdown)
    result.worsen(Verdict::kSlow, "the hardware slows it down");
  if (gpu.degrees_to_limit && *gpu.degrees_to_limit <= 0)
    result.worsen(Verdict::kSlow, "it is as hot as it may be: look at the cooling");
}

CheckResult judge_gpu(const GpuState& gpu, size_t index) {
  CheckResult result{.name = fmt::format("gpu_{}", index)};
  if (gpu.temperature_c) {
    result.value = static_cast<double>(*gpu.temperature_c);
    result.unit = "degrees C";
  }
  judge_memory(gpu, result);
  judge_speed(gpu, result);
  if (!gpu.recovery_action.empty() && gpu.recovery_action != "None")
    result.worsen(Verdict::kBad, fmt::format("its driver asks for: {}", gpu.recovery_action));
  if (!gpu.fabric_state.empty() && gpu.fabric_state != "Completed")
    result.worsen(Verdict::kBad, fmt::format("it has not joined the NVLink fabric ({}): look at the fabric manager",
                                             gpu.fabric_state));
  if (!gpu.fabric_status.empty() && gpu.fabric_status != "Success")
    result.worsen(Verdict::kBad, fmt::format("joining the NVLink fabric failed: {}", gpu.fabric_status));
  if (!gpu.fabric_health.empty() && gpu.fabric_health != "Healthy" && gpu.fabric_health != "Not Supported")
    result.worsen(Verdict::kBad, fmt::format("the NVLink fabric is {}", gpu.fabric_health));
  if (result.verdict != Verdict::kPass) result.message = fmt::format("{} ({})", result.message, gpu.bus_id);
  return result;
}

CheckResult judge_count(const std::vector<GpuState>& gpus, const Expected& expected) {
  CheckResult result{.name = "gpus", .value = static_cast<double>(gpus.size())};
  if (!gpus.empty()) result.message = fmt::format("{}, driver {}", gpus.front().name, gpus.front().driver);
  if (expected.gpus) {
    result.expected = static_cast<double>(*expected.gpus);
    result.expected_from = "file";
    if (static_cast<int64_t>(gpus.size()) != *expected.gpus)
      result.worsen(Verdict::kBad, fmt::format("{} GPUs instead of {}", gpus.size(), *expected.gpus));
  }
  for (size_t i = 0; i < gpus.size(); ++i) {
    const GpuState& gpu = gpus[i];
    if (gpu.name != gpus.front().name)
      result.worsen(Verdict::kSlow, fmt::format("GPU {} is another one: {}", i, gpu.name));
    const std::optional<int64_t> memory = expected.gpu_memory_mib ? expected.gpu_memory_mib : gpus.front().memory_mib;
    if (memory && gpu.memory_mib && *gpu.memory_mib < *memory)
      result.worsen(Verdict::kBad, fmt::format("GPU {} has {} MiB of memory, not {}", i, *gpu.memory_mib, *memory));
  }
  return result;
}

CheckResult judge_nvlinks(const SmiNvlinks& nvlinks, const Expected& expected) {
  CheckResult result{.name = "nvlinks", .value = 0, .unit = "up, of each GPU"};
  std::vector<int64_t> up;
  double fastest = 0;
  for (const auto& links : nvlinks.speeds) {
    up.push_back(std::count_if(links.begin(), links.end(), [](double speed) { return speed > 0; }));
    for (const double speed : links) fastest = std::max(fastest, speed);
  }
  const int64_t wanted = expected.nvlinks_per_gpu.value_or(*std::max_element(up.begin(), up.end()));
  result.value = static_cast<double>(*std::min_element(up.begin(), up.end()));
  result.expected = static_cast<double>(wanted);
  result.expected_from = expected.nvlinks_per_gpu ? "file" : "its GPUs";
  for (size_t gpu = 0; gpu < up.size(); ++gpu) {
    if (up[gpu] < wanted)
      result.worsen(Verdict::kBad,
                    fmt::format("GPU {} has {} of {} NVLinks: reset it, then look at the link", gpu, up[gpu], wanted));
    for (size_t link = 0; link < nvlinks.speeds[gpu].size(); ++link)
      if (const double speed = nvlinks.speeds[gpu][link]; speed > 0 && speed < fastest)
        result.worsen(Verdict::kSlow,
                      fmt::format("link {} of GPU {} runs at {} of {} GB/s", link, gpu, speed, fastest));
  }
  return result;
}

CheckResult judge_topology(const SmiTopology& topology) {
  CheckResult result{.name = "gpu_topology"};
  std::map<std::string, int> kinds;
  std::vector<std::pair<std::string, std::string>> pairs;  // names, kind
  for (size_t i = 0; i < topology.names.size(); ++i)
    for (size_t j = i + 1; j < topology.names.size(); ++j)
      if (topology.names[i].starts_with("GPU") && topology.names[j].starts_with("GPU")) {
        const std::string& kind = topology.links[i][j];
        pairs.emplace_back(fmt::format("{}-{}", topology.names[i], topology.names[j]), kind);
        if (kind.starts_with("NV")) ++kinds[kind];
      }
  if (kinds.empty()) return result;
  const std::string usual = std::max_element(kinds.begin(), kinds.end(), [](const auto& a, const auto& b) {
                              return a.second < b.second;
                            })->first;
  result.message = fmt::format("{} between GPUs", usual);
  // Without switches some machines link only some of their GPUs (a hybrid cube mesh); half of them and more are a rule.
  if (kinds[usual] * 2 < static_cast<int>(pairs.size())) return result;
  for (const auto& [names, kind] : pairs)
    if (kind != usual) result.worsen(Verdict::kBad, fmt::format("{} are linked by {}", names, kind));
  return result;
}

}  // namespace

Status add_listing(std::string_view text, GpuListings& listings) {
  if (auto nvlinks = parse_smi_nvlinks(text); nvlinks.ok() && text.find("Link 0:") != std::string_view::npos) {
    listings.nvlinks = std::move(*nvlinks);
    return ok_status();
  }
  if (auto topology = parse_smi_topology(text); topology.ok()) {
    listings.topology = std::move(*topology);
    return ok_status();
  }
  auto gpus = text.find("NVSMI LOG") != std::string_view::npos ? parse_smi_query(text) : parse_smi_csv(text);
  if (!gpus.ok())
    return invalid("this is no listing of `nvidia-smi -q`, `--query-gpu=... --format=csv`, `topo -m` or `nvlink -s`");
  listings.gpus = std::move(*gpus);
  return ok_status();
}

std::vector<CheckResult> judge_gpus(const GpuListings& listings, const Expected& expected) {
  std::vector<CheckResult> results = {judge_count(listings.gpus, expected)};
  for (size_t i = 0; i < listings.gpus.size(); ++i) results.push_back(judge_gpu(listings.gpus[i], i));
  if (listings.nvlinks) results.push_back(judge_nvlinks(*listings.nvlinks, expected));
  if (listings.topology) results.push_back(judge_topology(*listings.topology));
  return results;
}

std::vector<CheckResult> check_gpus(const Expected& expected, double timeout_seconds) {
  CheckResult failed{.name = "gpus"};
  const auto listing = run_program({"nvidia-smi", "-q"}, timeout_seconds);
  if (!listing.ok()) {
    if (expected.gpus.value_or(0) == 0) return {};
    failed.worsen(Verdict::kBad,
                  fmt::format("{} GPUs are expected, but: {}", *expected.gpus, listing.status().message()));
    return {failed};
  }
  if (listing->timed_out) {
    failed.worsen(Verdict::kBad, fmt::format("nvidia-smi did not answer within {} s{}: restart the node",
                                             timeout_seconds, listing->unkillable ? " and hangs in the driver" : ""));
    return {failed};
  }
  GpuListings listings;
  auto gpus = parse_smi_query(listing->text);
  if (listing->exit_code != 0 || !gpus.ok()) {
    failed.worsen(Verdict::kBad, fmt::format("nvidia-smi failed with exit code {}: {}", listing->exit_code,
                                             listing->text.substr(0, 200)));
    return {failed};
  }
  listings.gpus = std::move(*gpus);
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"nvidia-smi", "topo", "-m"}, std::vector<std::string>{"nvidia-smi", "nvlink", "-s"}})
    // GPUs without NVLink, and older drivers, have nothing to say here.
    if (const auto more = run_program(arguments, timeout_seconds); more.ok() && more->exit_code == 0)
      static_cast<void>(add_listing(more->text, listings));
  return judge_gpus(listings, expected);
}

}  // namespace colossus
