// The binary as people use it: from text to a model that answers, and what happens when a run is stopped, killed or out
// of disk on the way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "workplace.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr int kInterruptedExitCode = 130;
constexpr int kExhaustedExitCode = 4;

int64_t num_lines(const std::string& path) {
  const auto text = read_file(local_files(), path);
  return text.ok() ? std::count(text->begin(), text->end(), '\n') : 0;
}

TEST(Command, TakesTextToAModelThatAnswers) {
  const Workplace place;
  const Outcome encoded = place.must_succeed({"tokenizer", "encode", "tok.json"}, "the captain saw the sea");
  EXPECT_EQ(place.must_succeed({"tokenizer", "decode", "tok.json"}, encoded.out).out, "the captain saw the sea");
  EXPECT_EQ(place.read("shards/tokenizer.json"), place.read("tok.json"));
  EXPECT_THAT(place.must_succeed({"data", "inspect", "shards"}).out, HasSubstr("all checksums hold"));

  const Outcome trained = place.must_succeed(Workplace::train("run"));
  EXPECT_THAT(trained.err, AllOf(HasSubstr("done after step 300"), HasSubstr("colossus generate run")));
  EXPECT_EQ(trained.out, "");

  // Twenty words, each of about three tokens, the rest certain: far below the 5.8 nats of a uniform guess.
  const Outcome measured = place.must_succeed({"eval", "loss", "run", "--data", "shards", "--json"});
  const size_t at = measured.out.find("\"nats_per_token\":");
  ASSERT_NE(at, std::string::npos) << measured.out;
  EXPECT_LT(std::stod(measured.out.substr(at + 17)), 3.5);
  EXPECT_THAT(measured.out, HasSubstr("xz9_bits_per_byte"));

  const std::vector<std::string> generate = {"generate", "run", "--prompt", "the captain", "--max-tokens", "20"};
  const Outcome generated = place.must_succeed(generate);
  EXPECT_THAT(generated.out, testing::StartsWith("the captain"));
  EXPECT_GT(generated.out.size(), 20u);
  EXPECT_EQ(place.must_succeed(generate).out, generated.out);  // the seed is fixed unless given
  const Outcome several = place.must_succeed({"generate", "run", "--prompt", "the", "--prompt", "a ship", "--json",
                                              "--max-tokens", "5", "--temperature", "0"});
  EXPECT_EQ(std::count(several.out.begin(), several.out.end(), '\n'), 2);
  // From the beginning of a text, which is what no prompt means too.
  const Outcome empty = place.must_succeed({"generate", "run", "--prompt", "", "--max-tokens", "20"});
  EXPECT_GT(empty.out.size(), 10u);
  EXPECT_EQ(place.must_succeed({"generate", "run", "--max-tokens", "20"}).out, empty.out);

  const Outcome chatted =
      place.must_succeed({"chat", "run", "--max-tokens", "10"}, "the sea\n/reset\na ship\n/quit\nnot read\n");
  EXPECT_GE(std::count(chatted.out.begin(), chatted.out.end(), '\n'), 2);
  EXPECT_THAT(chatted.err, IsEmpty());
  EXPECT_THAT(place.must_succeed({"program", "show", "run/checkpoints/step-00000300/model.toml"}).out,
              HasSubstr("parameters"));
}

TEST(Command, ProgramShowHasTheExchangesAndGathersOfZero) {
  const Workplace place;
  const auto shown = [&](const std::string& zero_stage, const std::string& kind = "train") {
    return place
        .must_succeed({"program", "show", std::string(COLOSSUS_SOURCE_DIR) + "/configs/models/llama-3-8b.toml", "--seq",
                       "256", "--mesh", "shard=4", "--mesh", zero_stage, "--rank", "1", "--kind", kind})
        .out;
  };
  EXPECT_THAT(shown("zero_stage=1"), Not(HasSubstr("= exchange_pieces(")));
  EXPECT_THAT(shown("zero_stage=1", "last"), HasSubstr("= exchange_pieces("));
  EXPECT_THAT(shown("zero_stage=2"),
              AllOf(HasSubstr("zeros() size="), HasSubstr("= exchange_pieces(gradients."),
                    HasSubstr("data+shard+context+tensor.gradients"), Not(HasSubstr("collect_pieces"))));
  EXPECT_THAT(shown("zero_stage=3"), AllOf(HasSubstr("= collect_pieces(parameters."), HasSubstr("tensor.parameters")));
}

