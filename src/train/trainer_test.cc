#include "train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "device/cpu/cpu_device.h"
#include "io/faulty_files.h"
#include "train/testing.h"

namespace colossus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using State = std::map<std::string, std::vector<std::byte>>;

// Keeps what it is told, and does something after each step.
class Recorder final : public TrainObserver {
 public:
  std::vector<StepReport> steps;
  std::vector<EvaluationReport> evaluations;
  std::vector<int64_t> checkpoints;
  std::vector<std::string> notes;
  std::function<void(const StepReport&)> after_step;

  void on_step(const StepReport& report) override {
    steps.push_back(report);
    if (after_step) after_step(report);
  }
  void on_evaluation(const EvaluationReport& report) override { evaluations.push_back(report); }
  void on_checkpoint(int64_t step) override { checkpoints.push_back(step); }
  void on_note(const std::string& text) override { notes.push_back(text); }
};

// A trainer with what it needs around it.
struct Session {
  std::unique_ptr<Device> device;
  Recorder recorder;
  std::atomic<bool> stop = false;
  std::unique_ptr<Trainer> trainer;
  Status created;

  Session(const TinyData& data, const RunConfig& run, int num_threads = 1, FileSystem& files = local_files())
      : device(*make_cpu_device({.num_threads = num_threads})) {
    auto made = Trainer::create(run, files, *device, data.tokenizer_json(), recorder);
    created = made.status();
    if (made.ok()) trainer = std::move(*made);
  }

  Result<TrainResult> run() { return trainer->run(stop); }
  State state() const { return state_of(*device, trainer->tensors()); }
  void stop_after(int64_t step) {
    recorder.after_step = [this, step](const StepReport& report) {
      if (report.step == step) stop = true;
    };
  }
  // A value that is not finite in one parameter, and back.
  float replace_first(const std::string& name, float value) {
    const TensorSet::Entry& entry = trainer->tensors().at(name);
    float old_value = 0;
    device->read(*entry.memory, entry.offset_bytes, writable_bytes_of(old_value));
    device->write(*entry.memory, entry.offset_bytes, bytes_of(value));
    return old_value;
  }
};

// metrics.jsonl without what depends on the clock.
std::vector<std::string> metrics_of(const RunConfig& run) {
  const auto text = read_file(local_files(), run.out + "/metrics.jsonl");
  CHECK(text.ok(), text.status().message().c_str());
  std::vector<std::string> lines;
  for (size_t at = 0; at < text->size();) {
    const size_t end = text->find('\n', at);
    auto line = nlohmann::json::parse(text->substr(at, end - at));
    for (const char* timed : {"time", "speed/tokens_per_second", "speed/step_seconds"}) line.erase(timed);
    lines.push_back(line.dump());
    at = end + 1;
  }
  return lines;
}

struct Outcome {
  State state;
  std::vector<std::string> metrics;
  double validation_loss = 0;
};

Outcome finish_run(Session& session, const RunConfig& run) {
  CHECK(session.created.ok(), session.created.message().c_str());
  const auto result = session.run();
  CHECK(result.ok(), result.status().message().c_str());
  CHECK(result->reason == StopReason::kFinished && result->step == run.train.steps);
  return {session.state(), metrics_of(run), result->final_evaluation.loss};
}

Outcome straight_run(const TinyData& data, const RunConfig& run, int num_threads = 1) {
  Session session(data, run, num_threads);
  return finish_run(session, run);
}

void expect_equal(const Outcome& got, const Outcome& expected) {
  EXPECT_EQ(got.metrics, expected.metrics);
  EXPECT_EQ(got.validation_loss, expected.validation_loss);
  ASSERT_EQ(got.state.size(), expected.state.size());
  for (const auto& [name, bytes] : expected.state) EXPECT_TRUE(got.state.at(name) == bytes) << name;
}

std::string newest_checkpoint(const RunConfig& run) {
  return list_checkpoints(local_files(), run.out + "/checkpoints")->back();
}

struct ResumeCase {
  const char* name;
  OptimizerKind optimizer;
  Family family;
  ComputeType compute;
  bool async;
};

