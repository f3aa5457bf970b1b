// What nvidia-smi says, as values. Parsers of its listings, for any driver since R450: what a listing does not have, or
// calls N/A, stays empty.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace colossus {

struct GpuState {
  std::string bus_id;  // "00000000:9B:00.0"
  std::string name;
  std::string uuid;
  std::string driver;
  std::optional<int64_t> memory_mib;
  std::optional<int64_t> temperature_c;
  std::optional<int64_t> degrees_to_limit;  // until it is slowed down; T.Limit
  std::optional<int64_t> pcie_generation, pcie_generation_max, pcie_width, pcie_width_max;
  std::string performance_state;  // "P0" when it works
  // Clocks held down by heat, power delivery or a signal from outside.
  bool hardware_slowdown = false, thermal_slowdown = false, power_brake = false;
  std::optional<bool> ecc_enabled;
  std::optional<int64_t> ecc_corrected, ecc_uncorrected;  // since the driver was loaded; all memories
  std::optional<int64_t> ecc_uncorrected_ever;
  std::optional<bool> sram_threshold_exceeded;
  std::optional<bool> unrepairable_memory, repair_pending;  // of a channel or a TPC
  std::optional<int64_t> rows_remapped;                     // for uncorrectable errors
  std::optional<int64_t> banks_without_spare_rows;
  std::optional<bool> remap_pending, remap_failed, retired_pages_pending;
  std::string recovery_action;              // "None", "Reset", "Reboot", "Drain P2P", "Drain and Reset"
  std::string fabric_state, fabric_status;  // "Completed", "Success"
  std::string fabric_health;                // "Healthy"
};

// `nvidia-smi -q`.
Result<std::vector<GpuState>> parse_smi_query(std::string_view text);
// `nvidia-smi --query-gpu=... --format=csv`, with its line of names; any fields in any order.
Result<std::vector<GpuState>> parse_smi_csv(std::string_view text);

// `nvidia-smi topo -m`: how devices reach each other ("NV18", "PIX", "SYS", ...).
struct SmiTopology {
  std::vector<std::string> names;               // of rows: "GPU0", "NIC0"
  std::vector<std::vector<std::string>> links;  // [row][column]; "X" on the diagonal
  std::optional<std::string> link(std::string_view from, std::string_view to) const;
};
Result<SmiTopology> parse_smi_topology(std::string_view text);

// `nvidia-smi nvlink -s`: GB/s of each link of each GPU; 0 for one that is not up.
struct SmiNvlinks {
  std::vector<std::vector<double>> speeds;  // [GPU][link]
};
Result<SmiNvlinks> parse_smi_nvlinks(std::string_view text);

}  // namespace colossus