TEST(Command, CheckpointsAreShownVerifiedAndMadeIntoOne) {
  const Workplace place;
  place.must_succeed(Workplace::train("run", {"--set", "train.steps=100"}));
  const std::string newest = place.newest_checkpoint("run");
  for (const std::string& path : {std::string("run"), newest})
    EXPECT_THAT(place.must_succeed({"checkpoint", "show", path}).out,
                AllOf(HasSubstr(newest), HasSubstr("step             100\n"), HasSubstr("nats/token"),
                      HasSubstr("model.safetensors"), HasSubstr("optimizer.safetensors"), HasSubstr("model/embedding"),
                      HasSubstr("[300, 32]"), HasSubstr("1 piece\n")));
  EXPECT_THAT(place.must_succeed({"checkpoint", "verify", newest}).out,
              AllOf(HasSubstr("in 2 files"), HasSubstr("all checksums hold")));

  place.must_succeed({"checkpoint", "consolidate", "run", "model", "--model-only"});
  EXPECT_EQ(place.shell("ls model | tr '\\n' ' '").out,
            "config.toml manifest.json model.safetensors model.toml tokenizer.json ");
  EXPECT_EQ(place.must_succeed({"generate", "model", "--max-tokens", "20"}).out,
            place.must_succeed({"generate", "run", "--max-tokens", "20"}).out);
  const Outcome again = place.run({"checkpoint", "consolidate", "run", "model"});
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_THAT(again.err, HasSubstr("[model] is there already"));
}

TEST(Command, CtrlCSavesAndTheNextCallEndsWithTheSameLosses) {
  const Workplace place;
  place.must_succeed(Workplace::train("whole"));
  for (const int signal : {SIGINT, SIGTERM}) {
    SCOPED_TRACE(signal);
    const std::string out = signal == SIGINT ? "ctrl-c" : "terminated";
    Process process(place.command(Workplace::train(out)), place.directory());
    ASSERT_TRUE(process.wait_until([&] { return num_lines(place.path(out + "/metrics.jsonl")) >= 15; }));
    process.send(signal);
    const Outcome stopped = process.wait();
    EXPECT_EQ(stopped.exit_code, kInterruptedExitCode);
    EXPECT_THAT(stopped.err, AllOf(HasSubstr("stopped after step"), HasSubstr("go on with: colossus train run.toml")));
    const Outcome resumed = place.must_succeed(Workplace::train(out));
    EXPECT_THAT(resumed.err, AllOf(HasSubstr("resuming"), HasSubstr("done after step 300")));
    EXPECT_EQ(place.losses(out), place.losses("whole"));
  }
  // A third call has nothing left to do and changes nothing.
  const Outcome again = place.must_succeed(Workplace::train("ctrl-c"));
  EXPECT_THAT(again.err, HasSubstr("done after step 300"));
}

TEST(Command, KilledRunsGoOnFromTheirLastCheckpoint) {
  const Workplace place;
  place.must_succeed(Workplace::train("whole"));
  // Wherever it is killed: while steps run, and while checkpoints are written.
  for (int kills = 0; kills < 4; ++kills) {
    Process process(place.command(Workplace::train("killed")), place.directory());
    const int64_t enough = num_lines(place.path("killed/metrics.jsonl")) / 2 + 35 + 7 * kills;
    ASSERT_TRUE(process.wait_until([&] { return num_lines(place.path("killed/metrics.jsonl")) >= enough; }));
    process.send(SIGKILL);
    EXPECT_EQ(process.wait().exit_code, 128 + SIGKILL);
  }
  const Outcome resumed = place.must_succeed(Workplace::train("killed"));
  EXPECT_THAT(resumed.err, HasSubstr("resuming"));
  EXPECT_EQ(place.losses("killed"), place.losses("whole"));
}

// The other machine is not there and never will be.
TEST(Command, AMachineThatComesWhenAllIsTrainedEnds) {
  const Workplace place;
  const std::vector<std::string> two_ranks = {
      "--set", "train.steps=4", "--set", "train.microbatch=2", "--set", "train.reduction_leaves=2", "--ranks", "2"};
  place.must_succeed(Workplace::train("run", two_ranks));
  std::vector<std::string> late = two_ranks;
  late.insert(late.end(), {"--machines", "2", "--machine", "late", "--outcome", "outcome"});
  EXPECT_THAT(place.must_succeed(Workplace::train("run", late)).err, HasSubstr("run has all 4 steps"));
  EXPECT_EQ(place.read("outcome"), "outcome finished\n");
}

