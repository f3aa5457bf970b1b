#include "plan/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace colossus {
namespace {

constexpr double kHoursPerYear = 8766;
constexpr double kMaxNodes = 1e6;
constexpr double kMaxSeconds = 1e7;
constexpr double kMaxRate = 1e6;  // of failures, per 1,000 days: a thousand a day

template <class Item>
void check_names(const std::vector<Item>& items, const char* list, FieldChecker& c) {
  std::set<std::string> names;
  for (size_t i = 0; i < items.size(); ++i) {
    const std::string place = fmt::format("{}[{}]", list, i);
    c.require(!items[i].name.empty(), place.c_str(), "needs a name");
    c.require(names.insert(items[i].name).second, place.c_str(),
              fmt::format("has the name {} of one before it", items[i].name));
  }
}

// Of the standard normal law, by bisection: called some hundred times, and without a table of coefficients.
double normal_quantile(double p) {
  double low = -9, high = 9;
  for (int i = 0; i < 80; ++i) {
    const double middle = (low + high) / 2;
    (std::erfc(-middle / std::sqrt(2.0)) / 2 < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

double node_watts_per_gpu(const ClusterConfig& cluster, const PoolSpec& pool, double gpu_watts, double host_watts) {
  const PowerSpec& power = cluster.power;
  const double gpus = static_cast<double>(pool.gpus_per_node);
  return power.pue * (gpu_watts + host_watts / gpus + power.network_watts_per_gpu + power.other_watts_per_gpu);
}

double full_watts(const ClusterConfig& cluster, const PoolSpec& pool) {
  return static_cast<double>(pool.num_gpus()) *
         node_watts_per_gpu(cluster, pool, pool.gpu.power_watts, pool.node.host_watts);
}

}  // namespace

void NodeSpec::visit_fields(FieldVisitor& v) {
  v.field("name", name, "of the machine");
  v.field("host_watts", host_watts, "of all but the GPUs, at full load", {.unit = "watts", .min = 0, .max = 1e6});
  v.field("host_idle_watts", host_idle_watts, "of all but the GPUs, at rest", {.unit = "watts", .min = 0, .max = 1e6});
  v.field("memory_gb", memory_gb, "of the host", {.unit = "1e9 bytes", .above = 0});
  v.field("disk_gb", disk_gb, "of its own disks; 0: none", {.unit = "1e9 bytes", .min = 0});
  v.field("disk_write_gb_per_second", disk_write_gb_per_second, "to its own disks", {.min = 0});
  evidence.visit_fields(v);
}

void NodeSpec::check_fields(FieldChecker& c) const {
  c.require(memory_gb > 0, "memory_gb", "must be given: it bounds what can be kept of a neighbour's state");
  c.require(host_idle_watts <= host_watts, "host_idle_watts", fmt::format("is more than host_watts = {}", host_watts));
  check_evidence(*this, c);
}

void PoolSpec::visit_fields(FieldVisitor& v) {
  v.field("name", name, "of the pool");
  v.field("nodes", nodes, "machines, spares included", {.min = 1, .max = kMaxNodes});
  v.field("spare_nodes", spare_nodes, "of these, kept ready for the run's losses", {.min = 0, .max = kMaxNodes});
  v.field("gpus_per_node", gpus_per_node, "GPUs of a machine", {.min = 1, .max = 1024});
  v.field("arrives_day", arrives_day, "of the run, when it is there", {.unit = "days", .min = 0, .max = 1e5});
  v.field("failure_scale", failure_scale, "times failures.components", {.min = 0, .max = 1000});
  v.field("usd_per_gpu_hour", usd_per_gpu_hour, "rent, power included", {.unit = "dollars", .min = 0, .max = 1e4});
  v.field("usd_per_node", usd_per_node, "price of a machine, without network",
          {.unit = "dollars", .min = 0, .max = 1e9});
  v.field("processor_cores", processor_cores, "its GPUs are cores of a processor, which ranks share in turns");
  v.field("shared_clock", shared_clock, "of a core among others at work, over that of one alone",
          {.max = 1, .above = 0});
  v.group("gpu", gpu, "the GPU");
  v.group("node", node, "what stands around the GPUs");
  evidence.visit_fields(v);
}

void PoolSpec::check_fields(FieldChecker& c) const {
  c.require(nodes >= 1, "nodes", "must be at least 1");
  c.require(spare_nodes < nodes, "spare_nodes", fmt::format("leaves none of {} nodes to train", nodes));
  c.require(!gpu.name.empty(), "gpu", "needs a name; take a part from configs/clusters/parts or name its figures");
  c.require(gpu.bf16_tflops > 0, "gpu.bf16_tflops", "must be given, above 0");
  c.require(gpu.memory_gb > 0, "gpu.memory_gb", "must be given, above 0");
  c.require(
      !processor_cores || gpu.num_units == 0, "processor_cores",
      fmt::format("is for cores of a processor: {} has {} units of its own, and one rank", gpu.name, gpu.num_units));
  c.require(gpu.memory_gb_per_second > 0, "gpu.memory_gb_per_second", "must be given, above 0");
  c.require(gpu.idle_watts <= gpu.power_watts, "gpu.idle_watts",
            fmt::format("({}) is more than power_watts = {}", gpu.idle_watts, gpu.power_watts));
  c.require(
      gpu.fp8_tflops == 0 || gpu.fp8_tflops >= gpu.bf16_tflops, "gpu.fp8_tflops",
      fmt::format("({}) is less than bf16_tflops = {}; 0 says that there is none", gpu.fp8_tflops, gpu.bf16_tflops));
  c.require(processor_cores || shared_clock == 1, "shared_clock", "is for processor_cores alone");
  check_evidence(*this, c);
}

void StorageSpec::visit_fields(FieldVisitor& v) {
  v.field("store_gb_per_second", store_gb_per_second, "of the shared store, in total", {.min = 0});
  v.field("store_node_gb_per_second", store_node_gb_per_second, "of the shared store, for one node", {.min = 0});
  v.field("peer_gb_per_second", peer_gb_per_second, "of one node's copy of another's state", {.min = 0});
  evidence.visit_fields(v);
}

void StorageSpec::check_fields(FieldChecker& c) const {
  c.require(store_gb_per_second > 0, "store_gb_per_second", "must be given, above 0: checkpoints go there");
  c.require(store_node_gb_per_second > 0, "store_node_gb_per_second", "must be given, above 0");
  c.require(store_node_gb_per_second <= store_gb_per_second, "store_node_gb_per_second",
            fmt::format("is more than the store has for all, store_gb_per_second = {}", store_gb_per_second));
  check_evidence(*this, c);
}

void RackSpec::visit_fields(FieldVisitor& v) {
  v.field("gpus_per_rack", gpus_per_rack, "GPUs of a rack", {.min = 1, .max = 1e5});
  v.field("racks_per_array", racks_per_array, "racks that are built together", {.min = 1, .max = 1e5});
  v.field("arrays_per_hall", arrays_per_hall, "arrays of a hall", {.min = 1, .max = 1e5});
  evidence.visit_fields(v);
}

void RackSpec::check_fields(FieldChecker& c) const { check_evidence(*this, c); }

void PowerSpec::visit_fields(FieldVisitor& v) {
  v.field("pue", pue, "power of the site over that of the machines", {.min = 1, .max = 5});
  v.field("load", load, "share of full power drawn in training, in the mean", {.max = 1, .above = 0});
  v.field("network_watts_per_gpu", network_watts_per_gpu, "switches and optics",
          {.unit = "watts", .min = 0, .max = 1e4});
  v.field("other_watts_per_gpu", other_watts_per_gpu, "storage, management", {.unit = "watts", .min = 0, .max = 1e4});
  v.field("limit_megawatts", limit_megawatts, "of the site", {.unit = "megawatts", .above = 0});
  evidence.visit_fields(v);
}

void PowerSpec::check_fields(FieldChecker& c) const { check_evidence(*this, c); }

void PriceSpec::visit_fields(FieldVisitor& v) {
  v.field("usd_per_kwh", usd_per_kwh, "of power", {.unit = "dollars", .min = 0, .max = 100});
  v.field("years", years, "over which machines are paid", {.unit = "years", .max = 100, .above = 0});
  v.field("network_usd_per_gpu", network_usd_per_gpu, "switches, optics, cables",
          {.unit = "dollars", .min = 0, .max = 1e7});
  v.field("building_usd_per_watt", building_usd_per_watt, "of the site's full power",
          {.unit = "dollars", .min = 0, .max = 1e4});
  v.field("building_years", building_years, "over which the building is paid",
          {.unit = "years", .max = 1000, .above = 0});
  v.field("upkeep_per_year", upkeep_per_year, "of what machines and network cost", {.min = 0, .max = 1});
  evidence.visit_fields(v);
}

void PriceSpec::check_fields(FieldChecker& c) const { check_evidence(*this, c); }

void RepairSpec::visit_fields(FieldVisitor& v) {
  v.field("name", name, "of the repair");
  v.field("law", law, "of its time");
  v.field("quantile_days", quantile_days, "at equal distances", {.unit = "days", .min = 0, .max = 1e4});
  v.field("median_days", median_days, "of a log-normal law", {.unit = "days", .max = 1e4, .above = 0});
  v.field("p90_days", p90_days, "nine of ten are done by then", {.unit = "days", .max = 1e4, .above = 0});
}

void RepairSpec::check_fields(FieldChecker& c) const {
  c.require(law != RepairLaw::kQuantiles || quantile_days.size() >= 2, "quantile_days",
            "must have at least the least and the greatest");
  c.require(std::ranges::is_sorted(quantile_days), "quantile_days", "must grow");
  c.require(law != RepairLaw::kLogNormal || p90_days > median_days, "p90_days",
            fmt::format("must be above median_days = {}", median_days));
}

std::vector<double> RepairSpec::quantiles() const {
  if (law == RepairLaw::kInfiniteHbd) return {kRepairDays.begin(), kRepairDays.end()};
  if (law == RepairLaw::kQuantiles) return quantile_days;
  // From 1/2n on, so that neither end is infinite; 0.995 is the last.
  constexpr int kCount = 101;
  const double sigma = std::log(p90_days / median_days) / normal_quantile(0.9);
  std::vector<double> days;
  for (int i = 0; i < kCount; ++i) {
    const double p = std::clamp(i / double{kCount - 1}, 0.5 / (kCount - 1), 1 - 0.5 / (kCount - 1));
    days.push_back(median_days * std::exp(sigma * normal_quantile(p)));
  }
  return days;
}

void FailureComponent::visit_fields(FieldVisitor& v) {
  v.field("name", name, "of what fails");
  v.field("per_1000_node_days", per_1000_node_days, "failures of 1,000 nodes in a day", {.min = 0, .max = kMaxRate});
  v.field("effect", effect, "how it shows");
  v.field("repair", repair, "one of repairs, by name; \"\": the first");
}

void FailureGroup::visit_fields(FieldVisitor& v) {
  v.field("name", name, "of what fails");
  v.field("gpus", gpus, "that hang on one", {.min = 1, .max = 1e8});
  v.field("per_1000_group_days", per_1000_group_days, "failures of 1,000 of them in a day",
          {.min = 0, .max = kMaxRate});
  v.field("share_hit", share_hit, "of its nodes that stand still", {.max = 1, .above = 0});
  v.field("repair", repair, "one of repairs, by name; \"\": the first");
}

void FailureSpec::visit_fields(FieldVisitor& v) {
  v.list("components", components, "what fails node by node");
  v.list("groups", groups, "what takes neighbours down together");
  v.list("repairs", repairs, "how long machines are away");
  v.field("slow_ratio", slow_ratio, "of a slow machine's time over that of others", {.min = 1, .max = 100});
  evidence.visit_fields(v);
}

void FailureSpec::check_fields(FieldChecker& c) const {
  check_names(components, "components", c);
  check_names(groups, "groups", c);
  check_names(repairs, "repairs", c);
  const auto check_repair = [&](const std::string& name, const std::string& place) {
    const bool known = std::ranges::any_of(repairs, [&](const RepairSpec& repair) { return repair.name == name; });
    c.require(name.empty() ? !repairs.empty() : known, place.c_str(),
              name.empty() ? "needs at least one of failures.repairs"
                           : fmt::format("names the repair {}, which is none of failures.repairs", name));
  };
  for (size_t i = 0; i < components.size(); ++i) check_repair(components[i].repair, fmt::format("components[{}]", i));
  for (size_t i = 0; i < groups.size(); ++i) check_repair(groups[i].repair, fmt::format("groups[{}]", i));
  check_evidence(*this, c);
}

double FailureSpec::node_rate() const {
  double sum = 0;
  for (const FailureComponent& component : components) sum += component.per_1000_node_days;
  return sum;
}

const RepairSpec& FailureSpec::repair(const std::string& name) const {
  const auto found = std::ranges::find(repairs, name, &RepairSpec::name);
  CHECK(!repairs.empty() && (name.empty() || found != repairs.end()), "a checked spec names its repairs");
  return name.empty() ? repairs.front() : *found;
}

void RecoverySpec::visit_fields(FieldVisitor& v) {
  constexpr FieldOptions kSeconds = {.unit = "seconds", .max = kMaxSeconds, .above = 0};
  v.field("silent_seconds", silent_seconds, "until a silent machine counts as lost", kSeconds);
  v.field("hang_seconds", hang_seconds, "until a rank without progress does", kSeconds);
  v.field("start_seconds", start_seconds, "from the decision to the first step, without loading state", kSeconds);
  v.field("person_seconds", person_seconds, "until somebody resumes a run that stopped", kSeconds);
  evidence.visit_fields(v);
}

void RecoverySpec::check_fields(FieldChecker& c) const { check_evidence(*this, c); }

void MaintenanceWindow::visit_fields(FieldVisitor& v) {
  v.field("name", name, "of the work");
  v.field("every_days", every_days, "between two", {.unit = "days", .max = 1e5, .above = 0});
  v.field("hours", hours, "that machines are away", {.unit = "hours", .max = 1e5, .above = 0});
  v.field("share", share, "of the nodes at once; 1: the run waits", {.max = 1, .above = 0});
}

void ClusterConfig::visit_fields(FieldVisitor& v) {
  v.field("name", name, "of the cluster");
  v.field("description", description, "in a line");
  v.list("pools", pools, "nodes of one kind each");
  v.group("network", network, "between GPUs");
  v.group("storage", storage, "for checkpoints and data");
  v.group("racks", racks, "how nodes stand");
  v.group("power", power, "of the site");
  v.group("prices", prices, "of what is bought");
  v.group("failures", failures, "what fails, how often");
  v.group("recovery", recovery, "how fast a run is back");
  v.list("maintenance", maintenance, "machines taken out on purpose");
  v.group("build_out", build_out, "how the cluster is built");
  evidence.visit_fields(v);
}

void ClusterConfig::check_fields(FieldChecker& c) const {
  c.require(!name.empty(), "name", "must be given");
  c.require(!pools.empty(), "pools", "must have at least one pool of nodes, [[pools]]");
  if (pools.empty()) return;
  check_names(pools, "pools", c);
  check_names(maintenance, "maintenance", c);
  c.require(std::ranges::any_of(pools, [](const PoolSpec& pool) { return pool.arrives_day == 0; }), "pools",
            "must have one with arrives_day = 0: somebody has to begin");
  for (size_t i = 0; i < pools.size(); ++i) {
    const int64_t domain = network.domain_gpus, node = pools[i].gpus_per_node;
    c.require(
        domain % node == 0, fmt::format("pools[{}].gpus_per_node", i).c_str(),
        fmt::format("({}) must divide network.domain_gpus = {}: a node lies within one NVLink domain", node, domain));
  }
  const int64_t reach = network.tiers.empty() ? network.domain_gpus : network.tiers.back().gpus;
  c.require(reach >= num_gpus(), "network",
            fmt::format("ends at {} GPUs, but the pools have {}; raise the last tier's gpus or add a tier", reach,
                        num_gpus()));
  check_evidence(*this, c);
}

int64_t ClusterConfig::num_gpus() const {
  int64_t gpus = 0;
  for (const PoolSpec& pool : pools) gpus += pool.num_gpus();
  return gpus;
}

int64_t ClusterConfig::num_nodes() const {
  int64_t nodes = 0;
  for (const PoolSpec& pool : pools) nodes += pool.nodes;
  return nodes;
}

double busy_watts_per_gpu(const ClusterConfig& cluster, const PoolSpec& pool) {
  return node_watts_per_gpu(cluster, pool, cluster.power.load * pool.gpu.power_watts,
                            cluster.power.load * pool.node.host_watts);
}

double idle_watts_per_gpu(const ClusterConfig& cluster, const PoolSpec& pool) {
  return node_watts_per_gpu(cluster, pool, pool.gpu.idle_watts, pool.node.host_idle_watts);
}

double peak_megawatts(const ClusterConfig& cluster) {
  double watts = 0;
  for (const PoolSpec& pool : cluster.pools) watts += full_watts(cluster, pool);
  return watts / 1e6;
}

HourlyPrice hourly_price(const ClusterConfig& cluster, const PoolSpec& pool) {
  const PriceSpec& prices = cluster.prices;
  const double gpus = static_cast<double>(pool.num_gpus());
  HourlyPrice hourly;
  if (pool.usd_per_gpu_hour) hourly.rent = *pool.usd_per_gpu_hour * gpus;
  if (pool.usd_per_node) {
    const double machines = *pool.usd_per_node * static_cast<double>(pool.nodes) + prices.network_usd_per_gpu * gpus;
    const double building = prices.building_usd_per_watt * full_watts(cluster, pool);
    hourly.owned = (machines / prices.years + machines * prices.upkeep_per_year + building / prices.building_years) /
                   kHoursPerYear;
  }
  return hourly;
}

HourlyPrice hourly_price(const ClusterConfig& cluster) {
  HourlyPrice all{.rent = 0, .owned = 0};
  for (const PoolSpec& pool : cluster.pools) {
    const HourlyPrice one = hourly_price(cluster, pool);
    all.rent = all.rent && one.rent ? std::optional(*all.rent + *one.rent) : std::nullopt;
    all.owned = all.owned && one.owned ? std::optional(*all.owned + *one.owned) : std::nullopt;
  }
  return all;
}

}  // namespace colossus