RunConfig resume_run(const TinyData& data, const ResumeCase& c, const std::string& out) {
  RunConfig run = tiny_run(data, out, c.family);
  run.model.dropout = 0.1;
  run.optimizer.kind = c.optimizer;
  run.train.compute = c.compute;
  run.train.async_checkpoints = c.async;
  run.train.keep_last = 10;
  run.data.document_mask = true;
  return run;
}

class Resume : public testing::TestWithParam<ResumeCase> {};

std::vector<int64_t> evaluated_steps(const RunConfig& run) {
  std::vector<int64_t> steps;
  std::istringstream lines(*read_file(local_files(), run.out + "/metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    if (json.contains("validation/loss")) steps.push_back(json["step"]);
  }
  return steps;
}

TEST(Trainer, AnEvaluationThatWasStoppedIsMadeUpForAndNoneIsToldTwice) {
  const TinyData data;
  const RunConfig run = tiny_run(data, "stopped");  // evaluates after steps 5 and 10
  {
    Session session(data, run);
    session.stop_after(5);
    EXPECT_EQ(session.run()->step, 5);
  }
  EXPECT_THAT(evaluated_steps(run), ElementsAre());
  for (int calls = 0; calls < 2; ++calls) {
    Session session(data, run);
    EXPECT_EQ(session.run()->reason, StopReason::kFinished);
    EXPECT_THAT(evaluated_steps(run), ElementsAre(5, 10));
  }
}

// Stopped and gone on, at a checkpoint or between two: as if it had never stopped.
TEST_P(Resume, IsBitEqualToNeverHavingStopped) {
  const TinyData data;
  const Outcome expected = straight_run(data, resume_run(data, GetParam(), "straight"));
  const RunConfig run = resume_run(data, GetParam(), "stopped");
  for (const int64_t stop_at : {3, 8}) {
    Session session(data, run);
    ASSERT_TRUE(session.created.ok()) << session.created.message();
    session.stop_after(stop_at);
    const auto result = session.run();
    ASSERT_TRUE(result.ok()) << result.status().message();
    EXPECT_EQ(result->reason, StopReason::kInterrupted);
    EXPECT_EQ(result->step, stop_at);
    EXPECT_THAT(newest_checkpoint(run), HasSubstr("step-0000000" + std::to_string(stop_at)));
  }
  Session last(data, run);
  ASSERT_TRUE(last.created.ok()) << last.created.message();
  EXPECT_EQ(last.trainer->step(), 8);
  expect_equal(finish_run(last, run), expected);
}

// The process dies at step 10 and its checkpoint with it: the steps from 8 on are done again, and are in the metrics
// once.
TEST_P(Resume, GoesBackAfterALoss) {
  const TinyData data;
  const RunConfig run = resume_run(data, GetParam(), "killed");
  const Outcome expected = straight_run(data, run);
  ASSERT_TRUE(local_files().remove_all(newest_checkpoint(run)).ok());
  Session session(data, run);
  ASSERT_TRUE(session.created.ok()) << session.created.message();
  EXPECT_EQ(session.trainer->step(), 8);
  expect_equal(finish_run(session, run), expected);
}

INSTANTIATE_TEST_SUITE_P(
    Runs, Resume,
    testing::Values(ResumeCase{"adamw", OptimizerKind::kAdamW, Family::kGrok1, ComputeType::kF32, true},
                    ResumeCase{"muon", OptimizerKind::kMuon, Family::kGrok2, ComputeType::kF32, false},
                    ResumeCase{"bf16", OptimizerKind::kMuon, Family::kLlama, ComputeType::kBF16, true}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Trainer, LearnsAndReports) {
  const TinyData data;
  RunConfig run = tiny_run(data, "run");
  run.train.steps = 60;
  Session session(data, run);
  const Outcome outcome = finish_run(session, run);
  const Recorder& seen = session.recorder;
  ASSERT_EQ(seen.steps.size(), 60u);
  EXPECT_LT(seen.steps.back().loss, 0.75 * seen.steps.front().loss);
  EXPECT_NEAR(seen.steps.front().loss, std::log(session.trainer->config().model.vocab_size), 1.5);
  EXPECT_GT(seen.steps.front().aux_loss, 0);
  EXPECT_EQ(seen.steps.front().num_tokens, 8 * 16);
  EXPECT_EQ(seen.evaluations.size(), 12u);
  EXPECT_EQ(seen.evaluations.back().evaluation.loss, outcome.validation_loss);
  EXPECT_EQ(seen.evaluations.back().evaluation.num_tokens, 64);
  EXPECT_TRUE(seen.notes.empty());
  EXPECT_EQ(outcome.metrics.size(), 60u + 12u);
  EXPECT_TRUE(local_files().stat(run.out + "/config.toml").ok());
  EXPECT_TRUE(local_files().stat(run.out + "/tokenizer.json").ok());
}

TEST(Trainer, BitsDoNotDependOnThreads) {
  const TinyData data;
  for (const ComputeType compute : {ComputeType::kF32, ComputeType::kBF16}) {
    std::optional<Outcome> expected;
    for (const int num_threads : {1, 2, 3}) {
      RunConfig run =
          tiny_run(data, "threads" + std::to_string(num_threads) + (compute == ComputeType::kF32 ? "f32" : "bf16"),
                   Family::kGrok2);
      run.train.compute = compute;
      run.train.steps = 4;
      run.optimizer.kind = OptimizerKind::kMuon;
      run.model.dropout = 0.1;
      const Outcome outcome = straight_run(data, run, num_threads);
      if (!expected) expected = outcome;
      expect_equal(outcome, *expected);
    }
  }
}

TEST(Trainer, BitsDoNotDependOnRecomputation) {
  const TinyData data;
  for (const Family family : {Family::kGrok1, Family::kGrok2, Family::kLlama, Family::kGpt2}) {
    std::optional<Outcome> expected;
    for (const Recompute policy : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
      RunConfig run = tiny_run(
          data, "recompute" + std::string(recompute_name(policy)) + std::to_string(static_cast<int>(family)), family);
      run.train.recompute = policy;
      run.train.steps = 3;
      run.model.dropout = 0.2;
      run.train.compute = ComputeType::kBF16;
      const Outcome outcome = straight_run(data, run);
      if (!expected) expected = outcome;
      expect_equal(outcome, *expected);
    }
  }
}

TEST(Trainer, SeedsAndDropoutMatter) {
  const TinyData data;
  std::vector<State> states;
  for (int variant = 0; variant < 3; ++variant) {
    RunConfig run = tiny_run(data, "variant" + std::to_string(variant));
    run.train.steps = 2;
    if (variant == 1) run.train.seed = 2;
    if (variant == 2) run.model.dropout = 0.1;
    states.push_back(straight_run(data, run).state);
  }
  EXPECT_NE(states[0], states[1]);
  EXPECT_NE(states[0], states[2]);
}

// A step whose loss is not finite changes nothing, says so, and the run goes on when the numbers are good again.
TEST(Trainer, SkipsStepsThatAreNotFinite) {
  const TinyData data;
  const RunConfig run = tiny_run(data, "run");
  Session session(data, run);
  ASSERT_TRUE(session.created.ok());
  float good = 0;
  State before;
  session.recorder.after_step = [&](const StepReport& report) {
    if (report.step == 3) {
      good = session.replace_first("final_norm", std::numeric_limits<float>::quiet_NaN());
      before = session.state();
    }
    if (report.step == 4 || report.step == 5) {
      EXPECT_TRUE(report.skipped);
      EXPECT_FALSE(std::isfinite(report.loss));
      EXPECT_TRUE(session.state() == before) << report.step;
    }
    if (report.step == 5) session.replace_first("final_norm", good);
    if (report.step > 5) {
      EXPECT_FALSE(report.skipped);
    }
  };
  const auto result = session.run();
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_EQ(result->step, 10);
  ASSERT_EQ(session.recorder.notes.size(), 2u);
  EXPECT_THAT(session.recorder.notes[0], HasSubstr("step 4 skipped"));
  // Step 4 was due for a checkpoint, but is not one of the good ones.
  EXPECT_THAT(session.recorder.checkpoints, ElementsAre(8, 10));
  EXPECT_TRUE(std::isfinite(result->final_evaluation.loss));
}

TEST(Trainer, StopsAfterTooManySkippedStepsAndKeepsTheLastGoodCheckpoint) {
  const TinyData data;
  RunConfig run = tiny_run(data, "run");
  run.train.max_skipped_steps = 3;
  run.train.steps = 20;
  State good;
  {
    Session session(data, run);
    ASSERT_TRUE(session.created.ok());
    session.recorder.after_step = [&](const StepReport& report) {
      if (report.step == 4) good = session.state();
      if (report.step == 6) session.replace_first("layers.1.attn.q", std::numeric_limits<float>::infinity());
    };
    const auto result = session.run();
    ASSERT_FALSE(result.ok());
    EXPECT_THAT(result.status().message(),
                AllOf(HasSubstr("[step 9] 3 steps in a row"), HasSubstr("step 4 is intact")));
    EXPECT_EQ(session.recorder.steps.size(), 9u);
  }
  const auto paths = *list_checkpoints(local_files(), run.out + "/checkpoints");
  ASSERT_EQ(paths.size(), 1u);
  EXPECT_TRUE(Checkpoint::open(local_files(), paths[0])->verify().ok());
  Session again(data, run);
  ASSERT_TRUE(again.created.ok()) << again.created.message();
  EXPECT_EQ(again.trainer->step(), 4);
  EXPECT_TRUE(again.state() == good);
}

TEST(Trainer, RefusesToGoOnAsAnotherRun) {
  const TinyData data;
  const RunConfig run = tiny_run(data, "run");
  straight_run(data, run);
  const auto refused = [&](const std::function<void(RunConfig&)>& change) {
    RunConfig changed = run;
    change(changed);
    const Session session(data, changed);
    return session.created.message();
  };
  EXPECT_THAT(refused([](RunConfig& r) { r.optimizer.learning_rate = 0.25; }),
              AllOf(HasSubstr("another run"), HasSubstr("now: learning_rate = 0.25")));
  EXPECT_THAT(refused([](RunConfig& r) { r.train.seed = 77; }),
              AllOf(HasSubstr("saved: seed = 1"), HasSubstr("now: seed = 77")));
  EXPECT_THAT(refused([](RunConfig& r) { r.model.width = 32; }), HasSubstr("now: width = 32"));
  EXPECT_THAT(refused([](RunConfig& r) { r.train.reduction_leaves = 4; }), HasSubstr("now: reduction_leaves = 4"));
  EXPECT_THAT(refused([](RunConfig& r) { r.train.compute = ComputeType::kBF16; }), HasSubstr("compute"));
  // What changes no bits may change.
  EXPECT_EQ(refused([](RunConfig& r) {
              r.train.threads = 2;
              r.train.evaluate_every = 1;
              r.train.checkpoint_every = 1;
              r.train.recompute = Recompute::kFull;
              r.train.keep_last = 7;
              r.train.max_seconds = 1e6;
            }),
            "");
}

void damage(const std::string& path) {
  std::string bytes = *read_file(local_files(), path);
  bytes[bytes.size() - 5] = static_cast<char>(bytes[bytes.size() - 5] ^ 4);
  CHECK(write_file_atomically(local_files(), path, bytes).ok());
}

TEST(Trainer, PassesOverADamagedCheckpoint) {
  const TinyData data;
  RunConfig run = tiny_run(data, "run");
  run.train.keep_last = 10;
  const Outcome expected = straight_run(data, run);
  damage(newest_checkpoint(run) + "/optimizer.safetensors");
  {
    Session session(data, run);
    ASSERT_TRUE(session.created.ok()) << session.created.message();
    EXPECT_EQ(session.trainer->step(), 8);
    ASSERT_EQ(session.recorder.notes.size(), 1u);
    EXPECT_THAT(session.recorder.notes[0],
                AllOf(HasSubstr("passed over"), HasSubstr("step-00000010"), HasSubstr("altered")));
    // The checkpoint of step 10 is written over the damaged one.
    expect_equal(finish_run(session, run), expected);
    EXPECT_TRUE(Checkpoint::open(local_files(), newest_checkpoint(run))->verify().ok());
  }
  const auto paths = *list_checkpoints(local_files(), run.out + "/checkpoints");
  ASSERT_EQ(paths.size(), 3u);
  for (const std::string& path : paths) damage(path + "/manifest.json");
  const Session none(data, run);
  EXPECT_EQ(none.created.code(), ErrorCode::kCorrupt);
  EXPECT_THAT(none.created.message(), HasSubstr("--fresh"));
}

TEST(Trainer, ADiskThatFillsUpEndsTheRunAndLeavesTheLastCheckpoint) {
  const TinyData data;
  for (const bool async : {true, false}) {
    RunConfig run = tiny_run(data, async ? "async" : "waiting");
    run.train.async_checkpoints = async;
    run.train.checkpoint_every = 3;
    FaultyFiles files(local_files());
    Session session(data, run, 1, files);
    ASSERT_TRUE(session.created.ok()) << session.created.message();
    session.recorder.after_step = [&](const StepReport& report) {
      if (report.step == 7) files.arm(0, Fault::kDiskFull);
    };
    const auto result = session.run();
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.status().code(), ErrorCode::kExhausted);
    session.trainer.reset();
    files.arm(0, Fault::kNone);
    Session again(data, run);
    ASSERT_TRUE(again.created.ok()) << again.created.message();
    // Step 3 was on the disk before the save of step 6 began; that one may have been under way.
    EXPECT_GE(again.trainer->step(), async ? 3 : 6);
  }
}

TEST(Trainer, StopsWhenItsTimeIsUp) {
  const TinyData data;
  RunConfig run = tiny_run(data, "run");
  run.train.max_seconds = 1e-9;
  Session session(data, run);
  const auto result = session.run();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->reason, StopReason::kOutOfTime);
  EXPECT_EQ(result->step, 1);
  EXPECT_GT(result->final_evaluation.loss, 0);
  EXPECT_THAT(newest_checkpoint(run), HasSubstr("step-00000001"));
}

