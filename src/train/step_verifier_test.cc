// Runs in which every step is verified, by threads: nobody is accused who computes right, and whoever has a wrong bit
// is named before it is added to anything.
#include "train/step_verifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "train/testing_ranks.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;

RunConfig verified(const TinyData& data, const std::string& out, Family family, const MeshConfig& mesh) {
  RunConfig run = tiny_run(data, out, family);
  run.train.steps = 4;
  run.train.batch = 16;
  run.train.reduction_leaves = 8;
  run.train.checkpoint_every = 0;
  run.train.verify_every = 1;
  run.mesh = mesh;
  return run;
}

class NoFalseAlarm : public testing::TestWithParam<Family> {};

TEST_P(NoFalseAlarm, InAnyLayoutAndTheCurveIsTheSame) {
  const TinyData data;
  using enum PipelineScheduleKind;
  std::vector<MeshConfig> meshes = {{},
                                    {.shard = 2},
                                    {.shard = 3},  // of leaves 3, 3 and 2
                                    {.data = 2, .shard = 2},
                                    {.shard = 3, .tensor = 2},
                                    {.shard = 2, .context = 2},
                                    {.shard = 3, .pipeline = 2},
                                    {.shard = 2, .pipeline = 2, .schedule = kZeroBubble}};
  if (GetParam() == Family::kGrok1)
    for (const MeshConfig& mesh : {MeshConfig{.shard = 4, .expert = 2}, {.data = 2, .tensor = 2, .expert = 4}})
      meshes.push_back(mesh);
  int number = 0;
  for (const MeshConfig& mesh : meshes) {
    SCOPED_TRACE(number);
    RunConfig run = verified(data, "verified" + std::to_string(number), GetParam(), mesh);
    const auto with = train_on_ranks(data, run);
    run.out = data / ("plain" + std::to_string(number++));
    run.train.verify_every = 0;
    const auto without = train_on_ranks(data, run);
    EXPECT_EQ(with.front().steps.size(), 4u);
    EXPECT_EQ(with.front().steps, without.front().steps);
    EXPECT_EQ(with.front().evaluations, without.front().evaluations);
  }
}

INSTANTIATE_TEST_SUITE_P(Verification, NoFalseAlarm, testing::Values(Family::kLlama, Family::kGrok1));

struct Outcome {
  std::vector<Status> status;
  std::vector<std::vector<int64_t>> wrong;
  std::vector<int64_t> steps;
};

// After step 2 a bit of `wrong_rank`'s parameters flips.
Outcome damage(const TinyData& data, const RunConfig& run, size_t wrong_rank) {
  class Damage final : public TrainObserver {
   public:
    std::function<void(int64_t)> after_step;
    void on_step(const StepReport& report) override { after_step(report.step); }
  };
  auto ranks = make_thread_ranks(Mesh(run.mesh), 60);
  Outcome outcome;
  outcome.status.resize(ranks.size());
  outcome.wrong.resize(ranks.size());
  outcome.steps.resize(ranks.size());
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < ranks.size(); ++rank)
    threads.emplace_back([&, rank] {
      const auto device = *make_cpu_device({.num_threads = 1, .pin = false});
      Damage observer;
      auto trainer =
          Trainer::create(run, local_files(), *device, data.tokenizer_json(), observer, std::move(ranks[rank]));
      ASSERT_TRUE(trainer.ok()) << trainer.status().message();
      observer.after_step = [&](int64_t step) {
        if (rank != wrong_rank || step != 2) return;
        const TensorSet::Entry& scale = (*trainer)->tensors().at("layers.0.attn_norm");
        uint32_t bits = 0;
        device->read(*scale.memory, scale.offset_bytes, writable_bytes_of(bits));
        bits ^= uint32_t{1} << 22;
        device->write(*scale.memory, scale.offset_bytes, bytes_of(bits));
      };
      const std::atomic<bool> stop = false;
      outcome.status[rank] = (*trainer)->run(stop).status();
      outcome.wrong[rank] = (*trainer)->wrong_ranks();
      outcome.steps[rank] = (*trainer)->step();
    });
  for (std::thread& thread : threads) thread.join();
  return outcome;
}

TEST(StepVerifier, ARankWithAWrongBitIsNamedBeforeTheUpdate) {
  const TinyData data;
  for (const auto& [mesh, wrong, named] :
       {std::tuple{MeshConfig{.shard = 4}, size_t{2}, std::vector<int64_t>{2}},
        {MeshConfig{.shard = 4}, size_t{0}, std::vector<int64_t>{0}},
        {MeshConfig{.data = 3}, size_t{1}, std::vector<int64_t>{1}},
        {MeshConfig{.shard = 3, .pipeline = 2}, size_t{1}, std::vector<int64_t>{1, 4}}}) {
    SCOPED_TRACE(wrong);
    RunConfig run = verified(data, "damaged", Family::kGrok1, mesh);
    ASSERT_TRUE(local_files().remove_all(run.out).ok());
    const Outcome outcome = damage(data, run, wrong);
    EXPECT_THAT(outcome.wrong, Each(named)) << outcome.status.front().message();
    EXPECT_THAT(outcome.steps, Each(2)) << "nothing was updated with them";
    for (const Status& status : outcome.status) {
      EXPECT_EQ(status.code(), ErrorCode::kUnavailable);
      EXPECT_THAT(status.message(), AllOf(HasSubstr("[step 3]"), HasSubstr("computed wrong numbers")));
    }
  }
}

TEST(StepVerifier, OfTwoNobodyIsNamed) {
  const TinyData data;
  const Outcome outcome = damage(data, verified(data, "two", Family::kLlama, {.shard = 2}), 1);
  EXPECT_THAT(outcome.wrong, Each(IsEmpty()));
  EXPECT_THAT(outcome.steps, Each(2));
  for (const Status& status : outcome.status) {
    EXPECT_EQ(status.code(), ErrorCode::kInvalid);
    EXPECT_THAT(status.message(), HasSubstr("ranks 0, 1 contradict each other"));
  }
}

// Copies along `data` are each updated on their own, and stay different.
TEST(StepVerifier, LooksWhenItIsTold) {
  const TinyData data;
  RunConfig run = verified(data, "later", Family::kLlama, {.data = 3});
  run.train.verify_every = 4;
  run.train.steps = 6;
  const Outcome outcome = damage(data, run, 1);
  EXPECT_THAT(outcome.steps, Each(3));
  EXPECT_THAT(outcome.wrong, Each(std::vector<int64_t>{1}));
}

}  // namespace
}  // namespace colossus
