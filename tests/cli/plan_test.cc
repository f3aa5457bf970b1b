// colossus plan and colossus simulate, as people use them: from any directory, with files that lie within the program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "io/testing.h"
#include "process.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class Place {
 public:
  Outcome run(std::vector<std::string> words) const {
    words.insert(words.begin(), COLOSSUS_BINARY);
    return Process(words, directory_.path()).wait();
  }
  Outcome must_succeed(const std::vector<std::string>& words) const {
    Outcome outcome = run(words);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome;
  }
  std::string must_fail(const std::vector<std::string>& words) const {
    const Outcome outcome = run(words);
    EXPECT_NE(outcome.exit_code, 0);
    EXPECT_EQ(outcome.out, "");
    return outcome.err;
  }
  void write(const std::string& name, const std::string& text) const {
    CHECK(write_file_atomically(local_files(), directory_ / name, text).ok());
  }
  std::string read(const std::string& name) const { return *read_file(local_files(), directory_ / name); }

 private:
  TemporaryDirectory directory_;
};

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
  for (const auto& event : trace.at("traceEvents")) {
    if (event.at("ph") != "X") continue;
    ++spans;
    double& end = ends[{event.at("pid"), event.at("tid")}];
    EXPECT_GE(event.at("ts").get<double>(), end - 0.01);  // microseconds, rounded
    end = event.at("ts").get<double>() + event.at("dur").get<double>();
  }
  EXPECT_GT(spans, 8 * 2 * 122) << "8 stages, 122 microbatches, forward and backward";
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