TEST(Trainer, AStopBeforeTheFirstStepIsARunToo) {
  const TinyData data;
  const RunConfig run = tiny_run(data, "run");
  Session session(data, run);
  session.stop = true;
  const auto result = session.run();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->step, 0);
  const State initial = session.state();
  Session again(data, run);
  EXPECT_EQ(again.trainer->step(), 0);
  EXPECT_TRUE(again.state() == initial);
}

TEST(Trainer, NeedsData) {
  const TinyData data;
  RunConfig run = tiny_run(data, "run");
  run.data.sources.clear();
  EXPECT_THAT(Session(data, run).created.message(), HasSubstr("data.sources"));
  run.data.sources = {{.path = data / "nowhere"}};
  EXPECT_THAT(Session(data, run).created.message(), HasSubstr("nowhere"));
}

// The last batch of an evaluation is filled up with rows that do not count.
TEST(Evaluator, CountsEachRowOnce) {
  const TinyData data;
  const RunConfig run = tiny_run(data, "run");
  Session session(data, run);
  ASSERT_TRUE(session.created.ok());
  const Trainer& trainer = *session.trainer;
  std::vector<double> losses;
  for (const int64_t batch : {1, 4}) {
    const auto loader =
        Loader::open(local_files(), {{data.shards()}},
                     {.row_tokens = 16, .rows_per_step = batch, .split = kValidationSplit, .shuffle = false});
    ASSERT_TRUE(loader.ok());
    auto evaluator =
        Evaluator::create(*session.device, trainer.tensors(), trainer.config().model, {.batch = batch, .tokens = 16});
    ASSERT_TRUE(evaluator.ok());
    for (const int64_t max_tokens : {int64_t{16 * 5}, int64_t{16 * 5 - 3}, int64_t{0}}) {
      const auto evaluation = (*evaluator)->run(*loader, max_tokens);
      ASSERT_TRUE(evaluation.ok());
      EXPECT_EQ(evaluation->num_tokens, max_tokens == 0 ? 16 * loader->rows_per_epoch() : 16 * 5);
      losses.push_back(evaluation->loss);
    }
    const std::atomic<bool> stop = true;
    EXPECT_EQ((*evaluator)->run(*loader, 0, &stop).status().code(), ErrorCode::kInterrupted);
  }
  EXPECT_NE(losses[0], losses[2]);
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(losses[i], losses[i + 3], 1e-6 * losses[i]);
}

