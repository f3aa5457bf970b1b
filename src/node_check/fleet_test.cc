#include "node_check/fleet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace colossus {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string line_of(const std::string& host, double gemm, double sync_ms = 2, std::optional<double> gpus = {}) {
  NodeReport report{.host = host, .seconds = 30};
  report.results = {make_figure("gemm_all", gemm), make_figure("disk_sync", sync_ms)};
  if (gpus) report.results.push_back({.name = "gpus", .value = gpus});
  return to_json_line(report) + "\n";
}

TEST(NodeReport, IsReadBackAsItWasWritten) {
  NodeReport report{.host = "gpu-017.rack2", .seconds = 12.5};
  report.results = {{.name = "memory", .value = 3, .unit = "wrong words"}, make_figure("gemm_all", 812.25)};
  report.results[0].worsen(Verdict::kBad, "bit 7 \"sticks\"\n\x1b[31m\xff");
  compare(report.results[1], 1000, "file");
  const std::string line = to_json_line(report);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const auto back = parse_node_report(line);
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(back->host, report.host);
  EXPECT_EQ(back->seconds, 12.5);
  EXPECT_EQ(back->verdict(), Verdict::kBad);
  ASSERT_EQ(back->results.size(), 2u);
  EXPECT_EQ(back->results[0].value, 3);
  // No control character reaches a terminal.
  EXPECT_THAT(back->results[0].message,
              AllOf(HasSubstr("bit 7 \"sticks\""), Not(HasSubstr("\x1b")), Not(HasSubstr("\n"))));
  EXPECT_EQ(back->results[1].verdict, Verdict::kSlow);
  EXPECT_EQ(back->results[1].expected, 1000);
  EXPECT_EQ(back->results[1].expected_from, "file");
  EXPECT_EQ(back->results[1].message, "19 % below what is expected");
}

TEST(NodeReport, LinesFromElsewhereAreNotTrusted) {
  for (const char* line :
       {"", "{", "[]", "null", "{}", R"({"host":"a"})", R"({"host":"a","verdict":"pass"})",
        R"({"host":"a;reboot","verdict":"pass","results":[]})",
        R"({"host":"`x`",
         "verdict" : "pass",
         "results" : []
       })
    ",
    R"({"host":"-a","verdict":"pass","results":[]})",
        R"({"host":"","verdict":"pass","results":[]})", R"({"host":"a","verdict":"good","results":[]})",
        R"({"host":"a","verdict":"pass","results":{}})", R"({"host":"a","verdict":"pass","results":[1]})",
        R"({"host":"a","verdict":"pass","results":[{"name":"x' y","verdict":"pass"}]})",
        R"({"host":"a","verdict":"pass","results":[{"name":"x"}]})"})
    EXPECT_FALSE(parse_node_report(line).ok()) << line;
  EXPECT_FALSE(parse_node_report(std::string(2 << 20, '[')).ok());
  EXPECT_FALSE(parse_node_report(std::string(1 << 19, '[')).ok());
  // Numbers that are none are left out; a verdict worse than its parts holds.
  const auto odd = parse_node_report(
      R"({"host":"a","verdict":"bad","results":[{"name":"gemm_all","verdict":"pass","value":1e999}]})");
  EXPECT_TRUE(!odd.ok() || !odd->results[0].value);
  const auto text = parse_node_report(
      R"({"host":"a","verdict":"bad","results":[{"name":"gemm_all","verdict":"pass","value":"fast"}]})");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text->results[0].value, std::nullopt);
  EXPECT_EQ(text->verdict(), Verdict::kBad);
}

TEST(Figures, AreSlowOnlyBeyondTheirTolerance) {
  const auto verdict = [](const char* name, double value, double expected) {
    CheckResult result = make_figure(name, value);
    compare(result, expected, "file");
    return result.verdict;
  };
  EXPECT_EQ(verdict("gemm_all", 91, 100), Verdict::kPass);
  EXPECT_EQ(verdict("gemm_all", 89, 100), Verdict::kSlow);
  EXPECT_EQ(verdict("gemm_all", 500, 100), Verdict::kPass);
  EXPECT_EQ(verdict("link_latency", 19, 10), Verdict::kPass);  // microseconds: less is better
  EXPECT_EQ(verdict("link_latency", 21, 10), Verdict::kSlow);
  EXPECT_EQ(verdict("link_latency", 1, 10), Verdict::kPass);
}

