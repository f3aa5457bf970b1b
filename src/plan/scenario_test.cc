#include "plan/scenario.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/testing.h"
#include "plan/ready_files.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::HasSubstr;

ClusterConfig load(const std::string& name) {
  return load_config<ClusterConfig>(local_files(),
                                    std::string(COLOSSUS_SOURCE_DIR) + "/configs/clusters/" + name + ".toml")
      .value();
}

// What was changed must still be a cluster whose assumptions can be walked.
void expect_walkable(const ClusterConfig& cluster) {
  for (const AssumedNumber& assumed : assumptions_of(cluster)) {
    const auto same = with_number(cluster, assumed.path, assumed.value);
    EXPECT_TRUE(same.ok()) << assumed.path << ": " << same.status().message();
  }
}

// A measured figure may lie outside of what was assumed of it, and is an assumption no more.
TEST(Scenario, WhoSetsAFigureKnowsIt) {
  const std::string path = std::string(COLOSSUS_SOURCE_DIR) + "/configs/clusters/colossus-100k-h100.toml";
  const auto cluster = load_cluster(local_files(), path, {"build_out.node_pass_rate=0.5", "racks.gpus_per_rack=32"});
  ASSERT_TRUE(cluster.ok()) << cluster.status().message();
  EXPECT_EQ(cluster->build_out.node_pass_rate, 0.5);
  EXPECT_EQ(cluster->build_out.racks_per_day, load("colossus-100k-h100").build_out.racks_per_day);
  EXPECT_EQ(cluster->racks.gpus_per_rack, 32);
  EXPECT_EQ(assumptions_of(*cluster).size() + 1, assumptions_of(load("colossus-100k-h100")).size());
  expect_walkable(*cluster);
  EXPECT_THAT(load_cluster(local_files(), path, {"build_out.node_pass_rate=2"}).status().message(),
              HasSubstr("node_pass_rate"));
  EXPECT_THAT(load_cluster(local_files(), path, {"build_out.node_pas_rate=0.5"}).status().message(),
              HasSubstr("did you mean build_out.node_pass_rate?"));
}

TEST(Scenario, ScalesFailures) {
  const ClusterConfig before = load("colossus-100k-h100");
  ClusterConfig cluster = before;
  ASSERT_TRUE(set_failures(local_files(), "measured", cluster).ok());
  EXPECT_EQ(cluster.failures.node_rate(), before.failures.node_rate());
  ASSERT_TRUE(set_failures(local_files(), "16", cluster).ok());
  EXPECT_NEAR(cluster.failures.node_rate(), 16, 1e-9);
  const double factor = 16 / before.failures.node_rate();
  EXPECT_NEAR(cluster.failures.components[3].per_1000_node_days,
              factor * before.failures.components[3].per_1000_node_days, 1e-9);
  EXPECT_NEAR(cluster.failures.groups[0].per_1000_group_days, factor * before.failures.groups[0].per_1000_group_days,
              1e-9);
  expect_walkable(cluster);  // 16 is outside of the ranges of what was scaled
  ASSERT_TRUE(set_failures(local_files(), "none", cluster).ok());
  EXPECT_EQ(cluster.failures.node_rate(), 0);
  EXPECT_TRUE(cluster.failures.groups.empty());
  expect_walkable(cluster);
  EXPECT_THAT(set_failures(local_files(), "5", cluster).message(), HasSubstr("nothing of colossus-100k-h100 fails"));
}

TEST(Scenario, ReadsFailuresOfAnotherFile) {
  const TemporaryDirectory directory;
  const auto write = [&](const std::string& name, const std::string& text) {
    CHECK(write_file_atomically(local_files(), directory / name, text).ok());
    return directory / name;
  };
  const std::string table = "components = [{ name = \"x\", per_1000_node_days = 3 }]\n[[repairs]]\nname = \"r\"\n";
  const std::string named = write("parts.toml", table);
  const std::string under = write("under.toml", "failures = \"parts.toml\"\n");
  const std::string part = std::string(COLOSSUS_SOURCE_DIR) + "/configs/clusters/parts/failures-rsc-1.toml";
  const std::string whole = std::string(COLOSSUS_SOURCE_DIR) + "/configs/clusters/llama-3-16k.toml";
  const std::string extends = std::string(COLOSSUS_SOURCE_DIR) + "/configs/clusters/colossus-200k.toml";
  for (const auto& [path, rate] :
       std::vector<std::pair<std::string, double>>{{named, 3},
                                                   {under, 3},
                                                   {part, 23.7},
                                                   {whole, load("llama-3-16k").failures.node_rate()},
                                                   {extends, load("colossus-200k").failures.node_rate()}}) {
    ClusterConfig cluster = load("colossus-100k-h100");
    const Status status = set_failures(local_files(), path, cluster);
    ASSERT_TRUE(status.ok()) << path << ": " << status.message();
    EXPECT_NEAR(cluster.failures.node_rate(), rate, 1e-9) << path;
    expect_walkable(cluster);
  }
  ClusterConfig cluster = load("colossus-100k-h100");
  EXPECT_THAT(set_failures(local_files(), directory / "none.toml", cluster).message(),
              AllOf(HasSubstr("none.toml is neither measured, none"), HasSubstr("no such file")));
  EXPECT_THAT(set_failures(local_files(), write("empty.toml", ""), cluster).message(), HasSubstr("has no failures"));
  EXPECT_THAT(set_failures(local_files(), write("bad.toml", "componets = 3\n"), cluster).message(),
              HasSubstr("did you mean components?"));
  EXPECT_THAT(set_failures(local_files(), "-1", cluster).message(), HasSubstr("between 0 and"));
}

