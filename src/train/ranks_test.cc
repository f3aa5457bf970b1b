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

}  // namespace
}  // namespace colossus