TEST(TrainState, AnotherModelsCheckpointIsRefused) {
  const TinyData data;
  const RunConfig run = tiny_run(data, "run");
  Session session(data, run);
  finish_run(session, run);
  const auto checkpoint = Checkpoint::open(local_files(), newest_checkpoint(run));
  ASSERT_TRUE(checkpoint.ok());
  const auto load = [&](const std::function<void(ModelConfig&)>& change) {
    ModelConfig model = session.trainer->config().model;
    change(model);
    const auto device = *make_cpu_device({.num_threads = 1});
    std::vector<StatePart> parts;
    for (const ParameterSpec& spec : *parameter_table(model))
      parts.push_back({.name = spec.name,
                       .whole = spec.shape,
                       .piece = whole_piece(spec.shape),
                       .memory = *device->allocate(4 * spec.shape.num_elements())});
    return load_parts(*device, *parameter_table(model), parts, *checkpoint).message();
  };
  EXPECT_EQ(load([](ModelConfig&) {}), "");
  EXPECT_THAT(load([](ModelConfig& m) { m.expert_width = 32; }),
              AllOf(HasSubstr("[4, 16, 24]"), HasSubstr("[4, 16, 32]")));
  EXPECT_THAT(load([](ModelConfig& m) { m.num_layers = 3; }), HasSubstr("has no tensor layers.2."));
  EXPECT_THAT(load([](ModelConfig& m) { m.num_layers = 1; }), HasSubstr("tensors"));
}