TEST(Scenario, SetsSparesOfEachPool) {
  ClusterConfig cluster = load("colossus-200k");
  ASSERT_TRUE(set_spares("2%", cluster).ok());
  EXPECT_EQ(cluster.pools[0].spare_nodes, 375);
  EXPECT_EQ(cluster.pools[1].spare_nodes, 125);
  expect_walkable(cluster);
  ASSERT_TRUE(set_spares("0", cluster).ok());  // outside of the range its file had assumed
  EXPECT_EQ(cluster.pools[1].spare_nodes, 0);
  expect_walkable(cluster);
  for (const char* wrong : {"", "%", "x", "-1", "1.5", "100%", "2 %"})
    EXPECT_THAT(set_spares(wrong, cluster).message(), HasSubstr("needed is a share below 100")) << wrong;
  EXPECT_THAT(set_spares("6250", cluster).message(), HasSubstr("none of the 6250 nodes of h200"));
}

TEST(Scenario, GrowsByKindAndByPool) {
  ClusterConfig cluster = load("colossus-100k-h100");
  std::string note;
  const Status status = add_growth(local_and_ready_files(), "day 92: +50000 h100,+50000 h200", cluster, note);
  ASSERT_TRUE(status.ok()) << status.message();
  ASSERT_EQ(cluster.pools.size(), 3U);
  EXPECT_EQ(cluster.pools[1].nodes, 6250);
  EXPECT_EQ(cluster.pools[1].arrives_day, 92);
  EXPECT_EQ(cluster.pools[1].spare_nodes, 106) << "212 of 12,500";
  EXPECT_EQ(cluster.pools[1].gpu.name, "H100-SXM");
  EXPECT_EQ(cluster.pools[2].gpu.name, "H200-SXM");
  EXPECT_THAT(note, HasSubstr("core switches are taken to join 204800")) << "200,000 in halls of 25,600";
  expect_walkable(cluster);
  // The same machine that configs/clusters/colossus-growth.toml describes.
  const ClusterConfig file = load("colossus-growth");
  EXPECT_EQ(cluster.network.tiers.back().gpus, file.network.tiers.back().gpus);
  for (size_t pool = 0; pool < 3; ++pool) {
    EXPECT_EQ(cluster.pools[pool].nodes, file.pools[pool].nodes);
    EXPECT_EQ(cluster.pools[pool].spare_nodes, file.pools[pool].spare_nodes);
    EXPECT_EQ(cluster.pools[pool].usd_per_node, file.pools[pool].usd_per_node);
  }
  ASSERT_TRUE(add_growth(local_and_ready_files(), "day 200.5: +8 dgx-b200", cluster, note).ok());
  EXPECT_EQ(cluster.pools[3].gpu.name, "B200");
  EXPECT_EQ(cluster.pools[3].spare_nodes, 0);
}

TEST(Scenario, RefusesGrowthThatMakesNoSense) {
  const ClusterConfig cluster = load("colossus-100k-h100");
  const auto refused = [&](const std::string& what) {
    ClusterConfig copy = cluster;
    std::string note;
    const Status status = add_growth(local_and_ready_files(), what, copy, note);
    EXPECT_FALSE(status.ok()) << what;
    return status.ok() ? "" : status.message();
  };
  for (const char* wrong : {"", "92: +8 h100", "day x: +8 h100", "day 0: +8 h100", "day 92", "day 92:",
                            "day 92: 8 h100", "day 92: +8", "day 92: +0 h100", "day 92: +1.5 h100", "day 92: +8 h100,"})
    EXPECT_THAT(refused(wrong), HasSubstr("needed is such as \"day 92: +50000 h100")) << wrong;
  EXPECT_THAT(refused("day 92: +8 h300"), AllOf(HasSubstr("[--grow] h300 is no pool"), HasSubstr("hgx-h200")));
  EXPECT_THAT(refused("day 92: +8 h100, +8 h100"), HasSubstr("joins twice on day 92"));
  EXPECT_THAT(refused("day 92: +8 none.toml"), HasSubstr("none.toml"));
  // Four GPUs of a tray and eight of a board both lie within a domain of eight; 36 do not.
  EXPECT_THAT(refused("day 92: +80000000 h100"), HasSubstr("nodes"));
}

}  // namespace
}  // namespace colossus
