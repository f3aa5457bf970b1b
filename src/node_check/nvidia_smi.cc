#include "node_check/nvidia_smi.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>

namespace colossus {
namespace {

// One GPU of a listing: the fields' paths ("Remapped Rows/Pending") or CSV names, with their values.
using Fields = std::map<std::string, std::string, std::less<>>;

// Far beyond any listing. A path is as long as all its sections: what is longer or deeper is no listing, and would take
// memory as the square of its size.
constexpr size_t kMaxLineBytes = 4096, kMaxDepth = 16, kMaxDevices = 4096;

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// Without the escape sequences that underline a heading.
std::string without_escapes(std::string_view text) {
  std::string plain;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '\x1b' && at + 1 < text.size() && text[at + 1] == '[') {
      at = std::min(text.find('m', at), text.size());
      continue;
    }
    plain += text[at];
  }
  return plain;
}

// The first of these names that the listing has with a value. Names differ between formats and drivers.
std::string text_of(const Fields& fields, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    const auto found = fields.find(name);
    if (found == fields.end()) continue;
    const std::string& value = found->second;
    if (value == "N/A" || value == "[N/A]" || value.find("Not Supported") != std::string::npos ||
        value.find("deprecated") != std::string::npos || value.find("Unknown Error") != std::string::npos)
      continue;
    return value;
  }
  return "";
}