TEST(Command, ARunWithOtherSettingsIsNotMixedIn) {
  const Workplace place;
  const std::vector<std::string> short_run = {"--set", "train.steps=20"};
  place.must_succeed(Workplace::train("run", short_run));
  const Outcome other = place.run(Workplace::train("run", {"--set", "train.steps=20", "--set", "model.width=64"}));
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.err, AllOf(HasSubstr("another run"), HasSubstr("width"), HasSubstr("--fresh")));
  place.must_succeed(Workplace::train("run", {"--set", "train.steps=20", "--set", "model.width=64", "--fresh"}));
}

// Its 50 ms more for each microbatch are several times what the microbatch takes.
TEST(Command, ASlowRankGetsFewerLeavesAndTheCurveIsTheSame) {
  const Workplace place;
  const std::vector<std::string> run = {"--set", "train.steps=12",       "--set", "train.microbatch=1",
                                        "--set", "train.balance_every=4"};
  place.must_succeed(Workplace::train("alone", run));
  std::vector<std::string> shared = run;
  shared.insert(shared.end(), {"--ranks", "2"});
  ::setenv("COLOSSUS_FAULT_OF_RANK", "1:slow:microbatch:1", 1);
  const Outcome outcome = place.must_succeed(Workplace::train("shared", shared));
  ::unsetenv("COLOSSUS_FAULT_OF_RANK");
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("step 4: data rank 1 takes "), HasSubstr("it gets 1 of 4 leaves")));
  EXPECT_EQ(place.losses("shared"), place.losses("alone"));
}

// By step, from the first.
std::vector<double> step_seconds(const std::string& metrics) {
  std::vector<double> seconds;
  std::istringstream lines(metrics);
  for (std::string line; std::getline(lines, line);)
    if (const auto fields = nlohmann::json::parse(line); fields.contains("speed/step_seconds"))
      seconds.push_back(fields["speed/step_seconds"]);
  return seconds;
}

class SlowStage : public testing::TestWithParam<const char*> {};

// Each of its programs takes 50 ms more. The other stage of its data rank waits for it, and is not slow itself.
TEST_P(SlowStage, ItsPipelineGetsFewerLeavesAndTheCurveIsTheSame) {
  const Workplace place;
  std::vector<std::string> run;
  for (const char* setting : {"train.steps=12", "train.batch=8", "train.microbatch=1", "train.reduction_leaves=8",
                              "train.balance_every=4", "train.evaluate_every=6", "model.num_layers=2"})
    run.insert(run.end(), {"--set", setting});
  place.must_succeed(Workplace::train("alone", run));
  const std::string schedule = GetParam();
  for (const std::string& setting :
       {std::string("mesh.data=2"), std::string("mesh.pipeline=2"), "mesh.schedule=\"" + schedule + "\"",
        std::string("mesh.chunks=") + (schedule == "interleaved" ? "2" : "1")})
    run.insert(run.end(), {"--set", setting});
  ::setenv("COLOSSUS_FAULT_OF_RANK", "3:slow:microbatch:1", 1);
  const Outcome outcome = place.must_succeed(Workplace::train("shared", run));
  ::unsetenv("COLOSSUS_FAULT_OF_RANK");
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("step 4: data rank 1 takes "),
                                 HasSubstr("because of rank 3 (stage 1): it gets 1 of 8 leaves"),
                                 Not(HasSubstr("rank 1 (stage 0)"))));
  EXPECT_EQ(place.losses("shared"), place.losses("alone"));
  const std::vector<double> seconds = step_seconds(place.read("shared/metrics.jsonl"));
  ASSERT_EQ(seconds.size(), 12u);
  const double before = *std::min_element(seconds.begin(), seconds.begin() + 4),
               after = *std::min_element(seconds.begin() + 4, seconds.end());
  EXPECT_LT(after, 0.6 * before);
}

INSTANTIATE_TEST_SUITE_P(Command, SlowStage, testing::Values("1f1b", "interleaved", "zero_bubble"),
                         [](const auto& info) { return "With_" + std::string(info.param); });

// Experts see the tokens of all data ranks, so leaves cannot be shared otherwise; who is slow is said all the same.
TEST(Command, ASlowRankIsNamedWhereSharesStayEqual) {
  const Workplace place;
  std::vector<std::string> run;
  for (const char* setting :
       {"train.steps=12", "train.microbatch=1", "train.balance_every=4", "mesh.shard=2", "mesh.expert=2"})
    run.insert(run.end(), {"--set", setting});
  ::setenv("COLOSSUS_FAULT_OF_RANK", "1:slow:microbatch:1", 1);
  const Outcome outcome = place.must_succeed(Workplace::train("run", run));
  ::unsetenv("COLOSSUS_FAULT_OF_RANK");
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("step 4: rank 1 takes "), HasSubstr("data ranks keep equal shares"),
                                 Not(HasSubstr("rank 0 takes"))));
}

