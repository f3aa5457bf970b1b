#include "train/ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/config.h"
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
  int64_t data, shard, zero_stage = 1;
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
  for (const Layout& layout :
       {Layout{2, 1}, {3, 1}, {8, 1}, {1, 2}, {1, 3}, {1, 5}, {1, 8}, {2, 2}, {2, 3}, {4, 2}, {1, 4, 2}, {2, 2, 2}}) {
    SCOPED_TRACE(testing::Message() << layout.data << " x " << layout.shard << ", ZeRO " << layout.zero_stage);
    RunConfig other = run;
    other.out = data / "other";
    ASSERT_TRUE(local_files().remove_all(other.out).ok());
    other.mesh = {.data = layout.data, .shard = layout.shard, .zero_stage = layout.zero_stage};
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

void add_said(const Program& program, int64_t runs, std::map<std::string, double>& bytes) {
  for (const Operation& operation : program.operations)
    if (const RankGroup* group = group_of(operation.op))
      bytes[group->name()] += static_cast<double>(runs) * cost_of(program, operation).bytes_sent;
}

// What the programs say a step sends, group by group, is what it sends.
TEST(Traffic, OfAStepIsThatOfItsPrograms) {
  const TinyData data;
  for (const MeshConfig& mesh :
       {MeshConfig{.data = 2, .shard = 2},
        {.shard = 3, .tensor = 2},
        {.data = 2, .context = 2, .pipeline = 2},
        {.shard = 2, .tensor = 2, .pipeline = 2, .schedule = PipelineScheduleKind::kZeroBubble},
        {.data = 2, .shard = 2, .zero_stage = 2},
        {.data = 2, .shard = 2, .zero_stage = 3, .pipeline = 2},
        {.shard = 2, .zero_stage = 3, .tensor = 2}}) {
    SCOPED_TRACE(print_config(mesh));
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
        std::map<std::string, double> said, sent;
        add_said(step->update().program(), 1, said);
        for (const auto& [program, runs] : step->microbatches().programs_of_step()) add_said(*program, runs, said);
        for (const auto& [group, end] : own.groups.ends())
          sent[group.name()] = static_cast<double>(end->traffic().sent_bytes);
        for (auto* bytes : {&said, &sent}) std::erase_if(*bytes, [](const auto& of) { return of.second == 0; });
        EXPECT_FALSE(sent.empty());
        EXPECT_EQ(said, sent) << "rank " << own.rank;
      });
    for (std::thread& thread : threads) thread.join();
  }
}

// bf16 rounds weights where they are read: gathered ones as those that are kept packed.
TEST(Zero, GatheredWeightsAreRoundedAsPackedOnesAre) {
  const TinyData data;
  for (const Family family : {Family::kGrok1, Family::kGpt2}) {
    RunConfig run = run_of_eight_leaves(data, "one", family, OptimizerKind::kAdamW);
    run.train.compute = ComputeType::kBF16;
    const std::vector<Losses> alone = train_on_ranks(data, run);
    const Losses& one = alone.front();
    run.out = data / "other";
    ASSERT_TRUE(local_files().remove_all(run.out).ok());
    run.mesh = {.shard = 2, .zero_stage = 3};
    for (const Losses& losses : train_on_ranks(data, run)) {
      EXPECT_EQ(losses.steps, one.steps);
      EXPECT_EQ(losses.evaluations, one.evaluations);
    }
    ASSERT_TRUE(local_files().remove_all(data / "one").ok());
  }
}

// What a rank holds, in bytes.
struct RankMemory {
  int64_t parameters = 0, gradients = 0, optimizer = 0, partial_sums = 0, arena = 0, packed = 0;
  int64_t all() const { return parameters + gradients + optimizer + partial_sums + arena + packed; }
};

