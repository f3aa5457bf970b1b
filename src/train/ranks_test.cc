#include "train/ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "device/cpu/cpu_device.h"
#include "train/testing.h"

namespace colossus {
namespace {

class Losses final : public TrainObserver {
 public:
  std::vector<std::array<double, 3>> steps;  // loss, auxiliary loss, gradient norm
  std::vector<double> evaluations;
  void on_step(const StepReport& report) override { steps.push_back({report.loss, report.aux_loss, report.grad_norm}); }
  void on_evaluation(const EvaluationReport& report) override { evaluations.push_back(report.evaluation.loss); }
};

struct Outcome {
  Losses losses;
  std::map<std::string, std::vector<std::byte>> parameters;
};

// Every rank's outcome.
std::vector<Outcome> train_on(const TinyData& data, const RunConfig& run) {
  const Mesh mesh(run.mesh);
  auto ranks = make_thread_ranks(mesh, 60);
  std::vector<Outcome> outcomes(ranks.size());
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < ranks.size(); ++rank)
    threads.emplace_back([&, rank] {
      const auto device = *make_cpu_device({.num_threads = 1, .pin = false});
      auto trainer = Trainer::create(run, local_files(), *device, data.tokenizer_json(), outcomes[rank].losses,
                                     std::move(ranks[rank]));
      ASSERT_TRUE(trainer.ok()) << trainer.status().message();
      const auto result = (*trainer)->run(false);
      ASSERT_TRUE(result.ok()) << result.status().message();
      for (const ParameterSpec& spec : *parameter_table((*trainer)->config().model)) {
        const TensorSet::Entry& entry = (*trainer)->tensors().at(spec.name);
        auto& bytes = outcomes[rank].parameters[spec.name];
        bytes.resize(static_cast<size_t>(entry.type.num_bytes()));
        device->read(*entry.memory, entry.offset_bytes, bytes);
      }
    });
  for (std::thread& thread : threads) thread.join();
  return outcomes;
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
  const Outcome one = std::move(train_on(data, run).front());
  ASSERT_EQ(one.losses.steps.size(), 6u);
  ASSERT_EQ(one.losses.evaluations.size(), 2u);
  for (const Layout& layout : {Layout{2, 1}, {3, 1}, {8, 1}, {1, 2}, {1, 3}, {1, 5}, {1, 8}, {2, 2}, {2, 3}, {4, 2}}) {
    SCOPED_TRACE(testing::Message() << layout.data << " x " << layout.shard);
    RunConfig other = run;
    other.out = data / "other";
    ASSERT_TRUE(local_files().remove_all(other.out).ok());
    other.mesh = {.data = layout.data, .shard = layout.shard};
    for (const Outcome& outcome : train_on(data, other)) {
      EXPECT_EQ(outcome.losses.steps, one.losses.steps);
      EXPECT_EQ(outcome.losses.evaluations, one.losses.evaluations);
      EXPECT_TRUE(outcome.parameters == one.parameters);
    }
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