TEST(Command, MoreRanksThanLeavesAreRefusedWithWhatWouldDo) {
  const Workplace place;
  for (const char* ranks : {"5", "100000"}) {
    const Outcome outcome = place.run(Workplace::train("run", {"--ranks", ranks, "--set", "train.microbatch=1"}));
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.err, HasSubstr("use 4 ranks or fewer"));
  }
  EXPECT_FALSE(local_files().stat(place.path("run")).ok());
}

// The table of --memory, in bytes: the last that was printed. "peak": what the process really had.
std::map<std::string, double> memory_printed(const std::string& err) {
  std::map<std::string, double> bytes;
  const auto quantity = [](const std::string& text) {
    double value = 0;
    char prefix = 0;
    std::sscanf(text.c_str(), "%lf %c", &value, &prefix);
    return value * (prefix == 'G' ? 1e9 : prefix == 'M' ? 1e6 : prefix == 'k' ? 1e3 : 1);
  };
  std::istringstream lines(err);
  for (std::string line; std::getline(lines, line);) {
    const size_t end = line.find("B  ");
    if (!line.starts_with("  ") || end == std::string::npos) continue;
    const std::string what = line.substr(end + 3);
    bytes[what.substr(0, what.find(';'))] = quantity(line);
    if (const size_t peak = what.find("peak so far "); peak != std::string::npos)
      bytes["peak"] = quantity(what.substr(peak + 12));
  }
  return bytes;
}

TEST(Command, ZeroTakesAsMuchLessMemoryAsItPrints) {
  const Workplace place;
  std::map<int, std::map<std::string, double>> of_stage;
  for (const int stage : {1, 2, 3}) {
    std::vector<std::string> words = {"--ranks", "2", "--memory"};
    for (const char* setting :
         {"model.num_layers=4", "model.width=512", "model.expert_width=512", "model.tie_embeddings=false",
          "train.steps=2", "train.microbatch=1", "train.compute=\"f32\"", "train.async_checkpoints=false"})
      words.insert(words.end(), {"--set", setting});
    words.insert(words.end(), {"--set", "mesh.zero_stage=" + std::to_string(stage)});
    of_stage[stage] = memory_printed(place.must_succeed(Workplace::train("zero" + std::to_string(stage), words)).err);
    ASSERT_GT(of_stage[stage]["in all"], 0);
  }
  auto &one = of_stage[1], &two = of_stage[2], &three = of_stage[3];
  EXPECT_NEAR(two["gradients"] / one["gradients"], 0.5, 0.02);
  EXPECT_NEAR(two["partial sums of gradients"] / one["partial sums of gradients"], 0.5, 0.02);
  EXPECT_EQ(two["parameters"], one["parameters"]);
  EXPECT_NEAR(three["parameters"] / one["parameters"], 0.5, 0.02);
  EXPECT_EQ(three["gradients"], two["gradients"]);
  EXPECT_EQ(three["optimizer state"], one["optimizer state"]);
  EXPECT_EQ(three["weights packed for the device"], 0);
  // What the process has beside the table is the same each time.
  EXPECT_NEAR((one["peak"] - two["peak"]) / (one["in all"] - two["in all"]), 1, 0.2);
  EXPECT_NEAR((two["peak"] - three["peak"]) / (two["in all"] - three["in all"]), 1, 0.2);
}

TEST(Command, ATraceHasTheStepsOfAllRanks) {
  const Workplace place;
  place.must_succeed(Workplace::train("run", {"--ranks", "2", "--set", "train.steps=5", "--set", "train.microbatch=1",
                                              "--trace", "run/trace.json", "--trace-steps", "2:3"}));
  const auto trace = nlohmann::json::parse(place.read("run/trace.json"));
  std::set<std::pair<int, int>> steps;  // process, step
  for (const auto& event : trace.at("traceEvents"))
    if (event.at("name") == "step") steps.emplace(event.at("pid"), event.at("args").at("step"));
  EXPECT_THAT(steps, testing::ElementsAre(std::pair(0, 2), std::pair(0, 3), std::pair(1, 2), std::pair(1, 3)));
}

