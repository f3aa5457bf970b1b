// colossus plan and colossus simulate, as people use them: from any directory, with files that lie within the program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "io/csv.h"
#include "place.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::vector<std::string> grok(std::vector<std::string> command, const std::vector<std::string>& more) {
  for (const char* word : {"--model", "configs/models/grok-1.toml", "--cluster", "configs/clusters/dgx-h100-pod.toml",
                           "--gpus", "512", "--seq", "8192", "--batch-tokens", "8M"})
    command.emplace_back(word);
  command.insert(command.end(), more.begin(), more.end());
  return command;
}
const std::vector<std::string> kLayout = {"--layout", "tensor=4",   "--layout", "context=2",
                                          "--layout", "pipeline=8", "--layout", "shard=8",
                                          "--layout", "expert=8",   "--layout", "recompute=full"};

TEST(Plan, JudgesALayoutOfGrok1) {
  const Place place;
  const Outcome judged = place.must_succeed(grok({"plan", "--tokens", "1T"}, kLayout));
  EXPECT_THAT(judged.out, AllOf(HasSubstr("tensor 4 context 2 pipeline 8 data 8 expert 8"), HasSubstr("(MFU)"),
                                HasSubstr("waiting for experts"), HasSubstr("optimizer"), HasSubstr("MWh")));
}

TEST(Plan, SaysThatALayoutDoesNotFit) {
  const Place place;
  EXPECT_THAT(place.must_succeed(grok({"plan"}, {"--layout", "tensor=8"})).out, HasSubstr("does not fit: "));
  EXPECT_THAT(place.must_succeed(grok({"plan"}, kLayout)).out, testing::Not(HasSubstr("does not fit")));
}

TEST(Plan, SaysWhatTheTimeRestsOn) {
  const Place place;
  const Outcome judged = place.must_succeed(grok({"plan"}, kLayout));
  EXPECT_THAT(judged.out, AllOf(testing::ContainsRegex("a step: [0-9.]+ \\([0-9.]+ to [0-9.]+\\) s of"),
                                HasSubstr("published runs of models with experts on H100-SXM in bf16, not used to fit"),
                                HasSubstr("extrapolates to colossus: all runs checked were of other software")));
  EXPECT_THAT(judged.out, testing::Not(HasSubstr("has been published")));
  auto words = kLayout;
  words.insert(words.end(), {"--cluster", "configs/clusters/colossus-100k-h100.toml"});
  std::vector<std::string> on_colossus = {"plan", "--model", "configs/models/grok-1.toml", "--seq", "8192"};
  on_colossus.insert(on_colossus.end(), words.begin(), words.end());
  EXPECT_THAT(place.must_succeed(on_colossus).out,
              HasSubstr("No step time, efficiency or reliability of a run on Colossus has been published"));
}

