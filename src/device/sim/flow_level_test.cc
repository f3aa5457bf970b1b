#include "device/sim/flow_level.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>

#include "device/sim/collective_steps.h"
#include "device/sim/network_testing.h"
#include "device/sim/path_collisions.h"

namespace colossus {
namespace {

TEST(MaxMinRates, SharesTheTightestLinkFirst) {
  // Bertsekas & Gallager's way: flow 0 over both links, 1 on the first, 2 and 3 on the second.
  const std::vector<std::vector<int32_t>> paths = {{0, 1}, {0}, {1}, {1}};
  const std::vector<double> rates = max_min_rates(paths, std::array{1.0, 1.0});
  EXPECT_DOUBLE_EQ(rates[0], 1.0 / 3);
  EXPECT_DOUBLE_EQ(rates[1], 2.0 / 3);
  EXPECT_DOUBLE_EQ(rates[2], 1.0 / 3);
  EXPECT_DOUBLE_EQ(rates[3], 1.0 / 3);
}

TEST(FlowLevelNetwork, FlowsThatEndLeaveTheirShareToOthers) {
  FlowLevelNetwork network(h100_network());
  // Both into GPU 0 from its domain: half the rate each until the short one is through.
  const std::array<NetworkFlow, 2> flows = {
      {{.from = 1, .to = 0, .bytes = 450e9}, {.from = 2, .to = 0, .bytes = 45e9}}};
  const std::vector<double> finish = network.finish_seconds(flows, 0);
  EXPECT_NEAR(finish[1], 0.2, 1e-9);
  EXPECT_NEAR(finish[0], 1.1, 1e-9);
}

double of_algorithm(const PlacedGroup& group, CollectiveKind kind, std::string_view name, double sent) {
  for (const CollectiveAlgorithm& algorithm : group.algorithms(kind)) {
    if (algorithm.name == name) return sent * algorithm.seconds_per_byte;
  }
  ADD_FAILURE() << "no " << name;
  return 0;
}

struct Shape {
  const char* text;
  MeshGroup group;
};

std::vector<Shape> shapes() {
  return {{"a domain", {.axes = {{.size = 8, .stride = 1}}}},
          {"half a domain", {.first = 4, .axes = {{.size = 4, .stride = 1}}}},
          {"two domains", {.axes = {{.size = 16, .stride = 1}}}},
          {"eight domains", {.axes = {{.size = 64, .stride = 1}}}},
          {"one of each", {.first = 5, .axes = {{.size = 8, .stride = 8}}}},
          {"two of each", {.first = 2, .axes = {{.size = 16, .stride = 8}, {.size = 2, .stride = 1}}}}};
}

// The formulas of network.h against the messages of the algorithms on the links, with nothing lost in either.
TEST(FlowLevelNetwork, FormulasAreWhatTheLinksCarry) {
  const NetworkSpec spec = h100_network();
  const double size = 1e9;
  for (const Shape& shape : shapes()) {
    const std::vector<int64_t> gpus = shape.group.gpus();
    const auto n = static_cast<int64_t>(gpus.size());
    const PlacedGroup group = Network(spec, ideal()).place(place_group(spec, gpus));
    const auto check = [&](CollectiveKind kind, std::string_view name, const std::vector<CollectiveStep>& steps) {
      FlowLevelNetwork links(spec);
      const double formula = of_algorithm(group, kind, name, bytes_sent_of_size(kind, size, n));
      const std::vector<NetworkFlow> flows = flows_of(steps);
      EXPECT_NEAR(links.busiest_seconds(flows, 0), formula, 1e-6 * formula) << name << " in " << shape.text;
      // Fair shares of unequal flows leave the busiest link idle at times.
      const double fair = links.slowest_seconds(flows, 0);
      EXPECT_GE(fair, (1 - 1e-6) * formula) << name << " in " << shape.text;
      EXPECT_LE(fair, 1.1 * formula) << name << " in " << shape.text;
    };
    const bool inside = place_group(spec, gpus).domains == 1;
    for (const CollectiveKind kind :
         {CollectiveKind::kAllReduce, CollectiveKind::kAllGather, CollectiveKind::kReduceScatter}) {
      check(kind, "ring", ring_steps(kind, gpus, 8, size));
    }
    check(CollectiveKind::kAllReduce, "tree", tree_steps(gpus, 8, size));
    if (place_group(spec, gpus).most_in_domain > 1) {
      check(CollectiveKind::kAllReduce, inside ? "in_switch" : "in_switch_tree", in_switch_steps(gpus, 8, size));
    }
    const bool relayed = !inside && place_group(spec, gpus).most_in_domain > 1;
    check(CollectiveKind::kAllToAll, relayed ? "pairwise_by_rail" : "pairwise", all_to_all_steps(spec, gpus, size));
  }
}

// A small two-tier fat tree without rails, and everybody sends to the GPU a leaf further on.
NetworkSpec small_tree(Routing routing, int64_t queue_pairs, double oversubscription, bool three_tiers) {
  NetworkSpec spec{
      .domain_gpus = 1,
      .nic_gb_per_second = 50,
      .rail_optimized = false,
      .routing = routing,
      .queue_pairs = queue_pairs,
      .tiers = {{.name = "leaf", .gpus = 16, .oversubscription = oversubscription}, {.name = "spine", .gpus = 256}}};
  if (three_tiers) {
    spec.tiers[1].gpus = 64;
    spec.tiers.push_back({.name = "core", .gpus = 256});
  }
  return spec;
}

std::vector<NetworkFlow> everybody_sends(int64_t gpus, int64_t distance) {
  std::vector<NetworkFlow> flows;
  for (int64_t gpu = 0; gpu < gpus; ++gpu) {
    flows.push_back({.from = gpu, .to = (gpu + distance) % gpus, .bytes = 50e9});
  }
  return flows;
}

TEST(FlowLevelNetwork, OversubscriptionSlowsWhatLeaves) {
  for (const double oversubscription : {1.0, 2.0, 4.0}) {
    const NetworkSpec spec = small_tree(Routing::kAdaptive, 1, oversubscription, false);
    FlowLevelNetwork links(spec);
    const double slowest = links.slowest_seconds(everybody_sends(64, 16), 0);
    EXPECT_NEAR(slowest, oversubscription, 1e-6);
    const MeshGroup pair = {.axes = {{.size = 2, .stride = 16}}};
    const PlacedGroup group = Network(spec, ideal()).place(place_group(spec, pair));
    EXPECT_NEAR(of_algorithm(group, CollectiveKind::kSend, "direct", 50e9), slowest, 1e-6);
    EXPECT_NEAR(links.slowest_seconds(everybody_sends(64, 1), 0), 1.0, 1e-6);
  }
}

// The expectation against flows that are hashed link by link and share by max-min fairness.
TEST(FlowLevelNetwork, CollisionsAreWhatIsExpected) {
  struct Case {
    int64_t queue_pairs;
    bool three_tiers;
  };
  for (const Case& c : {Case{1, false}, Case{4, false}, Case{16, false}, Case{1, true}, Case{4, true}}) {
    const NetworkSpec spec = small_tree(Routing::kEcmp, c.queue_pairs, 1, c.three_tiers);
    const int64_t gpus = 128;
    FlowLevelNetwork links(spec);
    double slowest = 0;
    double mean = 0;
    constexpr int kTrials = 30;
    for (int trial = 0; trial < kTrials; ++trial) {
      const std::vector<double> finish =
          links.finish_seconds(everybody_sends(gpus, c.three_tiers ? 64 : 16), static_cast<uint64_t>(trial));
      double worst = 0;
      for (const double seconds : finish) {
        worst = std::max(worst, seconds);
        mean += seconds / static_cast<double>(gpus) / kTrials;
      }
      slowest += worst / kTrials;
    }
    const auto parts = static_cast<double>(c.queue_pairs);
    const HashedFlows tier{.links_load = 1, .parts_per_link = parts, .links = 2 * gpus};
    std::vector<HashedFlows> tiers(c.three_tiers ? 2 : 1, tier);
    const double expected = expected_slowdown(tiers);
    std::printf(
        "%2d queue pairs, %d tiers: the slowest of %d flows takes %.2f times as long, expected %.2f; a flow %.2f\n",
        static_cast<int>(c.queue_pairs), c.three_tiers ? 3 : 2, static_cast<int>(gpus), slowest, expected, mean);
    // Poisson allows a switch of sixteen GPUs more flows than it has: the expectation is a little high.
    EXPECT_NEAR(slowest, expected, 0.15 * expected) << c.queue_pairs << " queue pairs";
    // A pair alone waits for its own parts only, and comes through sooner than the last of all.
    const PlacedGroup pair =
        Network(spec, ideal())
            .place(place_group(spec, MeshGroup{.axes = {{.size = 2, .stride = c.three_tiers ? 64 : 16}}}));
    const double alone = of_algorithm(pair, CollectiveKind::kSend, "direct", 50e9);
    EXPECT_LE(mean, alone * 1.02);
    EXPECT_LE(alone, expected);
  }
}

TEST(ExpectedSlowdown, Limits) {
  const auto of = [](HashedFlows flows) { return expected_slowdown(std::span(&flows, 1)); };
  EXPECT_DOUBLE_EQ(of({.links_load = 0}), 1);
  EXPECT_DOUBLE_EQ(expected_slowdown({}), 1);
  // More links collide worse; more parts of each flow even out; no end of parts leaves the load.
  EXPECT_GT(of({.links_load = 1, .links = 10000}), of({.links_load = 1, .links = 100}));
  double before = 100;
  for (const double parts : {1.0, 4.0, 16.0, 64.0, 256.0}) {
    const double slowdown = of({.links_load = 1, .parts_per_link = parts, .links = 256});
    EXPECT_LT(slowdown, before);
    EXPECT_GT(slowdown, 1);
    before = slowdown;
  }
  EXPECT_NEAR(of({.links_load = 2, .parts_per_link = 20000, .links = 1000}), 2, 0.1);
  // A part or so of a million is waited for: Poisson(1) links matter, and Poisson(1) others are on each.
  EXPECT_NEAR(of({.links_load = 1, .links = 1e6, .waited_for = 1e-6}), 1.80, 0.01);
}

}  // namespace
}  // namespace colossus