TEST(Command, ATraceThatCannotBeIsSaidBeforeTheRun) {
  const Workplace place;
  const auto said = [&](const std::vector<std::string>& words) {
    const Outcome outcome = place.run(Workplace::train("run", words));
    EXPECT_NE(outcome.exit_code, 0);
    EXPECT_FALSE(local_files().stat(place.path("run/metrics.jsonl")).ok());
    return outcome.err;
  };
  EXPECT_THAT(said({"--trace", "t.json", "--trace-steps", "3:2"}), HasSubstr("such as 3:6"));
  EXPECT_THAT(said({"--trace-steps", "2:3"}), HasSubstr("give --trace FILE"));
  EXPECT_THAT(said({"--trace", "nowhere/t.json"}), HasSubstr("nowhere/t.json"));
}

// A file system of its own, full in the middle of the run. Nothing that was saved is lost, and with room the run goes
// on.
TEST(Command, AFullDiskIsSaidAndNothingIsLost) {
  const Workplace place;
  place.must_succeed(Workplace::train("whole", {"--set", "train.steps=40"}));
  const std::string train =
      std::string(COLOSSUS_BINARY) + " train run.toml --data shards --out disk/run --set train.steps=40";
  const Outcome mounted =
      place.shell("unshare -rm sh -c 'mkdir -p disk && mount -t tmpfs -o size=1m none disk' 2>/dev/null");
  if (mounted.exit_code != 0) GTEST_SKIP() << "this system lets nobody but root mount a file system";
  place.write("full.sh", "mkdir -p disk && mount -t tmpfs -o size=2m none disk\n" + train +
                             " --set train.max_seconds=0.001 2>first.txt; echo first $?\n" +
                             "dd if=/dev/zero of=disk/filler bs=1k 2>/dev/null\n" + train +
                             " 2>full.txt; echo full $?\n" +
                             "ls disk/run/checkpoints | tr '\\n' ' '; echo\nrm disk/filler\n" + train +
                             " 2>again.txt; echo again $?\n" + "cp -r disk/run saved\n");
  const Outcome outcome = place.shell("unshare -rm sh full.sh");
  SCOPED_TRACE(outcome.out + outcome.err + place.read("first.txt") + place.read("full.txt") + place.read("again.txt"));
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("first 0\n"), HasSubstr("full " + std::to_string(kExhaustedExitCode) + "\n"),
                                 HasSubstr("step-00000001"), HasSubstr("again 0\n")));
  EXPECT_THAT(place.read("full.txt"), AllOf(HasSubstr("No space left"), HasSubstr("free some space")));
  EXPECT_EQ(place.losses("saved").back(), place.losses("whole").back());
}

// The same at every size a file may have, which needs no rights: each attempt is refused with a message, and the
// checkpoint there was is still read.
TEST(Command, AFileSizeLimitIsSaidAndNothingIsLost) {
  const Workplace place;
  place.must_succeed(Workplace::train("run", {"--set", "train.steps=10", "--set", "train.max_seconds=0.001"}));
  const std::string kept = place.newest_checkpoint("run");
  const std::string train =
      std::string(COLOSSUS_BINARY) + " train run.toml --data shards --out run --set train.steps=10";
  for (const int blocks : {1, 8, 40}) {  // of 512 bytes; a checkpoint is larger
    SCOPED_TRACE(blocks);
    const Outcome refused = place.shell("ulimit -f " + std::to_string(blocks) + "; exec " + train);
    EXPECT_EQ(refused.exit_code, kExhaustedExitCode) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("File too large"));
    EXPECT_EQ(place.newest_checkpoint("run"), kept);
    place.must_succeed({"generate", "run", "--max-tokens", "1"});
  }
  EXPECT_THAT(place.must_succeed(Workplace::train("run", {"--set", "train.steps=10"})).err,
              HasSubstr("done after step 10"));
  const Outcome tokenizer = place.shell(std::string("ulimit -f 1; exec ") + COLOSSUS_BINARY +
                                        " tokenizer train --vocab 300 --out new.json text.txt");
  EXPECT_EQ(tokenizer.exit_code, kExhaustedExitCode) << tokenizer.err;
  EXPECT_FALSE(local_files().stat(place.path("new.json")).ok());
}

TEST(Command, OutputThatCannotBeWrittenIsAnError) {
  const Workplace place;
  const Outcome full = place.shell(std::string(COLOSSUS_BINARY) + " tokenizer encode tok.json text.txt >/dev/full");
  EXPECT_EQ(full.exit_code, 6);
  EXPECT_THAT(full.err, HasSubstr("standard output"));
}

}  // namespace
}  // namespace colossus