std::vector<std::string> small(const std::vector<std::string>& more) {
  std::vector<std::string> words = {"plan",
                                    "--model",
                                    "configs/models/gpt-2-774m.toml",
                                    "--cluster",
                                    "configs/clusters/dgx-h100-pod.toml",
                                    "--gpus",
                                    "16",
                                    "--batch-tokens",
                                    "128k"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}
CsvTable csv(const std::string& text) {
  auto table = CsvTable::parse(text, "output");
  EXPECT_TRUE(table.ok()) << table.status().message();
  return *table;
}

TEST(Plan, WritesItsListAsCsv) {
  const Place place;
  const CsvTable list = csv(place.must_succeed(small({"--csv", "--top", "4"})).out);
  ASSERT_EQ(list.num_rows(), 4u);
  for (size_t row = 0; row < 4; ++row) {
    const double seconds = std::stod(list.at(row, "step_seconds"));
    EXPECT_LT(std::stod(list.at(row, "step_low")), seconds);
    EXPECT_GT(std::stod(list.at(row, "step_high")), seconds);
    double sum = 0;
    for (const char* part : {"kernels", "tensor", "context", "expert", "bubble", "data", "update", "slowest_rank"})
      sum += std::stod(list.at(row, std::string(part) + "_seconds"));
    EXPECT_NEAR(sum, seconds, 1e-3 * seconds);
  }
  EXPECT_EQ(place.must_succeed(small({"--csv", "list.csv", "--top", "4"})).out, "");
  EXPECT_EQ(csv(place.read("list.csv")).num_rows(), 4u);
}

TEST(Plan, SweepsAllCombinations) {
  const Place place;
  const std::vector<std::string> axes = {"--sweep", "tensor=1,2,3", "--sweep", "network.nic_gb_per_second=25,50"};
  auto words = axes;
  words.insert(words.end(), {"--csv", "sweep.csv"});
  EXPECT_EQ(place.must_succeed(small(words)).out, "");
  const CsvTable table = csv(place.read("sweep.csv"));
  ASSERT_EQ(table.num_rows(), 6u);
  EXPECT_EQ(table.at(3, "sweep:tensor"), "2");
  EXPECT_EQ(table.at(3, "sweep:network.nic_gb_per_second"), "50");
  EXPECT_EQ(table.at(3, "tensor"), "2");
  EXPECT_EQ(table.at(3, "gpus"), "16");
  EXPECT_EQ(table.at(3, "refused"), "");
  EXPECT_THAT(table.at(4, "refused"), HasSubstr("3 does not divide"));
  EXPECT_EQ(table.at(4, "step_seconds"), "");
  const std::string text = place.must_succeed(small(axes)).out;
  EXPECT_THAT(text, AllOf(HasSubstr("tensor  network.nic_gb_per_second  GPUs"), HasSubstr("3 does not divide")));
}

TEST(Plan, ComparesMachines) {
  const Place place;
  const std::vector<std::string> machines = {"--compare", "h100", "h200", "configs/clusters/selene-a100.toml",
                                             "--tokens",  "1T"};
  const Outcome compared = place.must_succeed(small(machines));
  EXPECT_THAT(compared.out, AllOf(HasSubstr("times the first's"), HasSubstr("h200 (H200-SXM): tensor"),
                                  HasSubstr("selene-a100.toml (A100-80GB-SXM)"), HasSubstr("checked on")));
  auto words = machines;
  words.emplace_back("--csv");
  const CsvTable table = csv(place.must_succeed(small(words)).out);
  ASSERT_EQ(table.num_rows(), 3u);
  EXPECT_GT(std::stod(table.at(2, "step_seconds")), std::stod(table.at(0, "step_seconds")));
  EXPECT_GT(std::stod(table.at(0, "usd_owned")), 0);
}

TEST(Plan, WritesAReport) {
  const Place place;
  auto words = kLayout;
  words.insert(words.end(), {"--html", "report.html"});
  EXPECT_THAT(place.must_succeed(grok({"plan"}, words)).out, HasSubstr("report.html: open it in a browser"));
  const std::string html = place.read("report.html");
  EXPECT_THAT(html, AllOf(testing::StartsWith("<!doctype html>"), testing::EndsWith("</html>\n"),
                          HasSubstr("grok-1 on dgx-h100-pod"), HasSubstr("stage 7"), HasSubstr("With failures"),
                          HasSubstr("The useful share of the time"), HasSubstr("the same experts")));
  EXPECT_LT(html.size(), 3u << 20);
}

TEST(Plan, PlaysATableOfRuns) {
  const Place place;
  place.write("runs.csv",
              "name,source,gpu,count,tp,pp,vpp,cp,ep,dp,micro_batch,global_batch,seq,layers,hidden,ffn,heads,kv_heads,"
              "vocab,experts,topk,dtype,recompute,tflops_per_gpu,mfu,step_seconds,tokens_per_s,verified\n"
              "a,x,H100-SXM5-80GB,8,1,1,1,1,1,8,1,128,8192,32,4096,14336,32,8,128256,1,1,bf16,none,,,12.3,,yes\n"
              "b,x,H100-SXM5-80GB,8,1,1,1,1,1,4,1,128,8192,32,4096,14336,32,8,128256,1,1,bf16,none,,,12.3,,yes\n");
  const Outcome played = place.must_succeed({"plan", "--validate", "runs.csv"});
  EXPECT_THAT(played.out, AllOf(HasSubstr("refused: [runs.csv:3] tp x pp x cp x dp = 4, but count = 8"),
                                HasSubstr("rows 2, refused 1, mean |error| ")));
  const CsvTable table = csv(place.must_succeed({"plan", "--validate", "runs.csv", "--csv"}).out);
  ASSERT_EQ(table.num_rows(), 2u);
  EXPECT_EQ(table.at(0, "gpu"), "H100-SXM");
  EXPECT_NEAR(std::stod(table.at(0, "predicted_seconds")) / 12.3 - 1, std::stod(table.at(0, "error")), 1e-3);
  EXPECT_THAT(table.at(1, "refused"), HasSubstr("count = 8"));
  place.write("bad.csv", "name,gpu\na,b\n");
  EXPECT_THAT(place.must_fail({"plan", "--validate", "bad.csv"}), HasSubstr("[bad.csv:1] no column count"));
}

TEST(Plan, RefusesWhatMakesNoSense) {
  const Place place;
  EXPECT_THAT(place.must_fail({"plan"}), HasSubstr("give --model and --cluster"));
  EXPECT_THAT(place.must_fail(grok({"plan", "--tokens", "6X"}, kLayout)), HasSubstr("[--tokens] 6X"));
  EXPECT_THAT(place.must_fail(grok({"plan", "--pool", "none"}, kLayout)), HasSubstr("[--pool] none"));
  EXPECT_THAT(place.must_fail(grok({"plan"}, {"--layout", "tensor=7"})), HasSubstr("does not divide num_heads"));
  EXPECT_THAT(place.must_fail(grok({"plan"}, {"--layout", "shard=100000"})), HasSubstr("100000 ranks"));
  EXPECT_THAT(place.must_fail({"plan", "--model", "none.toml", "--cluster", "none.toml"}), HasSubstr("none.toml"));
  EXPECT_THAT(place.must_fail(grok({"simulate"}, kLayout)), HasSubstr("--trace FILE"));
  EXPECT_THAT(place.must_fail(small({"--sweep", "tensr=1"})), HasSubstr("did you mean tensor?"));
  EXPECT_THAT(place.must_fail(small({"--sweep", "tensor="})), HasSubstr("[--sweep] tensor="));
  EXPECT_THAT(place.must_fail(small({"--sweep", "tensor=1", "--sweep", "tensor=2"})), HasSubstr("there twice"));
  EXPECT_THAT(place.must_fail(small({"--compare", "h1000"})), HasSubstr("[--compare] h1000"));
  EXPECT_THAT(place.must_fail(small({"--compare", "h100", "--sweep", "tensor=1"})), HasSubstr("two questions"));
  EXPECT_THAT(place.must_fail(small({"--compare", "h100", "--layout", "tensor=2"})), HasSubstr("leave --layout out"));
  EXPECT_THAT(place.must_fail(small({"--sweep", "tensor=1", "--html", "x.html"})), HasSubstr("[--html]"));
  EXPECT_THAT(place.must_fail(small({"--layout", "shard=16", "--csv", "no/such/place/x.csv"})), HasSubstr("no/such"));
  EXPECT_THAT(place.run(small({"--layout", "shard=16", "--html", "no/such/place/x.html"})).err, HasSubstr("no/such"));
}

// On no lane do two things happen at once, and every pass of every stage is there.
TEST(Simulate, WritesAStepAsATimeline) {
  const Place place;
  auto words = kLayout;
  words.insert(words.end(), {"--trace", "step.json"});
  place.must_succeed(grok({"simulate"}, words));
  const auto trace = nlohmann::json::parse(place.read("step.json"));
  std::map<std::pair<int64_t, int64_t>, double> ends;  // by process and lane
  int64_t spans = 0;
  std::map<int64_t, std::string> processes;
  std::map<std::pair<int64_t, int64_t>, std::string> threads;
  for (const auto& event : trace.at("traceEvents")) {
    // The fields that the trace event format asks for, of the types it asks for.
    ASSERT_TRUE(event.at("name").is_string() && event.at("pid").is_number_integer()) << event;
    if (event.at("ph") == "M") {
      const std::string name = event.at("name");
      if (name == "process_name") processes[event.at("pid")] = event.at("args").at("name");
      if (name == "thread_name") threads[{event.at("pid"), event.at("tid")}] = event.at("args").at("name");
      continue;
    }
    ASSERT_EQ(event.at("ph"), "X") << event;
    ASSERT_TRUE(event.at("tid").is_number_integer() && event.at("ts").is_number() && event.at("dur").is_number())
        << event;
    ASSERT_GE(event.at("dur").get<double>(), 0);
    ASSERT_TRUE(event.at("cat").is_string()) << event;
    ++spans;
    double& end = ends[{event.at("pid"), event.at("tid")}];
    EXPECT_GE(event.at("ts").get<double>(), end - 0.01);  // microseconds, rounded
    end = event.at("ts").get<double>() + event.at("dur").get<double>();
  }
  EXPECT_GT(spans, 8 * 2 * 122) << "8 stages, 122 microbatches, forward and backward";
  EXPECT_EQ(processes.size(), 8u);
  for (const auto& [lane, end] : ends) EXPECT_TRUE(threads.contains(lane)) << "a lane without a name";
}

TEST(Simulate, PlaysWholeRuns) {
  const Place place;
  auto words = kLayout;
  words.insert(words.end(), {"--days", "10", "--runs", "5", "--seed", "3"});
  const Outcome played = place.must_succeed(grok({"simulate"}, words));
  EXPECT_THAT(played.out, AllOf(HasSubstr("useful"), HasSubstr("interruptions a day"), HasSubstr("tokens trained")));
  EXPECT_EQ(place.must_succeed(grok({"simulate"}, words)).out, played.out) << "the same seed";
}

}  // namespace
}  // namespace colossus
