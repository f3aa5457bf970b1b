// colossus simulate of whole runs, and colossus plan --build: what can be asked, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "place.h"

namespace colossus {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// A dense model on 512 of 1,016 GPUs, ten days.
std::vector<std::string> days(const std::vector<std::string>& more) {
  std::vector<std::string> words = {"simulate",
                                    "--model",
                                    "configs/models/llama-3-8b.toml",
                                    "--cluster",
                                    "configs/clusters/dgx-h100-pod.toml",
                                    "--seq",
                                    "8192",
                                    "--batch-tokens",
                                    "8M",
                                    "--layout",
                                    "tensor=4",
                                    "--layout",
                                    "pipeline=2",
                                    "--layout",
                                    "shard=64",
                                    "--days",
                                    "10",
                                    "--runs",
                                    "4"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

json answer(const Place& place, std::vector<std::string> more) {
  more.emplace_back("--json");
  return json::parse(place.must_succeed(days(more)).out);
}

TEST(Simulate, FailsAsItIsTold) {
  const Place place;
  const json measured = answer(place, {}), none = answer(place, {"--failures", "none"}),
             many = answer(place, {"--failures", "200"});
  EXPECT_EQ(answer(place, {"--failures", "measured"}), measured);
  EXPECT_EQ(none.at("interruptions_per_day").at(0), 0);
  EXPECT_GT(measured.at("interruptions_per_day").at(0), 0);
  // Some causes are slow machines, which interrupt nothing until they are drained.
  EXPECT_NEAR(many.at("interruptions_per_day").at(0).get<double>(), 0.2 * 64, 0.2 * 0.2 * 64);
  EXPECT_GT(none.at("useful").at(0), measured.at("useful").at(1));
  EXPECT_GT(measured.at("useful").at(0), many.at("useful").at(2));
  place.write("ours.toml",
              "[[failures.components]]\nname = \"ours\"\nper_1000_node_days = 100\n"
              "[[failures.repairs]]\nname = \"r\"\n");
  EXPECT_THAT(place.must_succeed(days({"--failures", "ours.toml"})).out,
              AllOf(HasSubstr("ours"), Not(HasSubstr("gpu_memory"))));
}

TEST(Simulate, KeepsSpares) {
  const Place place;
  // Of 127 nodes 64 train.
  EXPECT_EQ(answer(place, {"--spares", "10%"}).at("training_gpus"), 512);
  EXPECT_THAT(place.must_fail(days({"--spares", "90%"})), HasSubstr("no room for 64 data ranks of 8 GPUs"));
}

// 124 nodes are no spares, 64 are in the layout: 15 microbatches of each of 64 ranks are 8 of each of 124.
TEST(Simulate, LetsOtherGpusHelp) {
  const Place place;
  const json some = answer(place, {}), all = answer(place, {"--all-gpus"});
  EXPECT_EQ(all.at("training_gpus"), 124 * 8);
  const double faster = some.at("played_step_seconds").get<double>() / all.at("played_step_seconds").get<double>();
  EXPECT_GT(faster, 1.5);
  EXPECT_LT(faster, 15.0 / 8 + 1e-6);
}

TEST(Simulate, GrowsWhileItRuns) {
  const Place place;
  const json grown = answer(place, {"--failures", "none", "--grow", "day 4: +512 h200"});
  ASSERT_EQ(grown.at("phases").size(), 2U);
  const json &before = grown.at("phases").at(0), &after = grown.at("phases").at(1);
  EXPECT_EQ(before.at("speed"), 1);
  EXPECT_EQ(after.at("from_day"), 4);
  EXPECT_EQ(after.at("gpus"), 1016 + 512);
  const double speed = grown.at("pools").at(1).at("speed");
  EXPECT_GT(speed, 1) << "an H200 has more bandwidth";
  EXPECT_LT(speed, 1.3) << "and no more units";
  EXPECT_GT(after.at("speed"), 1.5);
  EXPECT_LE(after.at("speed").get<double>(), after.at("even_speed").get<double>() + 1e-9);
  const double per_day_before = before.at("tokens").at(0).get<double>() / 4,
               per_day_after = after.at("tokens").at(0).get<double>() / 6;
  EXPECT_NEAR(per_day_after / per_day_before, after.at("speed").get<double>(), 0.02);
  EXPECT_THAT(
      place.must_succeed(days({"--grow", "day 4: +512 h200"})).out,
      AllOf(HasSubstr("from day 4"), HasSubstr("the new machines after"), HasSubstr("a data rank of H200-SXM is")));
}

TEST(Simulate, TrainsSoManyTokens) {
  const Place place;
  const json short_run = answer(place, {"--tokens", "100B"}), long_run = answer(place, {"--tokens", "200B"});
  EXPECT_NEAR(short_run.at("tokens").at(0).get<double>(), 100e9, 1e-3 * 100e9);
  EXPECT_LT(short_run.at("days").at(2), 10);
  EXPECT_NEAR(long_run.at("days").at(0).get<double>() / short_run.at("days").at(0).get<double>(), 2, 0.2);
  const json ten_days = answer(place, {"--tokens", "900T"});
  EXPECT_EQ(ten_days.at("unfinished"), 4);
  EXPECT_EQ(ten_days.at("days").at(0), 10);
}

TEST(Simulate, SaysWhatItRestsOn) {
  const Place place;
  EXPECT_THAT(place.must_succeed(days({})).out, AllOf(HasSubstr("figures that are assumed"),
                                                      HasSubstr("recovery.start_seconds"), HasSubstr("power.pue")));
  const json rows = answer(place, {"--sensitivity"}).at("sensitivity");
  ASSERT_GT(rows.size(), 5U);
  double last = 2;
  bool found = false;
  for (const json& row : rows) {
    EXPECT_LE(row.at("change").get<double>(), last);
    last = row.at("change");
    if (row.at("figure") != "recovery.start_seconds") continue;
    found = true;
    EXPECT_GT(row.at("at_low").at("useful"), row.at("at_high").at("useful"));
  }
  EXPECT_TRUE(found);
}

TEST(Simulate, DecodesAtTheRoofline) {
  const Place place;
  const json grown = answer(place, {"--grow", "day 4: +512 h200", "--decode", "8k"});
  double h100 = 0, h200 = 0;
  for (const json& time : grown.at("decode")) {
    if (time.at("batch") != 1) continue;
    (time.at("gpu") == "H100-SXM" ? h100 : h200) = time.at("seconds");
  }
  ASSERT_GT(h100, 0);
  ASSERT_GT(h200, 0);
  EXPECT_GT(h100, h200);
  EXPECT_LT(h100, 4.8 / 3.35 * h200) << "sums over the GPUs take as long on both";
  EXPECT_THAT(place.must_succeed(days({"--decode", "100M"})).out, HasSubstr("the weights and a sequence do not fit"));
}

TEST(Simulate, RefusesWhatMakesNoSense) {
  const Place place;
  EXPECT_THAT(place.must_fail(days({"--failures", "none.toml"})), HasSubstr("[--failures] none.toml is neither"));
  EXPECT_THAT(place.must_fail(days({"--failures", "-3"})), HasSubstr("[--failures] -3"));
  EXPECT_THAT(place.must_fail(days({"--spares", "all"})), HasSubstr("[--spares] all"));
  EXPECT_THAT(place.must_fail(days({"--grow", "+512 h200"})), HasSubstr("[--grow] \"+512 h200\""));
  EXPECT_THAT(place.must_fail(days({"--grow", "day 4: +512 h900"})), HasSubstr("h900 is no pool of"));
  EXPECT_THAT(place.must_fail(days({"--grow", "day 11: +512 h200"})), HasSubstr("joins on day 11"));
  EXPECT_THAT(place.must_fail(days({"--tokens", "0"})), HasSubstr("[--tokens] 0"));
  EXPECT_THAT(place.must_fail(days({"--decode", "x"})), HasSubstr("[--decode] x"));
  std::vector<std::string> no_days = days({"--spares", "2%", "--trace", "t.json"});
  std::erase(no_days, "--days");
  std::erase(no_days, "10");
  EXPECT_THAT(place.must_fail(no_days), HasSubstr("are of whole runs"));
}

TEST(PlanBuild, SaysWhatBindsAndWhatMustBeTrue) {
  const Place place;
  const std::vector<std::string> build = {"plan", "--build", "configs/clusters/dgx-h100-pod.toml", "--build-runs", "5"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), build.begin(), build.end());
    return more;
  };
  EXPECT_THAT(place.must_succeed(build).out,
              AllOf(HasSubstr("1016 GPUs, 127 nodes"), HasSubstr("the last rack is delivered"), HasSubstr("<- binds"),
                    HasSubstr("so it is; each of these alone may go as far as"), HasSubstr("racks_per_day"),
                    HasSubstr("build_out.node_pass_rate")));
  const std::string slow = place.must_succeed(with({"--racks-per-day", "1"})).out;
  EXPECT_THAT(slow, AllOf(HasSubstr("32 racks at 1 a day"), HasSubstr("delivering racks"),
                          HasSubstr("one of these has to be at least as good as")));
  // Who has measured how many nodes pass says so, beyond what was assumed.
  const std::string measured = place.must_succeed(with({"--set-cluster", "build_out.node_pass_rate=0.5"})).out;
  EXPECT_THAT(measured, Not(HasSubstr("build_out.node_pass_rate")));
  EXPECT_THAT(place.must_fail(with({"--set-cluster", "build_out.node_pass_rate=2"})), HasSubstr("node_pass_rate"));
  EXPECT_THAT(place.must_fail({"plan", "--build", "none.toml"}), HasSubstr("none.toml"));
  EXPECT_THAT(place.must_fail(with({"--gpus", "5000"})), HasSubstr("which has 1016"));
}

}  // namespace
}  // namespace colossus
