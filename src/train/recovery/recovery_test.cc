// Runs whose ranks are lost, by threads: what the ranks that remain remember is enough to go on with the same bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "device/cpu/cpu_device.h"
#include "train/recovery/state_keeper.h"
#include "train/testing.h"

namespace colossus {
namespace {

struct Line {
  double loss, grad_norm;
  bool operator==(const Line&) const = default;
};

// The last that was said of each step.
class Curve final : public TrainObserver {
 public:
  std::map<int64_t, Line> steps;
  std::map<int64_t, double> evaluations;
  std::function<void(int64_t)> after_step;
  void on_step(const StepReport& report) override {
    steps[report.step] = {report.loss, report.grad_norm};
    if (after_step) after_step(report.step);
  }
  void on_evaluation(const EvaluationReport& report) override { evaluations[report.step] = report.evaluation.loss; }
};

// One life of a run: from a start or a restart to its end, or until a rank is lost at a step.
struct Life {
  MeshConfig mesh;
  int64_t lost_rank = -1;
  int64_t lost_after_step = 0;
};

struct Outcome {
  Curve curve;
  std::vector<int64_t> first_steps;  // the first step of each life, on rank 0
  std::vector<std::byte> parameters;
};

Outcome live(const TinyData& data, RunConfig run, const std::vector<Life>& lives) {
  Outcome outcome;
  std::vector<std::unique_ptr<StateKeeper>> keepers;
  for (const Life& life : lives) {
    run.mesh = life.mesh;
    const auto num_ranks = static_cast<size_t>(Mesh(life.mesh).size());
    keepers.resize(num_ranks);
    for (auto& keeper : keepers)
      if (!keeper) keeper = std::make_unique<StateKeeper>();
    auto ranks = make_thread_ranks(Mesh(life.mesh), 60);
    std::vector<std::thread> threads;
    int64_t first_step = -1;
    for (size_t rank = 0; rank < num_ranks; ++rank)
      threads.emplace_back([&, rank] {
        const auto device = *make_cpu_device({.num_threads = 1, .pin = false});
        Curve own;
        std::atomic<bool> stop = false;
        RankGroups* groups = &ranks[rank]->groups;
        const bool is_lost = static_cast<int64_t>(rank) == life.lost_rank;
        own.after_step = [&](int64_t step) {
          if (rank == 0 && first_step < 0) first_step = step;
          if (is_lost && step == life.lost_after_step) {
            groups->abort("lost");
            keepers[rank]->abort("lost");
          }
        };
        auto trainer = Trainer::create(run, local_files(), *device, data.tokenizer_json(), own, std::move(ranks[rank]),
                                       keepers[rank].get());
        ASSERT_TRUE(trainer.ok()) << trainer.status().message();
        const auto result = (*trainer)->run(stop);
        EXPECT_EQ(result.ok(), life.lost_rank < 0) << result.status().message();
        // What rank 0 said before it was lost stands, or was said again.
        if (rank != 0) return;
        for (const auto& [step, line] : own.steps) outcome.curve.steps[step] = line;
        for (const auto& [step, loss] : own.evaluations) outcome.curve.evaluations[step] = loss;
        if (!result.ok()) return;
        const TensorSet::Entry& entry = (*trainer)->tensors().at("parameters.0");
        outcome.parameters.resize(static_cast<size_t>(entry.type.num_bytes()));
        device->read(*entry.memory, 0, outcome.parameters);
      });
    for (std::thread& thread : threads) thread.join();
    outcome.first_steps.push_back(first_step);
    if (life.lost_rank >= 0) keepers[static_cast<size_t>(life.lost_rank)].reset();
  }
  return outcome;
}

RunConfig twelve_steps(const TinyData& data, const std::string& out) {
  RunConfig run = tiny_run(data, out);
  run.train.steps = 12;
  run.train.batch = 16;
  run.train.reduction_leaves = 8;
  run.train.checkpoint_every = 0;
  return run;
}

void expect_equal(const Outcome& a, const Outcome& b) {
  EXPECT_TRUE(a.curve.steps == b.curve.steps);
  EXPECT_TRUE(a.curve.evaluations == b.curve.evaluations);
  EXPECT_TRUE(a.parameters == b.parameters);
  EXPECT_EQ(a.curve.steps.size(), 12u);
}

TEST(Recovery, ALostRankCostsAtMostOneStep) {
  const TinyData data;
  const Outcome alone = live(data, twelve_steps(data, "alone"), {{.mesh = {.shard = 4}}});
  for (const int64_t lost : {0, 2}) {
    RunConfig run = twelve_steps(data, "lost" + std::to_string(lost));
    const Outcome recovered = live(data, run, {{{.shard = 4}, lost, 3}, {{.shard = 4}, 3 - lost, 7}, {{.shard = 4}}});
    expect_equal(recovered, alone);
    // The report of the step that was done is given again; nothing older is.
    EXPECT_THAT(recovered.first_steps, testing::ElementsAre(1, testing::AnyOf(2, 3), testing::AnyOf(6, 7)));
  }
}

TEST(Recovery, TheRunShrinksAndGrows) {
  const TinyData data;
  const Outcome alone = live(data, twelve_steps(data, "alone"), {{.mesh = {.shard = 4}}});
  const Outcome recovered = live(data, twelve_steps(data, "other"),
                                 {{{.shard = 4}, 3, 2},
                                  {{.shard = 3}, 2, 4},
                                  {{.data = 2}, 1, 6},
                                  {{.data = 2, .shard = 3}, 5, 9},
                                  {{.shard = 8}}});
  expect_equal(recovered, alone);
  using testing::AnyOf;
  EXPECT_THAT(recovered.first_steps, testing::ElementsAre(1, AnyOf(1, 2), AnyOf(3, 4), AnyOf(5, 6), AnyOf(8, 9)));
}

// What a rank has of the parameters is what it updates: from its copies whole layers come together again.
TEST(Recovery, ARankThatHeldAPieceOfEverythingIsReplaced) {
  const TinyData data;
  const auto mesh = [](int64_t of_data, int64_t shard) {
    return MeshConfig{.data = of_data, .shard = shard, .zero_stage = 3};
  };
  const Outcome alone = live(data, twelve_steps(data, "alone"), {{.mesh = mesh(1, 4)}});
  const Outcome whole = live(data, twelve_steps(data, "whole"), {{.mesh = {.shard = 4}}});
  EXPECT_TRUE(alone.curve.steps == whole.curve.steps);
  EXPECT_TRUE(alone.curve.evaluations == whole.curve.evaluations);
  const Outcome recovered =
      live(data, twelve_steps(data, "other"),
           {{mesh(1, 4), 2, 2}, {mesh(1, 4), 3, 4}, {mesh(2, 2), 3, 6}, {mesh(1, 2), 1, 9}, {mesh(1, 4)}});
  expect_equal(recovered, alone);
  using testing::AnyOf;
  EXPECT_THAT(recovered.first_steps, testing::ElementsAre(1, AnyOf(1, 2), AnyOf(3, 4), AnyOf(5, 6), AnyOf(8, 9)));
}

// Slices of matrices, experts, and stages: what a rank has is where the new layout wants it, on other ranks maybe.
TEST(Recovery, AModelCutOverRanksGoesOn) {
  const TinyData data;
  const Outcome alone = live(data, twelve_steps(data, "alone"), {{.mesh = {.tensor = 2, .expert = 2}}});
  const auto mesh = [](int64_t of_data, int64_t shard, int64_t pipeline) {
    return MeshConfig{.data = of_data, .shard = shard, .tensor = 2, .expert = 2, .pipeline = pipeline};
  };
  const Outcome recovered =
      live(data, twelve_steps(data, "other"),
           {{mesh(1, 1, 2), 3, 2}, {mesh(1, 2, 2), 5, 4}, {mesh(2, 1, 2), 0, 7}, {mesh(2, 2, 2)}});
  EXPECT_TRUE(recovered.curve.steps == alone.curve.steps);
  EXPECT_TRUE(recovered.curve.evaluations == alone.curve.evaluations);
  EXPECT_EQ(recovered.curve.steps.size(), 12u);
  using testing::AnyOf;
  EXPECT_THAT(recovered.first_steps, testing::ElementsAre(1, AnyOf(1, 2), AnyOf(3, 4), AnyOf(6, 7)));
}

// Two neighbours lost at once: a rank and the one that has its copy. Memory does not suffice; the checkpoint does.
TEST(Recovery, WhatNobodyRemembersIsReadFromTheCheckpoint) {
  const TinyData data;
  const Outcome alone = live(data, twelve_steps(data, "alone"), {{.mesh = {.shard = 4}}});
  RunConfig run = twelve_steps(data, "other");
  run.train.checkpoint_every = 4;
  // Three ranks, of which two go: one by the fault, its peer because the run shrinks.
  const Outcome recovered = live(data, run, {{{.shard = 3}, 1, 6}, {{.shard = 2}}});
  EXPECT_EQ(recovered.first_steps[1], 5);
  expect_equal(recovered, alone);
}

}  // namespace
}  // namespace colossus
