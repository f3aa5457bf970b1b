#include "node_check/peers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "node_check/figures.h"

namespace colossus {
namespace {

TEST(Peers, NumberThemselves) {
  const auto store = make_memory_store();
  std::vector<PeerPlace> places(12);
  std::vector<std::thread> threads;
  for (PeerPlace& place : places) threads.emplace_back([&] { place = take_place_among_peers(*store, 4, 60).value(); });
  for (std::thread& thread : threads) thread.join();
  std::set<std::pair<std::string, int>> taken;
  for (const PeerPlace& place : places) taken.emplace(place.id, place.node);
  EXPECT_EQ(taken.size(), 12u);
  for (const char* id : {"peers-1", "peers-2", "peers-3"})
    for (int node = 0; node < 4; ++node) EXPECT_TRUE(taken.contains({id, node})) << id << " " << node;
}

TEST(Peers, WhoComesTooLateBeginsAnotherCheck) {
  const auto store = make_memory_store();
  EXPECT_EQ(take_place_among_peers(*store, 3, 60)->node, 0);
  EXPECT_EQ(take_place_among_peers(*store, 3, 60)->node, 1);
  const PeerPlace late = take_place_among_peers(*store, 3, 0).value();
  EXPECT_EQ(late.node, 0);
  EXPECT_EQ(late.id, "peers-2");
  // Another number of nodes is another check, too.
  EXPECT_EQ(take_place_among_peers(*store, 2, 60)->id, "peers-3");
  ASSERT_TRUE(store->set("check/peers", "1 x").ok());
  EXPECT_EQ(take_place_among_peers(*store, 2, 60).status().code(), ErrorCode::kCorrupt);
}

NodeReport report_of(const std::string& host, double bandwidth) {
  return {.host = host, .results = {make_figure("link_bandwidth", bandwidth), {.name = "links", .value = 3}}};
}

TEST(Peers, AreComparedWithTheirMedian) {
  const auto store = make_memory_store();
  const std::vector<double> rates = {1000, 980, 1010, 700};
  std::vector<NodeReport> reports;
  for (size_t i = 0; i < rates.size(); ++i) reports.push_back(report_of("n" + std::to_string(i), rates[i]));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < rates.size(); ++i)
    threads.emplace_back([&, i] {
      EXPECT_TRUE(compare_with_peers(*store, {.node = static_cast<int>(i), .id = "peers-1"}, 4, 60, reports[i]).ok());
    });
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < rates.size(); ++i) {
    const CheckResult& bandwidth = reports[i].results.front();
    EXPECT_EQ(bandwidth.expected, 990);
    EXPECT_EQ(bandwidth.expected_from, "median of the peers");
    EXPECT_EQ(reports[i].verdict(), i == 3 ? Verdict::kSlow : Verdict::kPass);
  }
}

TEST(Peers, WhatSomebodySaidToExpectStands) {
  const auto store = make_memory_store();
  for (const int node : {1, 2})
    ASSERT_TRUE(store->set("check/x/reports/" + std::to_string(node), to_json_line(report_of("n", 10))).ok());
  NodeReport report = report_of("m", 100);
  compare(report.results.front(), 200, "file");
  ASSERT_TRUE(compare_with_peers(*store, {.node = 0, .id = "x"}, 3, 60, report).ok());
  EXPECT_EQ(report.results.front().expected, 200);
  EXPECT_EQ(report.verdict(), Verdict::kSlow);
}

// Nor are two a majority.
TEST(Peers, OneThatDoesNotComeIsDoneWithout) {
  const auto store = make_memory_store();
  ASSERT_TRUE(store->set("check/x/reports/1", to_json_line(report_of("n", 10))).ok());
  NodeReport report = report_of("m", 1);
  ASSERT_TRUE(compare_with_peers(*store, {.node = 0, .id = "x"}, 3, 0.2, report).ok());
  EXPECT_FALSE(report.results.front().expected);
}

}  // namespace
}  // namespace colossus
