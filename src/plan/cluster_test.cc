#include "plan/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "plan/ready_files.h"

namespace colossus {
namespace {

using testing::HasSubstr;

const std::string kClusters = COLOSSUS_SOURCE_DIR "/configs/clusters/";

ClusterConfig load(const std::string& name) {
  Result<ClusterConfig> cluster = load_config<ClusterConfig>(local_files(), kClusters + name + ".toml");
  EXPECT_TRUE(cluster.ok()) << cluster.status().message();
  return cluster.ok() ? *cluster : ClusterConfig();
}

std::vector<std::string> cluster_names() {
  std::vector<std::string> names;
  for (const FileEntry& entry : local_files().list(kClusters).value()) {
    if (!entry.is_directory) names.push_back(entry.name.substr(0, entry.name.rfind(".toml")));
  }
  return names;
}

TEST(Cluster, RanksShareCoresOfProcessorsAlone) {
  FileSystem& files = local_and_ready_files();
  const auto cores = load_config<ClusterConfig>(files, "configs/clusters/cpu-2-core.toml");
  ASSERT_TRUE(cores.ok()) << cores.status().message();
  EXPECT_EQ(cores->pools.front().shared_cores(1), 1);
  EXPECT_EQ(cores->pools.front().shared_cores(8), 2);
  auto gpus = load_config<ClusterConfig>(files, "configs/clusters/dgx-h100-pod.toml");
  ASSERT_TRUE(gpus.ok());
  EXPECT_EQ(gpus->pools.front().shared_cores(8), 0);
  gpus->pools.front().processor_cores = true;
  const Status checked = parse_config<ClusterConfig>(print_config(*gpus), "gpus.toml").status();
  EXPECT_FALSE(checked.ok());
  EXPECT_NE(checked.message().find("processor_cores"), std::string::npos) << checked.message();
}

TEST(Clusters, EveryFileLoads) {
  const std::vector<std::string> names = cluster_names();
  EXPECT_GE(names.size(), 17U);
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const ClusterConfig cluster = load(name);
    EXPECT_EQ(cluster.name, name);
    EXPECT_FALSE(cluster.description.empty());
    EXPECT_GT(cluster.num_gpus(), 0);
    EXPECT_GT(peak_megawatts(cluster), 0);
    const HourlyPrice price = hourly_price(cluster);
    EXPECT_TRUE(price.rent || price.owned);
    EXPECT_FALSE(assumptions_of(cluster).empty());
    for (const PoolSpec& pool : cluster.pools) {
      EXPECT_GT(busy_watts_per_gpu(cluster, pool), idle_watts_per_gpu(cluster, pool));
      EXPECT_GT(idle_watts_per_gpu(cluster, pool), 0);
    }
    // The text that --set and the sensitivity report work on says the same.
    const std::string text = print_config(cluster);
    const Result<ClusterConfig> again = parse_config<ClusterConfig>(text, "again");
    ASSERT_TRUE(again.ok()) << again.status().message();
    EXPECT_EQ(print_config(*again), text);
  }
}

// Both ends of every range make a cluster: what walks them never meets a refusal.
TEST(Clusters, EveryAssumptionCanBeMoved) {
  std::set<std::string> seen;  // parts are shared
  for (const std::string& name : cluster_names()) {
    const ClusterConfig cluster = load(name);
    for (const AssumedNumber& assumed : assumptions_of(cluster)) {
      SCOPED_TRACE(name + " " + assumed.path);
      if (!seen.insert(assumed.path + " " + assumed.why).second) continue;
      EXPECT_FALSE(assumed.why.empty());
      for (const double value : {assumed.low, assumed.high}) {
        const Result<ClusterConfig> moved = with_number(cluster, assumed.path, value);
        ASSERT_TRUE(moved.ok()) << moved.status().message();
        bool found = false;
        for (const AssumedNumber& other : assumptions_of(*moved)) {
          if (other.path != assumed.path) continue;
          found = true;
          EXPECT_EQ(other.value, value);
        }
        EXPECT_TRUE(found);
      }
    }
  }
}

TEST(Clusters, ColossusAddsUp) {
  const ClusterConfig first = load("colossus-100k-h100"), second = load("colossus-200k"),
                      grown = load("colossus-growth");
  EXPECT_EQ(first.num_gpus(), 100'000);
  EXPECT_EQ(second.num_gpus(), 200'000);
  EXPECT_EQ(grown.num_gpus(), 200'000);
  EXPECT_EQ(grown.pools[2].arrives_day, 92);
  EXPECT_EQ(first.pools[0].gpu.name, "H100-SXM");
  EXPECT_EQ(second.pools[1].gpu.memory_gb, 141);
  EXPECT_EQ(second.pools[1].gpu.bf16_tflops, 989);
  // 100,000 times (700 + 4,600 / 8 + 75 + 50) watts, and the cooling.
  EXPECT_NEAR(peak_megawatts(first), 1.25 * 140, 0.01);
  EXPECT_NEAR(first.failures.node_rate(), 1000.0 * 414 / 110592 + 0.2, 0.005);
  EXPECT_NEAR(*hourly_price(first).rent, 250e3, 1);
  // Machines over four years with upkeep, the building over fifteen.
  const double machines = 12500 * 270e3 + 100e3 * 8000;
  EXPECT_NEAR(*hourly_price(first).owned, (machines / 4 + 0.03 * machines + 175e6 * 10 / 15) / 8766, 1);
}

TEST(Clusters, RepairLaws) {
  RepairSpec repair = {.name = "x", .law = RepairLaw::kLogNormal, .median_days = 1, .p90_days = 10};
  const std::vector<double> days = repair.quantiles();
  ASSERT_EQ(days.size(), 101U);
  EXPECT_NEAR(days[50], 1, 1e-9);
  EXPECT_NEAR(days[90], 10, 1e-6);
  EXPECT_NEAR(days[10], 0.1, 1e-8);
  EXPECT_TRUE(std::ranges::is_sorted(days) && days[0] > 0 && std::isfinite(days[100]));
  repair.law = RepairLaw::kInfiniteHbd;
  EXPECT_EQ(repair.quantiles()[20], 0.851);
}

TEST(Clusters, NumbersAreSetByName) {
  const ClusterConfig cluster = load("colossus-200k");
  const Result<ClusterConfig> set = with_number(cluster, "pools[h200].nodes", 5000.2);
  ASSERT_TRUE(set.ok()) << set.status().message();
  EXPECT_EQ(set->pools[1].nodes, 5000);
  EXPECT_EQ(with_number(cluster, "pools[1].nodes", 5000)->pools[1].nodes, 5000);
  EXPECT_THAT(with_number(cluster, "pools[h200].node", 1).status().message(),
              HasSubstr("did you mean pools[h200].nodes?"));
  EXPECT_THAT(with_number(cluster, "power.pue", 3).status().message(),
              HasSubstr("pue lies between 1.1 and 1.4, but it is 3"));
}

// A file that loads; each case changes one line of it.
const std::string kGood = R"(name = "small"
[[pools]]
name = "h100"
nodes = 4
spare_nodes = 1
gpu = { name = "H100", bf16_tflops = 989, memory_gb = 80, memory_gb_per_second = 3350, power_watts = 700 }
node = { name = "HGX", host_watts = 4600, memory_gb = 2000 }
[network]
domain_gpus = 8
domain_gb_per_second = 450
nic_gb_per_second = 50
tiers = [{ name = "leaf", gpus = 16 }, { name = "spine", gpus = 64 }]
[storage]
store_gb_per_second = 100
store_node_gb_per_second = 10
[failures]
components = [{ name = "gpu", per_1000_node_days = 4 }]
repairs = [{ name = "node" }]
[power]
pue = 1.25
assumptions = [{ field = "pue", low = 1.1, high = 1.4, why = "not published" }]
)";

struct BadFile {
  const char* line;         // of kGood
  const char* replacement;  // in its place
  int number;               // of the line that is named
  std::vector<std::string> said;
};

void PrintTo(const BadFile& file, std::ostream* out) { *out << '"' << file.replacement << '"'; }

class BadCluster : public testing::TestWithParam<BadFile> {};

TEST_P(BadCluster, IsRefusedWithPlaceFoundAndNeeded) {
  std::string text = kGood;
  const size_t at = text.find(GetParam().line);
  ASSERT_NE(at, std::string::npos);
  text.replace(at, std::string(GetParam().line).size(), GetParam().replacement);
  const Result<ClusterConfig> cluster = parse_config<ClusterConfig>(text, "bad.toml");
  ASSERT_FALSE(cluster.ok());
  const std::string message = cluster.status().message();
  EXPECT_THAT(message, HasSubstr("[bad.toml:" + std::to_string(GetParam().number) + "]"));
  for (const std::string& part : GetParam().said) EXPECT_THAT(message, HasSubstr(part));
}

TEST(BadCluster, TheGoodOneLoads) {
  const Result<ClusterConfig> cluster = parse_config<ClusterConfig>(kGood, "good.toml");
  ASSERT_TRUE(cluster.ok()) << cluster.status().message();
  EXPECT_EQ(cluster->num_gpus(), 32);
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadCluster,
    testing::Values(
        BadFile{"nodes = 4", "nodes = 0", 4, {"pools[0].nodes = 0", "at least 1"}},
        BadFile{"nodes = 4", "nodes = -3", 4, {"-3", "at least 1"}},
        BadFile{"nodes = 4", "nodes = 4.5", 4, {"4.5", "whole number"}},
        BadFile{"nodes = 4", "nodes = 1e18", 4, {"nodes", "whole number"}},
        BadFile{"nodes = 4", "nodes = 10000000", 4, {"at most 1000000"}},
        BadFile{"nodes = 4", "node_count = 4", 4, {"node_count: unknown key", "known here"}},
        BadFile{"nodes = 4", "node_s = 4", 4, {"did you mean pools[0].nodes?"}},
        BadFile{"spare_nodes = 1", "spare_nodes = 4", 5, {"spare_nodes = 4", "none of 4 nodes"}},
        BadFile{"spare_nodes = 1", "gpus_per_node = 3", 5, {"gpus_per_node", "(3)", "domain_gpus = 8"}},
        BadFile{"spare_nodes = 1", "gpus_per_node = 0", 5, {"at least 1"}},
        BadFile{"spare_nodes = 1", "arrives_day = 3", 2, {"arrives_day = 0", "somebody has to begin"}},
        BadFile{"{ name = \"H100\", ", "{ ", 6, {"pools[0].gpu", "needs a name"}},
        BadFile{"bf16_tflops = 989, ", "", 6, {"pools[0].gpu.bf16_tflops", "above 0"}},
        BadFile{"bf16_tflops = 989", "bf16_tflops = nan", 6, {"bf16_tflops", "must be a number"}},
        BadFile{"bf16_tflops = 989", "bf16_tflops = 1e300", 6, {"bf16_tflops", "1e+300", "mind the unit"}},
        BadFile{"bf16_tflops = 989", "bf16_tflops = inf", 6, {"bf16_tflops", "mind the unit"}},
        BadFile{"power_watts = 700",
                "power_watts = 700, idle_watts = 800",
                6,
                {"idle_watts", "(800)", "power_watts = 700"}},
        BadFile{"memory_gb = 2000", "memory_gb = \"2 TB\"", 7, {"\"2 TB\"", "must be a number"}},
        BadFile{", memory_gb = 2000", "", 7, {"pools[0].node.memory_gb", "must be given"}},
        BadFile{"domain_gb_per_second = 450", "domain_gb_per_second = 0", 10, {"domain has several GPUs"}},
        BadFile{"nic_gb_per_second = 50", "nic_gb_per_second = 0", 11, {"where there are tiers"}},
        BadFile{"gpus = 16", "gpus = 48", 12, {"network.tiers", "64 GPUs in a group of tier \"spine\"", "the 48"}},
        BadFile{"gpus = 16", "gpus = 4", 12, {"network.tiers", "4 GPUs in a group of tier \"leaf\"", "the 8"}},
        BadFile{"gpus = 64", "gpus = 16", 8, {"ends at 16 GPUs", "the pools have 32", "raise the last tier"}},
        BadFile{"store_node_gb_per_second = 10",
                "store_node_gb_per_second = 200",
                15,
                {"= 200", "store_gb_per_second = 100"}},
        BadFile{
            "per_1000_node_days = 4", "per_1000_node_days = -4", 17, {"failures.components[0]", "-4", "at least 0"}},
        BadFile{"per_1000_node_days = 4", "repair = \"nod\"", 17, {"components[0]", "names the repair nod"}},
        BadFile{"repairs = [{ name = \"node\" }]", "", 17, {"components[0]", "at least one of failures.repairs"}},
        BadFile{"repairs = [{ name = \"node\" }]",
                "repairs = [{ name = \"a\" }, { name = \"a\" }]",
                18,
                {"repairs[1]", "the name a"}},
        BadFile{"{ name = \"node\" }", "{ name = \"n\", law = \"normal\" }", 18, {"\"normal\"", "log_normal"}},
        BadFile{"{ name = \"node\" }",
                "{ name = \"n\", law = \"log_normal\", p90_days = 0.5 }",
                18,
                {"p90_days", "median_days = 1"}},
        BadFile{"{ name = \"node\" }",
                "{ name = \"n\", law = \"quantiles\", quantile_days = [2, 1] }",
                18,
                {"[2", "must grow"}},
        BadFile{"pue = 1.25", "pue = 0.9", 20, {"pue = 0.9", "at least 1"}},
        BadFile{"pue = 1.25", "pue = 1.5", 21, {"power.assumptions[0]", "between 1.1 and 1.4, but it is 1.5", "widen"}},
        BadFile{"field = \"pue\"", "field = \"pu\"", 21, {"no number of this table", "did you mean pue?"}},
        BadFile{"low = 1.1, high = 1.4", "low = 1.4, high = 1.1", 21, {"low = 1.4", "below high = 1.1"}},
        BadFile{", why = \"not published\"", "", 21, {"why", "needs a reason"}},
        BadFile{"name = \"small\"", "", 1, {"name", "must be given"}},
        BadFile{"name = \"small\"", "name = 7", 1, {"string in quotes"}}));

TEST(Sources, OfAllTablesAreGathered) {
  const auto notes =
      sources_of(*load_config<ClusterConfig>(local_and_ready_files(), "configs/clusters/colossus-200k.toml"));
  const auto has = [&](const std::string& table, const std::string& of) {
    return std::ranges::any_of(notes, [&](const SourceVisitor::Note& note) {
      return note.table == table && note.note.of == of && !note.note.text.empty();
    });
  };
  EXPECT_TRUE(has("", "step time"));
  EXPECT_TRUE(has("racks", "gpus_per_rack, racks_per_array"));
  EXPECT_TRUE(std::ranges::any_of(notes, [](const auto& note) { return note.table.starts_with("pools"); }));
  for (size_t i = 0; i < notes.size(); ++i)
    for (size_t j = 0; j < i; ++j) EXPECT_FALSE(notes[i].table == notes[j].table && notes[i].note == notes[j].note);
}

}  // namespace
}  // namespace colossus
