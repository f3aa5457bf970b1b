#include "device/sim/network.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "device/sim/path_collisions.h"

namespace colossus {
namespace {

constexpr double kMicrosecond = 1e-6;
constexpr double kGigabyte = 1e9;

double ceil_log2(int64_t number) {
  double log = 0;
  for (int64_t reach = 1; reach < number; reach *= 2) ++log;
  return log;
}

// How chunks are handed over: with flags in the data (NCCL's LL and LL128), or whole, behind a fence (Simple).
struct Protocol {
  double domain_hop = 0;   // seconds
  double network_hop = 0;  // below one switch of the first tier
  double step = 0;         // least of a ring that leaves the domain
  double fraction = 1;     // of bandwidth
};

// Writes down what each algorithm costs for one group.
class Pricing {
 public:
  Pricing(const NetworkSpec& spec, const NetworkCalibration& calibration, const GroupPlacement& placement);

  std::vector<CollectiveAlgorithm> algorithms(CollectiveKind kind) const;

 private:
  // Bytes that one GPU's NVLink and one GPU's share of the NICs carry for each byte of b, and the share of the latter
  // that leaves a group of the tier: share[t] of what all its busy GPUs send.
  struct Traffic {
    double domain = 0;
    double nic = 0;
    std::vector<double> leaving;
    double at_once = 1;  // peers that a GPU sends to at the same time
  };
  using Algorithms = std::vector<CollectiveAlgorithm>;

  void add_rings(CollectiveKind kind, Algorithms& out) const;
  void add_trees(Algorithms& out) const;
  void add_in_switch(Algorithms& out) const;
  void add_aggregated_trees(Algorithms& out) const;
  void add_all_to_all(Algorithms& out) const;
  void add_broadcast(Algorithms& out) const;
  void add_send(Algorithms& out) const;

  double fill(double inside, double between) const { return c_.domain_fill * inside + c_.network_fill * between; }
  double domain_time(double bytes) const { return bytes / domain_rate_; }
  double nic_time(const Traffic& traffic) const;
  double slower(const Traffic& traffic) const {
    return std::max(traffic.domain > 0 ? domain_time(traffic.domain) : 0, nic_time(traffic));
  }
  double slowdown(const Traffic& traffic) const;
  double edges_latency(double edges, double (*count)(int64_t groups), const Protocol& protocol) const;
  std::vector<double> leaving(double edges_of_a_group) const;

