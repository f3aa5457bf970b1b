// What the simulator knows of machines: a GPU (or a CPU) and the network between them. Peaks are those of the data
// sheet, without sparsity; what is reached of them is a matter of kernel_times.h and network.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/fields.h"

namespace colossus {

struct GpuSpec {
  std::string name;
  // TFLOP/s of matrix products, dense; 0: the part has no such units.
  double fp32_tflops = 0;  // with tf32 where there is such a thing
  double bf16_tflops = 0;
  double fp8_tflops = 0;
  double fp4_tflops = 0;
  double memory_gb = 0;             // 1e9 bytes
  double memory_gb_per_second = 0;  // 1e9 bytes
  double host_gb_per_second = 0;    // to the host's memory, each direction
  double power_watts = 0;           // at full load, of the part alone
  double idle_watts = 0;
  int64_t num_units = 0;  // streaming multiprocessors; 0: not known, and their last wave costs nothing
  void visit_fields(FieldVisitor& v);
};

// How a tier of switches chooses among equal paths.
enum class Routing {
  kEcmp,      // by hash: flows collide
  kAdaptive,  // by load, packet by packet
};
inline auto field_choices(Routing) {
  return std::to_array<FieldChoice<Routing>>({{Routing::kEcmp, "ecmp"}, {Routing::kAdaptive, "adaptive"}});
}

// Switches of one height. The first tier joins the fast domains of NVLink. The uppermost tier has no uplinks.
struct NetworkTier {
  std::string name;                 // "leaf", "spine", "core"
  int64_t gpus = 0;                 // below one group of its switches, that is without going higher
  double oversubscription = 1;      // bandwidth that comes from below over bandwidth of the uplinks
  double uplink_gb_per_second = 0;  // of one uplink, one direction; 0: as a NIC's
  double latency_us = 0.6;          // of one passage
  void visit_fields(FieldVisitor& v);
};

// Bandwidths are of one direction, for one GPU, as in the data sheets; what is reached of them is a matter of
// NetworkCalibration.
struct NetworkSpec {
  int64_t domain_gpus = 8;  // that NVLink joins (or what is like it)
  double domain_gb_per_second = 0;
  double domain_latency_us = 0.6;    // a flag in a neighbour's memory
  bool in_switch_reduction = false;  // NVLink SHARP
  double nic_gb_per_second = 0;
  int64_t gpus_per_nic = 1;
  double nic_latency_us = 5;          // end to end, without the tiers' own
  bool in_network_reduction = false;  // SHARP: InfiniBand's switches add; no Ethernet's do
  bool rail_optimized = true;         // the i-th GPU of every domain hangs on the i-th switch of the first tier
  Routing routing = Routing::kAdaptive;
  int64_t queue_pairs = 4;         // over which a NIC spreads what it sends to one peer: what kEcmp hashes
  std::vector<NetworkTier> tiers;  // from below
  void visit_fields(FieldVisitor& v);
  void check_fields(FieldChecker& c) const;
};

}  // namespace colossus
