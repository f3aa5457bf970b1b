// What a plan says that a rank sends in a step, group by group, is what the programs of a real rank send.

#include <gtest/gtest.h>

#include "io/config.h"
#include "plan/rank_pieces.h"
#include "train/testing_ranks.h"

namespace colossus {
namespace {

using Volumes = std::map<std::string, double>;  // bytes of a step, by group

// Of more than some counters and norms: those are not the plan's.
void forget_small(Volumes& volumes) {
  std::erase_if(volumes, [](const auto& of) { return of.second < 4096; });
}

void add_sent(const PlayableProgram& program, double times, Volumes& volumes) {
  for (const KernelWork& work : program.works)
    if (work.kind == WorkKind::kCommunication) volumes[work.group.name()] += times * work.bytes_sent;
}

Volumes planned_volumes(const ModelConfig& model, const Layout& layout) {
  const auto pieces = write_rank_pieces(model, layout);
  CHECK(pieces.ok(), pieces.status().message().c_str());
  // few + (more - few) (layers - fewest), of what is in all layers alike.
  const auto share = [&](size_t i, int64_t fewest_layers) {
    const auto further = static_cast<double>(model.num_layers - fewest_layers);
    return i == 0 ? 1 - further : further;
  };
  Volumes volumes;
  for (size_t i = 0; i < 2; ++i) {
    add_sent(pieces->of(PieceKind::kWhole)[i].forward.works,
             share(i, pieces->fewest_layers) * static_cast<double>(layout.num_microbatches()), volumes);
    add_sent(pieces->update->programs[i].works, share(i, 1), volumes);
  }
  forget_small(volumes);
  return volumes;
}

// Of rank 0 of a run.
Volumes real_volumes(const RunConfig& run) {
  Volumes volumes;
  auto ranks = make_thread_ranks(Mesh(run.mesh), 60);
  const auto device = *make_cpu_device({.num_threads = 1, .pin = false});
  const auto step = *TrainStep::create(run, DType::kF32, *device, *ranks.front());
  add_sent(playable(step->update().program()), 1, volumes);
  for (const auto& [program, runs] : step->microbatches().programs_of_step())
    add_sent(playable(*program), static_cast<double>(runs), volumes);
  forget_small(volumes);
  return volumes;
}

TEST(Volumes, OfAPlanAreThoseOfTheRun) {
  const TinyData data;
  for (const MeshConfig& mesh : {MeshConfig{.data = 2},
                                 {.shard = 4},
                                 {.data = 2, .shard = 2, .tensor = 2},
                                 {.shard = 2, .context = 2},
                                 {.data = 4, .zero_stage = 2},
                                 {.data = 2, .shard = 2, .zero_stage = 2},
                                 {.shard = 2, .zero_stage = 2, .tensor = 2},
                                 {.data = 2, .shard = 2, .zero_stage = 3},
                                 {.shard = 2, .zero_stage = 3, .tensor = 2},
                                 {.shard = 4, .zero_stage = 3, .expert = 4}}) {
    SCOPED_TRACE(print_config(mesh));
    RunConfig run = tiny_run(data, "run", Family::kGrok1);
    run.model.num_layers = 4;
    run.model.width = 128;
    run.model.num_heads = run.model.num_kv_heads = 4;
    run.model.head_dim = 32;
    run.model.num_experts = 4;
    run.model.expert_width = 256;
    run.model.vocab_size = 512;
    run.model.tie_embeddings = false;
    run.train.tokens = run.model.context = 64;
    run.train.batch = 8;
    run.train.microbatch = 1;
    run.train.reduction_leaves = 8;
    run.mesh = mesh;
    ASSERT_TRUE(check_layout(run).ok()) << check_layout(run).message();
    const Layout layout{.mesh = mesh,
                        .batch = run.train.batch,
                        .microbatch = run.train.microbatch,
                        .tokens = run.train.tokens,
                        .products = ProductType::kF32};
    const Volumes planned = planned_volumes(run.model, layout), real = real_volumes(run);
    EXPECT_FALSE(real.empty());
    for (const auto& [group, bytes] : real) {
      ASSERT_TRUE(planned.contains(group)) << group;
      EXPECT_NEAR(planned.at(group) / bytes, 1, 0.02) << group;
    }
    EXPECT_EQ(planned.size(), real.size());
  }
}

}  // namespace
}  // namespace colossus