  const NetworkSpec& spec_;
  const NetworkCalibration& c_;
  const GroupPlacement& at_;
  double n_ = 1;            // members
  double local_ = 1;        // of them in a domain; NICs that a flat ring uses
  double domain_rate_ = 0;  // bytes / s
  double nic_rate_ = 0;
  double launch_ = 0;
  Protocol flagged_;
  Protocol chunked_;
};

Pricing::Pricing(const NetworkSpec& spec, const NetworkCalibration& calibration, const GroupPlacement& placement)
    : spec_(spec), c_(calibration), at_(placement) {
  n_ = static_cast<double>(at_.members);
  // The domain with the fewest members has the fewest NICs: a ring passes all domains as often.
  local_ = static_cast<double>(at_.least_in_domain);
  domain_rate_ = spec_.domain_gb_per_second * kGigabyte * c_.domain_efficiency;
  // Of a NIC that several GPUs share, those that rest leave their part to the others.
  const double busy =
      at_.siblings == Siblings::kAll ? static_cast<double>(spec_.domain_gpus) : static_cast<double>(at_.most_in_domain);
  const double idle_share = static_cast<double>(spec_.domain_gpus) / busy;
  nic_rate_ = spec_.nic_gb_per_second * kGigabyte * c_.nic_efficiency *
              std::clamp(idle_share, 1.0, static_cast<double>(spec_.gpus_per_nic));
  launch_ = c_.launch_us * kMicrosecond;
  flagged_ = {.domain_hop = spec_.domain_latency_us * kMicrosecond,
              .network_hop = spec_.nic_latency_us * kMicrosecond,
              .step = c_.proxy_us * kMicrosecond,
              .fraction = c_.flagged_fraction};
  chunked_ = {.domain_hop = (spec_.domain_latency_us + c_.chunk_domain_us) * kMicrosecond,
              .network_hop = (spec_.nic_latency_us + c_.chunk_network_us) * kMicrosecond,
              .step = c_.proxy_us * kMicrosecond,
              .fraction = 1};
  CHECK(at_.domains == 1 || nic_rate_ > 0, "domains without a network between them");
  CHECK(at_.most_in_domain == 1 || domain_rate_ > 0, "a domain without links");
}

// Latency of `edges` hops between domains, of which count(groups of tier t) leave a group of tier t: each of those
// passes one more switch of tier t on its way down, and one of tier t + 1.
double Pricing::edges_latency(double edges, double (*count)(int64_t groups), const Protocol& protocol) const {
  double seconds = edges * protocol.network_hop;
  if (spec_.tiers.empty()) return seconds;
  seconds += edges * spec_.tiers[0].latency_us * kMicrosecond;
  for (size_t t = 0; t + 1 < spec_.tiers.size(); ++t) {
    const double higher = at_.tier_groups[t] > 1 ? count(at_.tier_groups[t]) : 0;
    seconds += higher * (spec_.tiers[t].latency_us + spec_.tiers[t + 1].latency_us) * kMicrosecond;
  }
  return seconds;
}

// Of what the NICs send, the share that leaves a group of tier t when each of the collective's groups of switches sends
// `edges_of_a_group` streams upwards (at most all), each as wide as the NICs of one domain's members.
std::vector<double> Pricing::leaving(double edges_of_a_group) const {
  std::vector<double> shares;
  for (const int64_t groups : at_.tier_groups) {
    const double domains_in_group = static_cast<double>(at_.domains) / static_cast<double>(groups);
    shares.push_back(groups > 1 ? std::min(1.0, edges_of_a_group / domains_in_group) : 0);
  }
  return shares;
}

// How much longer the slowest stream through the tiers takes than through the NICs alone.
double Pricing::slowdown(const Traffic& traffic) const {
  double oversubscription = 1;
  double fullest = 0;  // of the tiers' uplinks
  std::vector<HashedFlows> hashed;
  for (size_t t = 0; t + 1 < spec_.tiers.size(); ++t) {
    const double share = traffic.leaving[t];
    oversubscription *= spec_.tiers[t].oversubscription;
    // Of the GPUs below this tier's groups, those that send, and those that do so for this group.
    const double gpus = static_cast<double>(at_.tier_groups[t] * spec_.tiers[t].gpus);
    const double busy = at_.siblings == Siblings::kAll ? std::max(gpus, n_) : n_;
    const double load = share * (busy / std::max(gpus, n_)) * oversubscription;
    fullest = std::max(fullest, load);
    if (spec_.routing == Routing::kAdaptive || load <= 0) continue;
    const double uplink = spec_.tiers[t].uplink_gb_per_second;
    const double nics_per_uplink = uplink > 0 ? uplink / spec_.nic_gb_per_second : 1;
    // Each flow that leaves is hashed on to an uplink, and finds on the way down those that hashed to the same switch.
    hashed.push_back({.links_load = load,
                      .parts_per_link = static_cast<double>(spec_.queue_pairs) * traffic.at_once * nics_per_uplink,
                      .links = 2 * share * busy / load / nics_per_uplink,
                      .waited_for = n_ / busy});
  }
  if (spec_.routing == Routing::kAdaptive) return std::max(1.0, fullest / c_.adaptive_efficiency);
  return expected_slowdown(hashed);
}

double Pricing::nic_time(const Traffic& traffic) const {
  return traffic.nic <= 0 ? 0 : traffic.nic / nic_rate_ * slowdown(traffic);
}

// NCCL's flat rings, one or more for each NIC: from domain to domain, and through all members within. Every rank sends
// its b once around.
void Pricing::add_rings(CollectiveKind kind, Algorithms& out) const {
  const double rounds = kind == CollectiveKind::kAllReduce ? 2 : 1;
  const double domains = static_cast<double>(at_.domains);
  const double crossings = at_.domains > 1 ? rounds * domains : 0;
  const double inside = std::max(0.0, rounds * (n_ - 1) - crossings);
  Traffic traffic{.leaving = leaving(1)};
  traffic.nic = at_.domains > 1 ? 1 / local_ : 0;
  traffic.domain = at_.domains > 1 ? (local_ - 1) / local_ : 1;
  const double time = slower(traffic);
  for (const auto& [name, protocol] : {std::pair{"ring", chunked_}, std::pair{"ring_flagged", flagged_}}) {
    const double step = at_.domains > 1 ? std::max(protocol.domain_hop, protocol.step) : protocol.domain_hop;
    const double once_around = at_.domains > 1 ? edges_latency(
                                                     domains, [](int64_t groups) { return double(groups); }, protocol)
                                               : 0;
    out.push_back({name, launch_ + inside * step + rounds * once_around, time / protocol.fraction, 0});
  }
}

// Double binary trees between domains (Sanders et al. 2009), a chain within each: up to the root and down again. b is
// 2 (n - 1) / n of the sum's size.
void Pricing::add_trees(Algorithms& out) const {
  const double size = n_ / (2 * (n_ - 1));  // of the sum, for each byte of b
  // Each half of the sum has its tree; who is within one is a leaf of the other. Two domains: one child each.
  const double passes = at_.domains == 1 ? 0 : at_.domains == 2 ? 1 : at_.domains == 3 ? 1.5 : 2;
  // The chain passes on the sum of those behind, and what comes down.
  const double members = static_cast<double>(at_.most_in_domain);
  Traffic traffic{.domain = 2 * size * (members - 1) / members, .nic = passes * size / local_, .leaving = leaving(2)};
  const double time = slower(traffic) / c_.tree_efficiency;
  for (const auto& [name, protocol] : {std::pair{"tree", chunked_}, std::pair{"tree_flagged", flagged_}}) {
    const double chain = static_cast<double>(at_.most_in_domain - 1) * protocol.domain_hop;
    const double levels = edges_latency(ceil_log2(at_.domains), ceil_log2, protocol);
    out.push_back({name, launch_ + 2 * (chain + levels), time / protocol.fraction, 2 * fill(chain, levels)});
  }
}

// The domain's switches add (NVLink SHARP); between domains double binary trees along each rail, or the network's
// switches.
void Pricing::add_in_switch(Algorithms& out) const {
  const double members = static_cast<double>(at_.most_in_domain);
  if (!spec_.in_switch_reduction || members < 2) return;
  const double size = n_ / (2 * (n_ - 1));
  const double raw = spec_.domain_gb_per_second * kGigabyte;
  // A GPU's links carry its term, its piece of the sum, and the whole sum in the other direction.
  const double wire = size * (1 + 1 / members) / raw;
  const double domain = std::max(wire, 2 * size * (members - 1) / members / (raw * c_.in_switch_efficiency));
  const double inside = 2 * chunked_.domain_hop + members * c_.in_switch_peer_us * kMicrosecond;
  if (at_.domains == 1) {
    out.push_back({"in_switch", launch_ + inside, domain, fill(inside, 0)});
    return;
  }
  const double passes = at_.domains == 2 ? 1 : at_.domains == 3 ? 1.5 : 2;
  const Traffic tree{.nic = passes * size / local_, .leaving = leaving(2)};
  const double levels = 2 * edges_latency(ceil_log2(at_.domains), ceil_log2, chunked_);
  out.push_back({"in_switch_tree", launch_ + inside + levels, std::max(domain, nic_time(tree)), fill(inside, levels)});
  if (!spec_.in_network_reduction) return;
  const Traffic once{.nic = size / local_, .leaving = leaving(1)};
  const double height = 2 * edges_latency(
                                1, [](int64_t) { return 1.0; }, chunked_);
  out.push_back({"in_network", launch_ + inside + height, std::max(domain, nic_time(once)), fill(inside, height)});
}

// NCCL's PAT, for groups with one member in each domain: as many rounds as the logarithm of the ranks.
void Pricing::add_aggregated_trees(Algorithms& out) const {
  if (at_.most_in_domain > 1 || at_.domains < 2) return;
  const Traffic traffic{.nic = 1, .leaving = leaving(2)};
  const double latency = edges_latency(ceil_log2(at_.domains), ceil_log2, chunked_);
  out.push_back({"pat", launch_ + latency, nic_time(traffic) / c_.pat_efficiency, fill(0, latency)});
}

// Everybody to everybody. Where the first tier has rails, what goes to another rail first crosses the domain to the GPU
// on that rail (NCCL's PXN), so that the network carries it along one rail only.
void Pricing::add_all_to_all(Algorithms& out) const {
  const double local = at_.members_per_domain();
  const double remote = (n_ - local) / (n_ - 1);  // of b
  const bool relayed = at_.domains > 1 && spec_.rail_optimized && local > 1;
  Traffic traffic{.domain = 1 - remote + (relayed ? remote * (1 - 1 / local) : 0), .nic = remote, .leaving = {}};
  for (const int64_t groups : at_.tier_groups) {
    const double below = n_ / static_cast<double>(groups);
    traffic.leaving.push_back(groups > 1 ? (n_ - below) / (n_ - local) : 0);
  }
  const double peers = at_.domains > 1 ? n_ - local : 0;
  traffic.at_once = std::clamp(peers, 1.0, c_.peers_at_once);
  const double messages = launch_ + peers * c_.message_us * kMicrosecond;
  const auto height = [&](const Protocol& protocol) {
    return at_.domains > 1 ? edges_latency(
                                 1, [](int64_t) { return 1.0; }, protocol)
                           : 0;
  };
  const double inside = relayed || at_.most_in_domain > 1 ? chunked_.domain_hop : 0;
  out.push_back({relayed ? "pairwise_by_rail" : "pairwise", messages + inside + height(chunked_), slower(traffic),
                 fill(inside, height(chunked_))});
  if (!c_.device_initiated) return;
  traffic.domain = 1 - remote;
  out.push_back({"pairwise_by_device", messages + flagged_.domain_hop + height(flagged_), slower(traffic), 0});
}

// A pipelined chain through all members. b is all there is.
void Pricing::add_broadcast(Algorithms& out) const {
  const double domains = static_cast<double>(at_.domains);
  Traffic traffic{.leaving = leaving(1)};
  traffic.nic = at_.domains > 1 ? 1 / local_ : 0;
  traffic.domain = at_.most_in_domain > 1 ? 1 : 0;
  const double time = slower(traffic);
  for (const auto& [name, protocol] : {std::pair{"chain", chunked_}, std::pair{"chain_flagged", flagged_}}) {
    const double between = edges_latency(
        domains - 1, [](int64_t groups) { return double(groups - 1); }, protocol);
    const double inside = (n_ - domains) * protocol.domain_hop;
    out.push_back({name, launch_ + inside + between, time / protocol.fraction, fill(inside, between)});
  }
}

void Pricing::add_send(Algorithms& out) const {
  const bool inside = at_.domains == 1;
  const Traffic traffic{.nic = 1, .leaving = leaving(1)};
  const double time = inside ? domain_time(1) : nic_time(traffic);
  for (const auto& [name, protocol] : {std::pair{"direct", chunked_}, std::pair{"direct_flagged", flagged_}}) {
    const double hop = inside ? protocol.domain_hop
                              : edges_latency(
                                    1, [](int64_t) { return 1.0; }, protocol);
    out.push_back({name, launch_ + hop, time / protocol.fraction, inside ? fill(hop, 0) : fill(0, hop)});
  }
}

std::vector<CollectiveAlgorithm> Pricing::algorithms(CollectiveKind kind) const {
  Algorithms out;
  if (at_.members < 2) return out;
  switch (kind) {
    case CollectiveKind::kAllReduce:
      add_rings(kind, out);
      add_trees(out);
      add_in_switch(out);
      break;
    case CollectiveKind::kAllGather:
    case CollectiveKind::kReduceScatter:
      add_rings(kind, out);
      add_aggregated_trees(out);
      break;
    case CollectiveKind::kAllToAll: add_all_to_all(out); break;
    case CollectiveKind::kBroadcast: add_broadcast(out); break;
    case CollectiveKind::kSend: add_send(out); break;
  }
  return out;
}

}  // namespace

std::string_view collective_name(CollectiveKind kind) {
  constexpr std::array<std::string_view, kCollectiveKinds.size()> kNames = {
      "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "send"};
  return kNames[static_cast<size_t>(kind)];
}

double bytes_sent_of_size(CollectiveKind kind, double size, int64_t ranks) {
  const double others = static_cast<double>(ranks - 1) / static_cast<double>(ranks);
  switch (kind) {
    case CollectiveKind::kAllReduce: return 2 * others * size;
    case CollectiveKind::kAllGather:
    case CollectiveKind::kReduceScatter:
    case CollectiveKind::kAllToAll: return others * size;
    case CollectiveKind::kBroadcast:
    case CollectiveKind::kSend: return size;
  }
  return 0;
}

double CollectiveAlgorithm::seconds(double bytes_sent) const {
  const double transfer = bytes_sent * seconds_per_byte;
  return latency_seconds + transfer + 2 * std::sqrt(fill_seconds * transfer);
}

TransferTime PlacedGroup::time_of(CollectiveKind kind, double bytes_sent, double imbalance) const {
  DCHECK(bytes_sent >= 0 && imbalance >= 1);
  TransferTime best;
  for (const CollectiveAlgorithm& algorithm : algorithms(kind)) {
    const double seconds = algorithm.seconds(bytes_sent * imbalance);
    if (!best.algorithm.empty() && seconds >= best.seconds) continue;
    best = {.seconds = seconds,
            .latency_seconds = algorithm.latency_seconds,
            .bandwidth_seconds = seconds - algorithm.latency_seconds,
            .algorithm = algorithm.name};
  }
  return best;
}

Network::Network(NetworkSpec spec, NetworkCalibration calibration)
    : spec_(std::move(spec)), calibration_(calibration) {}

PlacedGroup Network::place(const GroupPlacement& placement) const {
  CHECK(placement.tier_groups.size() == spec_.tiers.size(), "a placement on another network");
  const Pricing pricing(spec_, calibration_, placement);
  PlacedGroup group;
  for (const CollectiveKind kind : kCollectiveKinds) {
    group.algorithms_[static_cast<size_t>(kind)] = pricing.algorithms(kind);
  }
  return group;
}

}  // namespace colossus
