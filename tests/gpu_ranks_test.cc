// Runs of the trainer on several GPUs: along data, shard and pipeline they have the bits of one GPU, along the other
// axes its losses but for rounding.

#include <gtest/gtest.h>

#include "device/cuda/cuda_device.h"
#include "device_of_test.h"
#include "io/config.h"
#include "train/testing_ranks.h"

namespace colossus {
namespace {

constexpr double kLossTolerance = 2e-5, kNormTolerance = 2e-4;

std::unique_ptr<Device> gpu_of(int rank) {
  auto device = make_cuda_device({.index = rank});
  CHECK(device.ok(), device.ok() ? "" : device.status().message().c_str());
  return std::move(*device);
}

struct Layout {
  const char* name;
  Family family;
  MeshConfig mesh;
  bool same_bits;
};
void PrintTo(const Layout& layout, std::ostream* out) { *out << layout.name; }

class GpuRanks : public testing::TestWithParam<Layout> {
 protected:
  RunConfig run_on(const std::string& out, const MeshConfig& mesh) const {
    RunConfig run = tiny_run(data_, out, GetParam().family);
    run.model.num_layers = 2;
    run.model.num_kv_heads = 4;
    run.train.steps = 3;
    run.train.batch = 8;
    run.train.microbatch = 2;
    run.train.reduction_leaves = 4;
    run.train.evaluate_every = 0;
    run.train.checkpoint_every = 0;
    run.mesh = mesh;
    return run;
  }

  const TinyData data_;
};

TEST_P(GpuRanks, HaveTheLossesOfOneGpu) {
  const Layout& layout = GetParam();
  if (!make_cuda_device({.index = static_cast<int>(layout.mesh.num_ranks()) - 1}).ok())
    GTEST_SKIP() << "not as many GPUs here";
  const auto train = [&](const char* out, const MeshConfig& mesh) {
    return train_on_ranks(data_, run_on(out, mesh), std::numeric_limits<int64_t>::max(), nullptr, {}, gpu_of);
  };
  const std::vector<Losses> alone = train("one", {});
  const Losses& one = alone.front();
  const std::vector<Losses> ranks = train("ranks", layout.mesh);
  ASSERT_EQ(one.steps.size(), 3u);
  for (const Losses& rank : ranks) {
    ASSERT_EQ(rank.steps.size(), one.steps.size());
    if (layout.same_bits) {
      EXPECT_EQ(rank.steps, one.steps);
      continue;
    }
    for (size_t i = 0; i < one.steps.size(); ++i)
      EXPECT_NEAR(rank.steps[i][0], one.steps[i][0], kLossTolerance * one.steps[i][0]) << "loss of step " << i;
    EXPECT_NEAR(rank.steps[0][2], one.steps[0][2], kNormTolerance * one.steps[0][2]);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, GpuRanks,
    testing::Values(
        Layout{"data", Family::kLlama, {.data = 2}, true}, Layout{"shard", Family::kGrok1, {.shard = 4}, true},
        Layout{"zero_2", Family::kLlama, {.shard = 2, .zero_stage = 2}, true},
        Layout{"zero_3", Family::kGpt2, {.shard = 2, .zero_stage = 3}, true},
        Layout{"pipeline", Family::kGpt2, {.data = 2, .pipeline = 2}, true},
        Layout{"zero_bubble", Family::kLlama, {.pipeline = 2, .schedule = PipelineScheduleKind::kZeroBubble}, true},
        Layout{"tensor", Family::kLlama, {.shard = 2, .tensor = 2}, false},
        Layout{"context", Family::kLlama, {.context = 2}, false},
        Layout{"expert", Family::kGrok1, {.shard = 2, .expert = 2}, false},
        Layout{"expert_tensor", Family::kGrok1, {.tensor = 2, .expert_tensor = 2}, false}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace colossus