// "81559 MiB", "16x", "41 C", "0".
std::optional<int64_t> number_of(const Fields& fields, std::initializer_list<std::string_view> names) {
  const std::string text = text_of(fields, names);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

// The sum of those that are there.
std::optional<int64_t> sum_of(const Fields& fields, std::initializer_list<std::string_view> names) {
  std::optional<int64_t> sum;
  for (const std::string_view name : names)
    if (const auto value = number_of(fields, {name})) {
      int64_t both = 0;  // counters that overflow together have counted too many errors already
      sum = __builtin_add_overflow(sum.value_or(0), *value, &both) ? INT64_MAX : both;
    }
  return sum;
}

std::optional<bool> flag_of(const Fields& fields, std::initializer_list<std::string_view> names) {
  const std::string text = text_of(fields, names);
  if (text == "Yes" || text == "Active" || text == "Enabled" || text == "1") return true;
  if (text == "No" || text == "Not Active" || text == "Disabled" || text == "0") return false;
  return std::nullopt;
}

std::optional<bool> either(std::optional<bool> a, std::optional<bool> b) {
  if (!a) return b;
  return *a || b.value_or(false);
}

GpuState state_of(const Fields& f) {
  GpuState gpu{.bus_id = text_of(f, {"pci.bus_id", "gpu_bus_id", "PCI/Bus Id"}),
               .name = text_of(f, {"name", "gpu_name", "Product Name"}),
               .uuid = text_of(f, {"uuid", "gpu_uuid", "GPU UUID"}),
               .driver = text_of(f, {"driver_version", "Driver Version"})};
  gpu.memory_mib = number_of(f, {"memory.total", "FB Memory Usage/Total"});
  gpu.temperature_c = number_of(f, {"temperature.gpu", "Temperature/GPU Current Temp"});
  gpu.degrees_to_limit = number_of(f, {"temperature.gpu.tlimit", "Temperature/GPU T.Limit Temp"});
  gpu.pcie_generation = number_of(f, {"pcie.link.gen.current", "PCI/GPU Link Info/PCIe Generation/Current"});
  gpu.pcie_generation_max = number_of(f, {"pcie.link.gen.max", "PCI/GPU Link Info/PCIe Generation/Max"});
  gpu.pcie_width = number_of(f, {"pcie.link.width.current", "PCI/GPU Link Info/Link Width/Current"});
  gpu.pcie_width_max = number_of(f, {"pcie.link.width.max", "PCI/GPU Link Info/Link Width/Max"});
  gpu.performance_state = text_of(f, {"pstate", "Performance State"});
  // Up to R530 clocks were "throttled", and the same reasons had that name.
  const auto held = [&](std::string_view csv, std::string_view path) {
    return flag_of(f, {fmt::format("clocks_event_reasons.{}", csv), fmt::format("clocks_throttle_reasons.{}", csv),
                       fmt::format("Clocks Event Reasons/{}", path), fmt::format("Clocks Throttle Reasons/{}", path)})
        .value_or(false);
  };
  gpu.hardware_slowdown = held("hw_slowdown", "HW Slowdown");
  gpu.thermal_slowdown = held("hw_thermal_slowdown", "HW Slowdown/HW Thermal Slowdown") ||
                         held("sw_thermal_slowdown", "SW Thermal Slowdown");
  gpu.power_brake = held("hw_power_brake_slowdown", "HW Slowdown/HW Power Brake Slowdown");
  gpu.ecc_enabled = flag_of(f, {"ecc.mode.current", "ECC Mode/Current", "Ecc Mode/Current"});
  gpu.ecc_corrected = number_of(f, {"ecc.errors.corrected.volatile.total"});
  if (!gpu.ecc_corrected)
    gpu.ecc_corrected = sum_of(f, {"ECC Errors/Volatile/SRAM Correctable", "ECC Errors/Volatile/DRAM Correctable"});
  gpu.ecc_uncorrected = number_of(f, {"ecc.errors.uncorrected.volatile.total"});
  if (!gpu.ecc_uncorrected)
    gpu.ecc_uncorrected =
        sum_of(f, {"ECC Errors/Volatile/SRAM Uncorrectable", "ECC Errors/Volatile/SRAM Uncorrectable Parity",
                   "ECC Errors/Volatile/SRAM Uncorrectable SEC-DED", "ECC Errors/Volatile/DRAM Uncorrectable"});
  gpu.ecc_uncorrected_ever = number_of(f, {"ecc.errors.uncorrected.aggregate.total"});
  if (!gpu.ecc_uncorrected_ever)
    gpu.ecc_uncorrected_ever =
        sum_of(f, {"ECC Errors/Aggregate/SRAM Uncorrectable", "ECC Errors/Aggregate/SRAM Uncorrectable Parity",
                   "ECC Errors/Aggregate/SRAM Uncorrectable SEC-DED", "ECC Errors/Aggregate/DRAM Uncorrectable"});
  gpu.sram_threshold_exceeded = flag_of(
      f, {"ecc.errors.uncorrected.aggregate.sram.thresholdExceeded", "ECC Errors/Aggregate/SRAM Threshold Exceeded"});
  gpu.unrepairable_memory = flag_of(f, {"ECC Errors/Unrepairable Memory"});
  gpu.repair_pending =
      either(flag_of(f, {"ECC Errors/Channel Repair Pending"}), flag_of(f, {"ECC Errors/TPC Repair Pending"}));
  gpu.rows_remapped = number_of(f, {"remapped_rows.uncorrectable", "Remapped Rows/Uncorrectable Error"});
  gpu.banks_without_spare_rows =
      number_of(f, {"remapped_rows.histogram.none", "Remapped Rows/Bank Remap Availability Histogram/None"});
  gpu.remap_pending = flag_of(f, {"remapped_rows.pending", "Remapped Rows/Pending"});
  gpu.remap_failed = flag_of(f, {"remapped_rows.failure", "Remapped Rows/Remapping Failure Occurred"});
  gpu.retired_pages_pending = flag_of(f, {"retired_pages.pending", "Retired Pages/Pending Page Blacklist"});
  gpu.recovery_action = text_of(f, {"gpu_recovery_action", "GPU Recovery Action"});
  gpu.fabric_state = text_of(f, {"fabric.state", "Fabric/State"});
  gpu.fabric_status = text_of(f, {"fabric.status", "Fabric/Status"});
  gpu.fabric_health = text_of(f, {"fabric.health.summary", "Fabric/Health/Summary"});
  return gpu;
}

std::vector<std::string> split_csv(std::string_view line) {
  std::vector<std::string> cells;
  for (size_t at = 0; at <= line.size();) {
    const size_t end = std::min(line.find(", ", at), line.size());
    cells.emplace_back(trim(line.substr(at, end - at)));
    at = end + 2;
  }
  return cells;
}

}  // namespace

Result<std::vector<GpuState>> parse_smi_query(std::string_view text) {
  std::vector<Fields> gpus;
  std::string driver;
  std::vector<std::string> sections;  // by depth; each four blanks deeper
  for (const std::string_view line : lines_of(text)) {
    const size_t indent = std::min(line.find_first_not_of(' '), line.size());
    if (trim(line).empty()) continue;
    if (indent == 0 && line.starts_with("GPU ") && line.find(" : ") == std::string_view::npos) {
      gpus.push_back({{"PCI/Bus Id", std::string(trim(line.substr(4)))}});
      sections.clear();
      continue;
    }
    const size_t colon = line.find(" :");
    const std::string key(trim(line.substr(0, colon)));
    const std::string value(colon == std::string_view::npos ? "" : trim(line.substr(colon + 2)));
    if (gpus.empty()) {
      if (key == "Driver Version") driver = value;
      continue;
    }
    const size_t depth = indent / 4;
    if (depth == 0) continue;
    if (depth > kMaxDepth || line.size() > kMaxLineBytes)
      return invalid("this is no listing of `nvidia-smi -q`: a line is too long, or too far to the right");
    sections.resize(depth - 1);
    std::string path;
    for (const std::string& section : sections) path += section + "/";
    // A section has no colon; a few values have sections of their own below them ("HW Slowdown").
    if (colon != std::string_view::npos) gpus.back()[path + key] = value;
    sections.push_back(key);
  }
  if (gpus.empty()) return invalid("this is no listing of `nvidia-smi -q`: it has no GPU");
  std::vector<GpuState> states;
  for (Fields& fields : gpus) {
    fields["Driver Version"] = driver;
    states.push_back(state_of(fields));
  }
  return states;
}

