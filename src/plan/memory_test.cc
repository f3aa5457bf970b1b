#include "plan/memory.h"

#include <gtest/gtest.h>

#include <mutex>

#include "io/config.h"
#include "train/testing_ranks.h"

namespace colossus {
namespace {

ModelConfig small_model(Family family, bool tied) {
  ModelConfig model = tiny_model(family);
  model.num_layers = 4;
  model.width = 64;
  model.num_heads = 4;
  model.num_kv_heads = 2;
  model.head_dim = 16;
  model.expert_width = 128;
  if (model.ffn_width > 0) model.ffn_width = 192;
  model.context = 256;
  model.tie_embeddings = tied;
  return model;
}

// Of a real rank, as RankMemory.
struct Held {
  double weights = 0, gradients = 0, optimizer = 0, stashes = 0, arena = 0;
  double total() const { return weights + gradients + optimizer + stashes + arena; }
};
Held held_by(const Trainer& trainer) {
  Held held;
  for (const MemoryLine& line : trainer.memory_table()) {
    const auto bytes = static_cast<double>(line.bytes);
    if (line.what == "parameters") held.weights = bytes;
    if (line.what == "gradients" || line.what == "partial sums of gradients") held.gradients += bytes;
    if (line.what == "optimizer state") held.optimizer = bytes;
    if (line.what == "activations and scratch") held.arena = bytes;
    if (line.what == "activations of microbatches in flight") held.stashes = bytes;
  }
  return held;
}

const std::vector<MeshConfig>& meshes() {
  using enum PipelineScheduleKind;
  static const std::vector<MeshConfig> all = {
      {},
      {.data = 2},
      {.shard = 2},
      {.tensor = 2},
      {.context = 2},
      {.pipeline = 2},
      {.pipeline = 3},
      {.pipeline = 4},
      {.pipeline = 2, .chunks = 2, .schedule = kInterleaved},
      {.pipeline = 2, .schedule = kZeroBubble},
      {.data = 2, .pipeline = 2},
      {.shard = 2, .tensor = 2, .pipeline = 2},
      {.shard = 2, .expert = 2},
      {.tensor = 2, .expert_tensor = 2},
      {.shard = 2, .tensor = 2, .expert = 2},
      {.shard = 2, .zero_stage = 2},
      {.shard = 2, .zero_stage = 3},
      {.data = 2, .shard = 2, .zero_stage = 2, .tensor = 2},
      {.shard = 2, .zero_stage = 3, .context = 2},
      {.shard = 2, .zero_stage = 2, .pipeline = 2},
      {.shard = 2, .zero_stage = 3, .pipeline = 2},
      {.shard = 2, .zero_stage = 2, .expert = 2},
  };
  return all;
}

// The rank that holds most.
Held most_of(const TinyData& data, RunConfig& run) {
  Held most;
  std::mutex mutex;
  train_on_ranks(data, run, 1, [&](size_t, const Trainer& trainer, Device&) {
    const Held held = held_by(trainer);
    const std::lock_guard lock(mutex);
    run.model.vocab_size = trainer.config().model.vocab_size;
    if (held.total() > most.total()) most = held;
  });
  return most;
}

class Memory : public testing::TestWithParam<std::tuple<Family, bool>> {};

// What a plan says is what runs take, kind by kind.
TEST_P(Memory, IsThatOfRealRanks) {
  const auto [family, tied] = GetParam();
  const TinyData data(tiny_text(1000));
  for (const MeshConfig& mesh : meshes()) {
    RunConfig run = tiny_run(data, "run", family);
    run.model = small_model(family, tied);
    if (mesh.expert * mesh.expert_tensor > 1 && run.model.num_experts == 0) continue;
    ASSERT_TRUE(local_files().remove_all(run.out).ok());
    // Of ZeRO's stages 2 and 3 what a pass holds grows evenly from three layers of a piece on.
    if (mesh.zero_stage > 1 && mesh.pipeline > 1) run.model.num_layers = 3 * mesh.pipeline;
    run.mesh = mesh;
    SCOPED_TRACE(testing::Message() << "data " << mesh.data << " shard " << mesh.shard << " context " << mesh.context
                                    << " tensor " << mesh.tensor << " pipeline " << mesh.pipeline << " expert "
                                    << mesh.expert << " chunks " << mesh.chunks << " ZeRO " << mesh.zero_stage);
    run.train.steps = 1;
    run.train.batch = 8;
    run.train.reduction_leaves = mesh.zero_stage > 1 ? run.train.batch / run.train.microbatch : mesh.data * mesh.shard;
    run.train.checkpoint_every = 0;
    const Held held = most_of(data, run);
    const Layout layout{.mesh = mesh,
                        .batch = run.train.batch,
                        .microbatch = run.train.microbatch,
                        .tokens = run.model.context,
                        .products = ProductType::kF32};
    const auto pieces = write_rank_pieces(run.model, layout, {}, processor_workspace);
    ASSERT_TRUE(pieces.ok()) << pieces.status().message();
    const auto planned = memory_of(run.model, layout, *pieces, StateBytes{});
    ASSERT_TRUE(planned.ok()) << planned.status().message();
    // Pieces of the update begin at whole pages; ZeRO 2 and 3 have buckets for each layer.
    const double rounding = 4.0 * 4096 * (mesh.zero_stage > 1 ? 4 : 1);
    EXPECT_NEAR(planned->weights, held.weights, rounding);
    EXPECT_NEAR(planned->gradients, held.gradients, rounding);
    EXPECT_NEAR(planned->optimizer, held.optimizer, rounding);
    EXPECT_EQ(planned->stashes, held.stashes);
    // What is on its way to other ranks at the ends of a piece does not grow quite evenly.
    EXPECT_NEAR(planned->arena / held.arena, 1, 0.01);
    EXPECT_NEAR(planned->total() / held.total(), 1, mesh.zero_stage > 1 ? 0.01 : 0.005);
  }
}

// Short sequences of a wide model: nothing takes as much room as the update's buckets on their way.
TEST(MemoryOfTheUpdate, CountsWhereActivationsAreSmall) {
  const TinyData data(tiny_text(1000));
  for (const MeshConfig& mesh : {MeshConfig{.data = 2}, {.shard = 2}, {.shard = 2, .tensor = 2}}) {
    SCOPED_TRACE(print_config(mesh));
    RunConfig run = tiny_run(data, "run", Family::kLlama);
    ASSERT_TRUE(local_files().remove_all(run.out).ok());
    run.model = small_model(Family::kLlama, false);
    run.model.width = 256;
    run.model.head_dim = 64;
    run.model.ffn_width = 1024;
    run.model.context = run.train.tokens = 8;
    run.mesh = mesh;
    run.train.steps = 1;
    run.train.batch = 2;
    run.train.microbatch = 1;
    run.train.reduction_leaves = 2;
    run.train.checkpoint_every = 0;
    const Held held = most_of(data, run);
    const Layout layout{.mesh = mesh,
                        .batch = run.train.batch,
                        .microbatch = run.train.microbatch,
                        .tokens = run.train.tokens,
                        .products = ProductType::kF32};
    const auto pieces = write_rank_pieces(run.model, layout, {}, processor_workspace);
    ASSERT_TRUE(pieces.ok()) << pieces.status().message();
    const auto planned = memory_of(run.model, layout, *pieces, StateBytes{});
    ASSERT_TRUE(planned.ok()) << planned.status().message();
    EXPECT_NEAR(planned->arena / held.arena, 1, 0.005);
    EXPECT_NEAR(planned->total() / held.total(), 1, 0.005);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Memory,
                         testing::Values(std::tuple{Family::kLlama, false}, std::tuple{Family::kLlama, true},
                                         std::tuple{Family::kGpt2, true}, std::tuple{Family::kGrok1, true},
                                         std::tuple{Family::kGrok2, false}));

}  // namespace
}  // namespace colossus
