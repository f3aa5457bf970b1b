#include "device/sim/hardware.h"

#include <fmt/format.h>

namespace colossus {

void GpuSpec::visit_fields(FieldVisitor& v) {
  v.field("name", name, "of the part");
  v.field("fp32_tflops", fp32_tflops, "matrix products in fp32 (tf32 where there is such a thing)", {.min = 0});
  v.field("bf16_tflops", bf16_tflops, "matrix products in bf16, dense", {.above = 0});
  v.field("fp8_tflops", fp8_tflops, "matrix products in fp8, dense; 0: none", {.min = 0});
  v.field("fp4_tflops", fp4_tflops, "matrix products in fp4, dense; 0: none", {.min = 0});
  v.field("memory_gb", memory_gb, "memory, in 1e9 bytes", {.above = 0});
  v.field("memory_gb_per_second", memory_gb_per_second, "its bandwidth", {.above = 0});
  v.field("host_gb_per_second", host_gb_per_second, "bandwidth to the host's memory, each direction", {.min = 0});
  v.field("power_watts", power_watts, "of the part at full load", {.min = 0});
  v.field("idle_watts", idle_watts, "of the part at rest", {.min = 0});
  v.field("num_units", num_units, "streaming multiprocessors; 0: not known", {.min = 0});
}

void NetworkTier::visit_fields(FieldVisitor& v) {
  v.field("name", name, "of the tier's switches");
  v.field("gpus", gpus, "GPUs below one group of its switches", {.min = 1});
  v.field("oversubscription", oversubscription, "bandwidth from below over bandwidth of the uplinks", {.above = 0});
  v.field("uplink_gb_per_second", uplink_gb_per_second, "of one uplink, each direction; 0: as a NIC's", {.min = 0});
  v.field("latency_us", latency_us, "of one passage", {.min = 0});
}

void NetworkSpec::visit_fields(FieldVisitor& v) {
  v.field("domain_gpus", domain_gpus, "GPUs that NVLink joins", {.min = 1});
  v.field("domain_gb_per_second", domain_gb_per_second, "bandwidth of NVLink for one GPU, each direction", {.min = 0});
  v.field("domain_latency_us", domain_latency_us, "of a flag written to a neighbour in the domain", {.min = 0});
  v.field("in_switch_reduction", in_switch_reduction, "whether NVLink's switches add");
  v.field("nic_gb_per_second", nic_gb_per_second, "bandwidth of the network for one GPU, each direction", {.min = 0});
  v.field("gpus_per_nic", gpus_per_nic, "GPUs that share a NIC", {.min = 1});
  v.field("nic_latency_us", nic_latency_us, "end to end, without the tiers' own", {.min = 0});
  v.field("in_network_reduction", in_network_reduction, "whether the network's switches add (InfiniBand SHARP)");
  v.field("rail_optimized", rail_optimized, "whether the i-th GPUs of all domains share switches of the first tier");
  v.field("routing", routing, "how switches choose among equal paths");
  v.field("queue_pairs", queue_pairs, "over which a NIC spreads what it sends to one peer", {.min = 1});
  v.list("tiers", tiers, "switches, from below");
}

void NetworkSpec::check_fields(FieldChecker& c) const {
  c.require(domain_gpus == 1 || domain_gb_per_second > 0, "domain_gb_per_second",
            "is needed where a domain has several GPUs; 450 for H100");
  c.require(tiers.empty() || nic_gb_per_second > 0, "nic_gb_per_second",
            "is needed where there are tiers; 50 for 400G");
  c.require(domain_gpus % gpus_per_nic == 0, "gpus_per_nic",
            fmt::format("does not divide domain_gpus = {}", domain_gpus));
  c.require(!in_switch_reduction || domain_gpus > 1, "in_switch_reduction", "needs a domain of several GPUs");
  int64_t below = domain_gpus;
  for (const NetworkTier& tier : tiers) {
    c.require(tier.gpus % below == 0, "tiers",
              fmt::format("has {} GPUs in a group of tier \"{}\", no multiple of the {} in a group below it", tier.gpus,
                          tier.name, below));
    below = tier.gpus;
  }
}

}  // namespace colossus