Result<std::vector<GpuState>> parse_smi_csv(std::string_view text) {
  std::vector<std::string> names;
  std::vector<GpuState> states;
  for (const std::string_view line : lines_of(text)) {
    if (trim(line).empty()) continue;
    std::vector<std::string> cells = split_csv(line);
    if (names.empty()) {
      // "memory.total [MiB]"
      for (std::string& name : cells) names.push_back(name.substr(0, name.find(" [")));
      const bool names_gpus = std::any_of(names.begin(), names.end(), [](const std::string& name) {
        return name == "name" || name == "index" || name == "uuid" || name == "pci.bus_id";
      });
      if (!names_gpus) return invalid("this is no CSV listing of nvidia-smi: no field tells GPUs apart");
      continue;
    }
    if (cells.size() != names.size())
      return invalid(fmt::format("a line of the CSV listing has {} values for {} names", cells.size(), names.size()));
    Fields fields;
    for (size_t i = 0; i < cells.size(); ++i) fields[names[i]] = cells[i];
    states.push_back(state_of(fields));
  }
  if (states.empty()) return invalid("this is no CSV listing of nvidia-smi: it has no GPU");
  return states;
}

std::optional<std::string> SmiTopology::link(std::string_view from, std::string_view to) const {
  const auto row = std::find(names.begin(), names.end(), from), column = std::find(names.begin(), names.end(), to);
  if (row == names.end() || column == names.end()) return std::nullopt;
  const auto& cells = links[static_cast<size_t>(row - names.begin())];
  const auto at = static_cast<size_t>(column - names.begin());
  return at < cells.size() ? std::optional(cells[at]) : std::nullopt;
}

Result<SmiTopology> parse_smi_topology(std::string_view text) {
  SmiTopology topology;
  size_t num_columns = 0;
  const std::string plain = without_escapes(text);
  for (const std::string_view line : lines_of(plain)) {
    std::vector<std::string> cells;
    for (size_t at = 0; at <= line.size();) {
      const size_t end = std::min(line.find('\t', at), line.size());
      cells.emplace_back(trim(line.substr(at, end - at)));
      at = end + 1;
    }
    if (num_columns == 0) {
      // The heading: devices, then affinities.
      if (cells.size() < 2 || !cells[0].empty() || !cells[1].starts_with("GPU")) continue;
      while (num_columns + 1 < cells.size() && cells[num_columns + 1].find(' ') == std::string::npos &&
             !cells[num_columns + 1].empty())
        ++num_columns;
      if (num_columns > kMaxDevices)
        return invalid(fmt::format("this is no listing of `nvidia-smi topo -m`: {} devices", num_columns));
      continue;
    }
    if (topology.names.size() == num_columns || cells.size() <= num_columns) break;
    topology.names.push_back(cells[0]);
    topology.links.emplace_back(cells.begin() + 1, cells.begin() + 1 + static_cast<std::ptrdiff_t>(num_columns));
  }
  if (topology.names.empty() || topology.names.size() != num_columns)
    return invalid(fmt::format("this is no listing of `nvidia-smi topo -m`: {} rows of {} columns",
                               topology.names.size(), num_columns));
  return topology;
}

Result<SmiNvlinks> parse_smi_nvlinks(std::string_view text) {
  SmiNvlinks nvlinks;
  for (const std::string_view raw : lines_of(text)) {
    const std::string_view line = trim(raw);
    if (line.starts_with("GPU ")) nvlinks.speeds.emplace_back();
    if (!line.starts_with("Link ") || nvlinks.speeds.empty()) continue;
    const size_t colon = line.find(": ");
    if (colon == std::string_view::npos) continue;
    double speed = 0;  // of "<inactive>"
    const std::string_view value = line.substr(colon + 2);
    std::from_chars(value.data(), value.data() + value.size(), speed);
    nvlinks.speeds.back().push_back(speed);
  }
  if (nvlinks.speeds.empty()) return invalid("this is no listing of `nvidia-smi nvlink -s`: it has no GPU");
  return nvlinks;
}

}  // namespace colossus
