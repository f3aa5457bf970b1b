#include "train/ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "train/testing_ranks.h"

namespace colossus {
namespace {

// Every rank's parameters, and what it was told.
struct Outcome {
  std::vector<Losses> losses;
  std::vector<std::map<std::string, std::vector<std::byte>>> parameters;
};

Outcome train_on(const TinyData& data, const RunConfig& run) {
  Outcome outcome;
  outcome.parameters.resize(static_cast<size_t>(run.mesh.num_ranks()));
  outcome.losses = train_on_ranks(
      data, run, std::numeric_limits<int64_t>::max(), [&](size_t rank, const Trainer& trainer, Device& device) {
        for (const ParameterSpec& spec : *parameter_table(trainer.config().model))
          outcome.parameters[rank][spec.name] = bytes_of_tensor(device, trainer.tensors().at(spec.name));
      });
  return outcome;
}

RunConfig run_of_eight_leaves(const TinyData& data, const std::string& out, Family family, OptimizerKind optimizer) {
  RunConfig run = tiny_run(data, out, family);
  run.train.steps = 6;
  run.train.batch = 16;
  run.train.reduction_leaves = 8;
  run.train.checkpoint_every = 0;
  run.optimizer.kind = optimizer;
  return run;
}

struct Layout {
  int64_t data, shard;
};

class Layouts : public testing::TestWithParam<std::tuple<Family, OptimizerKind>> {};

TEST_P(Layouts, HaveTheBitsOfOneRank) {
  const auto [family, optimizer] = GetParam();
  const TinyData data;
  const RunConfig run = run_of_eight_leaves(data, "one", family, optimizer);
  const Outcome alone = train_on(data, run);
  const Losses& one = alone.losses.front();
  ASSERT_EQ(one.steps.size(), 6u);
  ASSERT_EQ(one.evaluations.size(), 2u);
  for (const Layout& layout : {Layout{2, 1}, {3, 1}, {8, 1}, {1, 2}, {1, 3}, {1, 5}, {1, 8}, {2, 2}, {2, 3}, {4, 2}}) {
    SCOPED_TRACE(testing::Message() << layout.data << " x " << layout.shard);
    RunConfig other = run;
    other.out = data / "other";
    ASSERT_TRUE(local_files().remove_all(other.out).ok());
    other.mesh = {.data = layout.data, .shard = layout.shard};
    const Outcome outcome = train_on(data, other);
    for (const Losses& losses : outcome.losses) {
      EXPECT_EQ(losses.steps, one.steps);
      EXPECT_EQ(losses.evaluations, one.evaluations);
    }
    for (const auto& parameters : outcome.parameters) EXPECT_TRUE(parameters == alone.parameters.front());
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Layouts,
                         testing::Combine(testing::Values(Family::kGrok1, Family::kGrok2, Family::kLlama,
                                                          Family::kGpt2),
                                          testing::Values(OptimizerKind::kAdamW, OptimizerKind::kMuon)));

// What the programs say a step sends is what it sends.
TEST(Traffic, OfAStepIsThatOfItsPrograms) {
  const TinyData data;
  for (const MeshConfig& mesh :
       {MeshConfig{.data = 2, .shard = 2},
        {.shard = 3, .tensor = 2},
        {.data = 2, .context = 2, .pipeline = 2},
        {.shard = 2, .tensor = 2, .pipeline = 2, .schedule = PipelineScheduleKind::kZeroBubble}}) {
    SCOPED_TRACE(testing::Message() << mesh.data << " " << mesh.shard << " " << mesh.tensor << " " << mesh.pipeline);
    RunConfig run = run_of_eight_leaves(data, "run", Family::kLlama, OptimizerKind::kMuon);
    run.model.vocab_size = 64;
    run.train.tokens = run.model.context;
    run.mesh = mesh;
    auto ranks = make_thread_ranks(Mesh(mesh), 60);
    std::vector<std::thread> threads;
    for (auto& own : ranks)
      threads.emplace_back([&run, &data, &own = *own] {
        const auto device = *make_cpu_device({.num_threads = 1, .pin = false});
        const auto step = *TrainStep::create(run, DType::kF32, *device, own);
        initialize_parameters(*device, step->model().table, step->parameters(), 1);
        const auto loader = *Loader::open(local_files(), {{data.shards()}}, {.row_tokens = 16, .rows_per_step = 16});
        StepReport report;
        const Result<bool> done = step->run(0, loader, {.stop = std::atomic<bool>(false)}, report);
        ASSERT_TRUE(done.ok()) << done.status().message();
        const auto leaves = leaves_of_data_ranks(8, own)[static_cast<size_t>(own.data_rank())];
        double said = total_cost(step->update().program()).bytes_sent;
        for (const Executable* executable : step->microbatches().executables())
          said += static_cast<double>(leaves.size()) * total_cost(executable->program()).bytes_sent;
        double sent = 0;
        for (const auto& [group, end] : own.groups.ends()) sent += static_cast<double>(end->traffic().sent_bytes);
        EXPECT_GT(sent, 0);
        EXPECT_EQ(said, sent) << "rank " << own.rank;
      });
    for (std::thread& thread : threads) thread.join();
  }
}

}  // namespace
}  // namespace colossus