TEST(Expected, IsWrittenAndReadBack) {
  NodeReport report{.host = "a"};
  report.results = {make_figure("gemm_all", 812.5), make_figure("link_latency", 0), {.name = "gpus", .value = 8}};
  const Expected expected = expected_of(report);
  const auto back = parse_config<Expected>(print_config(expected, {.comments = true}), "expected.toml");
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(back->of("gemm_all"), 812.5);
  EXPECT_EQ(back->of("gemm_core"), std::nullopt);
  EXPECT_EQ(back->of("link_latency"), std::nullopt);  // nothing was measured
  EXPECT_EQ(back->gpus, 8);
  const auto wrong = parse_config<Expected>("gemm_al = 3\n", "expected.toml");
  ASSERT_FALSE(wrong.ok());
  EXPECT_THAT(wrong.status().message(), HasSubstr("gemm_all"));
}

TEST(Fleet, NodesSlowerThanTheMedianStandOut) {
  const FleetReport fleet =
      compare_fleet("srun: job 7 queued\n" + line_of("n1", 100) + "1: " + line_of("n2", 102) + line_of("n3", 85) +
                        line_of("n4", 101, 9) + "noise { } \n" + line_of("n5", 99),
                    {"n1", "n2", "n3", "n4", "n5", "n6"});
  EXPECT_EQ(fleet.medians.of("gemm_all"), 100);
  EXPECT_THAT(fleet.names_of(Verdict::kPass), ElementsAre("n1", "n2", "n5"));
  EXPECT_THAT(fleet.names_of(Verdict::kSlow), ElementsAre("n3", "n4"));
  EXPECT_THAT(fleet.missing, ElementsAre("n6"));
  EXPECT_EQ(fleet.verdict(), Verdict::kBad);
  EXPECT_THAT(fleet.faults, IsEmpty());
  EXPECT_THAT(drain_commands(fleet),
              ElementsAre("scontrol update NodeName=n6 State=DRAIN Reason='colossus check: no report'",
                          "scontrol update NodeName=n4 State=DRAIN Reason='colossus check: slow: disk_sync'",
                          "scontrol update NodeName=n3 State=DRAIN Reason='colossus check: slow: gemm_all'"));
}

TEST(Fleet, TwoNodesHaveNoMedian) {
  const FleetReport fleet = compare_fleet(line_of("n1", 100) + line_of("n2", 10), {});
  EXPECT_EQ(fleet.medians.of("gemm_all"), std::nullopt);
  EXPECT_EQ(fleet.verdict(), Verdict::kPass);
  EXPECT_THAT(drain_commands(fleet), IsEmpty());
}

TEST(Fleet, ANodeThatLacksAGpuStandsOut) {
  const FleetReport fleet = compare_fleet(line_of("n1", 100, 2, 8) + line_of("n2", 100, 2, 8) +
                                              line_of("n3", 100, 2, 8) + line_of("n4", 100, 2, 7) + line_of("n5", 100),
                                          {});
  EXPECT_EQ(fleet.medians.gpus, 8);
  EXPECT_THAT(fleet.names_of(Verdict::kBad), ElementsAre("n4", "n5"));
}

TEST(Fleet, StrangersAndDoublesAreTold) {
  const FleetReport fleet = compare_fleet(line_of("n1", 100) + line_of("evil", 100) + line_of("n1", 100) +
                                              "{\"host\":\"n2\",\"verdict\":\"pass\",\"results\":[{}]}\n",
                                          {"n1", "n2"});
  EXPECT_EQ(fleet.nodes.size(), 1u);
  EXPECT_THAT(fleet.missing, ElementsAre("n2"));
  EXPECT_THAT(fleet.faults, ElementsAre(HasSubstr("evil was not asked"), HasSubstr("n1 reported twice"),
                                        HasSubstr("line 4: n2: a result has no proper name")));
}

TEST(Fleet, HostListsAreExpanded) {
  const auto hosts = [](const char* list) {
    const auto expanded = expand_host_list(list);
    return expanded.ok() ? fmt::format("{}", fmt::join(*expanded, " ")) : "wrong";
  };
  EXPECT_EQ(hosts(""), "");
  EXPECT_EQ(hosts("login"), "login");
  EXPECT_EQ(hosts("gpu[008-011,7],login"), "gpu008 gpu009 gpu010 gpu011 gpu7 login");
  EXPECT_EQ(hosts("a[1]-ib,b"), "a1-ib b");
  for (const char* list :
       {"a[", "a[1", "a[2-1]", "a[x]", "a[1-]", "a;b", "a b", "a[1-999999999]", "a[0-99999],b[0-99999]"})
    EXPECT_EQ(hosts(list), "wrong") << list;
}

}  // namespace
}  // namespace colossus