std::vector<RankMemory> memory_of_ranks(const RunConfig& run) {
  auto ranks = make_thread_ranks(Mesh(run.mesh), 60);
  std::vector<RankMemory> memory(ranks.size());
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const auto device = *make_cpu_device({.num_threads = 1, .pin = false});
    const auto step = *TrainStep::create(run, DType::kF32, *device, *ranks[rank]);
    RankMemory& own = memory[rank];
    for (const auto& [name, entry] : step->tensors().entries()) {
      if (entry.is_view) continue;
      (entry.role == Role::kParameter  ? own.parameters
       : entry.role == Role::kGradient ? own.gradients
                                       : own.optimizer) += entry.type.num_bytes();
    }
    own.partial_sums = step->microbatches().partial_sum_bytes();
    own.arena = std::max(step->microbatches().arena_bytes(), step->update().memory_plan().arena_bytes);
    own.packed = step->microbatches().packed_bytes();
  }
  return memory;
}

int64_t sum_of(const std::vector<RankMemory>& memory, int64_t RankMemory::*part) {
  int64_t sum = 0;
  for (const RankMemory& rank : memory) sum += rank.*part;
  return sum;
}

// P: all parameters. Stage 1: 4 P of parameters and of gradients on each rank; stage 2: of gradients on all of them
// together; stage 3: of parameters, too. What is whole for a while is a layer's.
TEST(Zero, AStageCutsWhatItSays) {
  const TinyData data;
  RunConfig run = run_of_eight_leaves(data, "run", Family::kLlama, OptimizerKind::kAdamW);
  run.model.num_layers = 8;
  run.model.width = 64;
  run.model.head_dim = 16;
  run.model.ffn_width = 128;
  run.model.vocab_size = 64;
  run.model.tie_embeddings = false;  // of a tied one there are two gradients
  run.train.tokens = run.model.context;
  constexpr int64_t kRanks = 4;
  int64_t all = 0, unaligned = 0, layer = 0;
  for (const ParameterSpec& spec : *parameter_table(run.model)) {
    const int64_t bytes = (spec.shape.num_elements() + 15) / 16 * 16 * 4;
    all += bytes;
    unaligned += spec.shape.num_elements() * 4;
    if (layer_of(spec.name) == 0) layer += bytes;
  }
  std::map<int64_t, std::vector<RankMemory>> stage;
  for (const int64_t zero_stage : {1, 2, 3}) {
    run.mesh = {.shard = kRanks, .zero_stage = zero_stage};
    stage[zero_stage] = memory_of_ranks(run);
  }
  for (const int64_t zero_stage : {1, 2, 3}) {
    SCOPED_TRACE(zero_stage);
    const auto& memory = stage.at(zero_stage);
    EXPECT_EQ(sum_of(memory, &RankMemory::parameters), zero_stage < 3 ? kRanks * all : all);
    EXPECT_EQ(sum_of(memory, &RankMemory::gradients), zero_stage < 2 ? kRanks * all : all);
    EXPECT_EQ(sum_of(memory, &RankMemory::optimizer), 2 * unaligned);
    // Two leaves to a rank: one waits for the other. An empty piece takes a byte.
    EXPECT_NEAR(sum_of(memory, &RankMemory::partial_sums), zero_stage < 2 ? kRanks * all : all, 16);
  }
  for (size_t rank = 0; rank < kRanks; ++rank) {
    SCOPED_TRACE(rank);
    const RankMemory &one = stage[1][rank], &two = stage[2][rank], &three = stage[3][rank];
    // The sums of a layer and of the one before, and the pieces that come of it; two layers' parameters.
    EXPECT_LE(two.arena, one.arena + 3 * layer);
    EXPECT_LE(three.arena, two.arena + 3 * layer);
    // Weights are packed while they stay.
    EXPECT_EQ(two.packed, one.packed);
    EXPECT_EQ(three.packed, 0);
    EXPECT_LT(two.all(), one.all() - all / 2);
    EXPECT_LT(three.all(), two.all() - all / 2);
  }
}

}  // namespace
}  // namespace colossus