// A rank's parts: the upper half of the embedding's rows, half of each expert's columns, the rest whole.
TEST(TrainState, PartsOfACheckpointAreLoaded) {
  const TinyData data;
  const RunConfig run = tiny_run(data, "run");
  Session session(data, run);
  finish_run(session, run);
  const State whole = session.state();
  const auto checkpoint = Checkpoint::open(local_files(), newest_checkpoint(run));
  ASSERT_TRUE(checkpoint.ok());

  ModelConfig part = session.trainer->config().model;
  ASSERT_EQ(part.vocab_size % 2, 0);
  part.vocab_size /= 2;
  part.expert_width /= 2;
  const auto device = *make_cpu_device({.num_threads = 1});
  TensorSet tensors;
  ASSERT_TRUE(tensors.add_role(*device, *write_loss_program(part, {}), Role::kParameter).ok());
  std::vector<StatePart> parts;
  for (const auto& [name, entry] : tensors.entries()) {
    const Shape& shape = checkpoint->find("model", name)->shape;
    Slice slice{.shape = entry.type.shape};
    for (int d = 0; d < shape.rank(); ++d) slice.begin[static_cast<size_t>(d)] = shape[d] - entry.type.shape[d];
    parts.push_back({.name = name, .whole = shape, .piece = whole_piece(slice), .memory = entry.memory});
  }
  const Status loaded = load_parts(*device, *parameter_table(part), parts, *checkpoint);
  ASSERT_TRUE(loaded.ok()) << loaded.message();
  const State held = state_of(*device, tensors);
  int num_cut = 0;
  for (const StatePart& part_held : parts) {
    num_cut += part_held.whole == part_held.piece.slice.shape ? 0 : 1;
    const auto& bytes = held.at(part_held.name);
    std::vector<std::byte> expected(bytes.size());
    for_each_common_run(whole_piece(part_held.whole), part_held.piece,
                        [&, &all = whole.at(part_held.name)](int64_t from, int64_t to, int64_t n) {
                          std::copy_n(all.begin() + from * 4, n * 4, expected.begin() + to * 4);
                        });
    EXPECT_EQ(bytes, expected) << part_held.name;
  }
  EXPECT_GE(num_cut, 1 + 2 * 3);
}

}  // namespace
}  // namespace colossus
