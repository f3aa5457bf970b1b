#include "parallel/shard_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "program/builder.h"
#include "program/memory_plan.h"
#include "program/passes.h"

namespace colossus {
namespace {

using ::testing::ElementsAre;
using ::testing::IsSupersetOf;

constexpr int64_t kWidth = 64, kLayers = 4, kVocabulary = 16;

// An embedding, four layers h + norm(h) @ w, and a head.
Program microbatch() {
  Builder b("microbatch");
  const TensorId tokens = b.input("tokens", {1, 4}, DType::kI32), targets = b.input("targets", {1, 4}, DType::kI32);
  const TensorId loss_grad = b.input("loss_grad", {}, DType::kF32);
  TensorId h = b.emit(Embedding{}, {b.parameter("embedding", {kVocabulary, kWidth}), tokens});
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    Scope scope(b, "layers." + std::to_string(layer));
    const TensorId x = b.emit(RmsNorm{}, {h, b.parameter(b.scope() + ".norm", {kWidth})});
    h = b.emit(Add{}, {h, b.emit(Matmul{}, {x, b.parameter(b.scope() + ".w", {kWidth, kWidth})})});
  }
  b.emit(HeadCrossEntropy{}, {h, b.parameter("head", {kVocabulary, kWidth}), targets});
  b.mark_output(b.last_outputs()[HeadCrossEntropy::kLoss], "loss");
  Program program = *b.finish();
  const GradientSeed seeds[] = {{program.find("loss"), loss_grad}};
  return eliminate_dead(fuse(*differentiate(std::move(program), seeds)));
}

// Half of each bucket on each of two ranks.
PieceAttributes halves(RankGroup group, int64_t size) {
  PieceAttributes pieces{{.group = group, .ranks = 2, .rank = 1}, {}};
  pieces.bounds = {0, size / 2, size / 2, size};
  return pieces;
}

struct Unit {
  std::string name;
  std::vector<std::pair<std::string, int64_t>> parameters;  // and their sizes
};

std::vector<Unit> units() {
  std::vector<Unit> all = {{"embedding", {{"embedding", kVocabulary * kWidth}}}};
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    const std::string scope = "layers." + std::to_string(layer);
    all.push_back({scope, {{scope + ".norm", kWidth}, {scope + ".w", kWidth * kWidth}}});
  }
  all.push_back({"head", {{"head", kVocabulary * kWidth}}});
  return all;
}

Program exchanged(Program program) {
  std::vector<ExchangedBucket> buckets;
  for (const Unit& unit : units()) {
    ExchangedBucket bucket{.name = "gradients." + unit.name,
                           .sums = {{.name = "gradients." + unit.name + ".whole", .members = {}}},
                           .exchange = {},
                           .addition = {{0, 1}},
                           .replicas = {},
                           .num_kept = 1};
    for (const auto& [name, size] : unit.parameters) {
      bucket.sums.front().members.push_back({"grad." + name, bucket.size});
      bucket.size += size;
    }
    bucket.exchange = {halves(RankGroup::along({MeshAxis::kData}), bucket.size), {1, 1}};
    buckets.push_back(std::move(bucket));
  }
  return exchange_gradients(std::move(program), buckets);
}

Program gathered(Program program) {
  std::vector<GatheredBucket> buckets;
  for (const Unit& unit : units()) {
    GatheredBucket bucket{.piece = "parameters." + unit.name, .members = {}, .pieces = {}};
    int64_t total = 0;
    for (const auto& [name, size] : unit.parameters) {
      bucket.members.push_back({name, total});
      total += size;
    }
    bucket.pieces = halves(RankGroup::along({MeshAxis::kShard}), total);
    buckets.push_back(std::move(bucket));
  }
  return gather_parameters(std::move(program), buckets);
}

// What happens, in order: what is exchanged, added up and gathered, and when each layer's large products come.
std::vector<std::string> story_of(const Program& program) {
  std::vector<std::string> story;
  for (const Operation& operation : program.operations) {
    std::string word;
    if (std::holds_alternative<CollectPieces>(operation.op))
      word = "gather " + program.tensor(operation.inputs.front()).name.substr(11);
    else if (std::holds_alternative<ExchangePieces>(operation.op))
      word = "exchange " + program.tensor(operation.inputs.back()).name.substr(10);
    else if (std::holds_alternative<GatherPieces>(operation.op))
      word = "hand round " + program.tensor(operation.inputs.front()).name.substr(10);
    else if (std::holds_alternative<TreeSum>(operation.op) &&
             program.tensor(operation.inputs[1]).name.ends_with(".row"))
      word = "fold " + program.tensor(operation.inputs.front()).name.substr(10);
    else if (std::holds_alternative<TreeSum>(operation.op))
      word = "add up " + program.tensor(operation.inputs.front()).name.substr(10);
    else if (std::holds_alternative<Matmul>(operation.op))
      word = std::string(phase_name(operation.phase)) + " " + operation.scope;
    else
      continue;
    for (const std::string_view ending : {".whole", ".own"})
      if (word.ends_with(ending)) word.resize(word.size() - ending.size());
    if (story.empty() || story.back() != word) story.push_back(word);
  }
  return story;
}

TEST(ShardState, GradientsLeaveWhenTheirLayerIsDone) {
  const Program program = exchanged(microbatch());
  ASSERT_TRUE(verify(program).ok()) << verify(program).message();
  EXPECT_THAT(
      story_of(program),
      ElementsAre("forward layers.0", "forward layers.1", "forward layers.2", "forward layers.3", "exchange head",
                  "backward layers.3", "add up head", "exchange layers.3", "backward layers.2", "add up layers.3",
                  "exchange layers.2", "backward layers.1", "add up layers.2", "exchange layers.1", "backward layers.0",
                  "add up layers.1", "exchange layers.0", "add up layers.0", "exchange embedding", "add up embedding"));
  // What is left outside the program are the pieces.
  const int64_t num_elements = 2 * kVocabulary * kWidth + kLayers * (kWidth + kWidth * kWidth);
  EXPECT_EQ(plan_memory(microbatch()).gradient_bytes, 4 * num_elements);
  const MemoryPlan plan = plan_memory(program);
  EXPECT_EQ(plan.gradient_bytes, 4 * num_elements / 2);
  // In the arena there are never more than the sums of one layer and of the next, and the pieces that came of the
  // first.
  const int64_t layer_bytes = 4 * (kWidth + kWidth * kWidth);
  EXPECT_GE(plan.arena_bytes, layer_bytes);
  EXPECT_LE(plan.live_peak_bytes, plan_memory(microbatch()).live_peak_bytes + 3 * layer_bytes);
}

// A rank's third leaf of four, and that of one that has the same share of the update: the first two have been added up,
// and come along.
std::vector<ExchangedBucket> kept_buckets(bool with_members) {
  std::vector<ExchangedBucket> buckets;
  for (const Unit& unit : units()) {
    const std::string name = "gradients." + unit.name;
    ExchangedBucket bucket{.name = name,
                           .sums = {{.name = name,
                                     .members = {},
                                     .added = {"waiting.1." + name, "waiting.2." + name},
                                     .before = {"waiting.0." + name}}},
                           .exchange = {},
                           .addition = {{0, 1, 2, 3, 0, 2}},
                           .replicas = {}};
    for (const auto& [parameter, size] : unit.parameters) {
      if (with_members) bucket.sums.front().members.push_back({"grad." + parameter, bucket.size});
      bucket.size += size;
    }
    bucket.exchange = {halves(RankGroup::along({MeshAxis::kData}), bucket.size), {2, 2}};
    bucket.replicas = GatherPieces{halves(RankGroup::along({MeshAxis::kData}), bucket.size)};
    buckets.push_back(std::move(bucket));
  }
  return buckets;
}

TEST(ShardState, SumsThatStayAreFoldedAndLeaveWhenTheirLayerIsDone) {
  const Program program = exchange_gradients(microbatch(), kept_buckets(true));
  ASSERT_TRUE(verify(program).ok()) << verify(program).message();
  EXPECT_THAT(
      story_of(program),
      ElementsAre("forward layers.0", "forward layers.1", "forward layers.2", "forward layers.3", "fold head",
                  "exchange head", "backward layers.3", "add up head", "hand round head", "fold layers.3",
                  "exchange layers.3", "backward layers.2", "add up layers.3", "hand round layers.3", "fold layers.2",
                  "exchange layers.2", "backward layers.1", "add up layers.2", "hand round layers.2", "fold layers.1",
                  "exchange layers.1", "backward layers.0", "add up layers.1", "hand round layers.1", "fold layers.0",
                  "exchange layers.0", "add up layers.0", "hand round layers.0", "fold embedding", "exchange embedding",
                  "add up embedding", "hand round embedding"));
  // All of it stays outside the program but what comes of one layer.
  const int64_t num_elements = 2 * kVocabulary * kWidth + kLayers * (kWidth + kWidth * kWidth);
  const MemoryPlan plan = plan_memory(program);
  EXPECT_EQ(plan.gradient_bytes, 4 * num_elements);
  EXPECT_EQ(plan.state_bytes, 3 * 4 * num_elements);
  EXPECT_LE(plan.live_peak_bytes, plan_memory(microbatch()).live_peak_bytes + 2 * 4 * (kWidth + kWidth * kWidth));
  // Half of two sums, and half of the result.
  EXPECT_EQ(total_cost(program).bytes_sent, 3 * 4 * num_elements / 2);
}

TEST(ShardState, TheExchangeAloneAddsUpWhileTheNextIsUnderWay) {
  std::vector<ExchangedBucket> buckets = kept_buckets(false);
  buckets.resize(3);
  for (ExchangedBucket& bucket : buckets) bucket.sums.front().added.clear();
  const Program program = write_exchange(buckets);
  ASSERT_TRUE(verify(program).ok()) << verify(program).message();
  EXPECT_THAT(story_of(program), ElementsAre("exchange embedding", "exchange layers.0", "add up embedding",
                                             "hand round embedding", "exchange layers.1", "add up layers.0",
                                             "hand round layers.0", "add up layers.1", "hand round layers.1"));
  EXPECT_TRUE(write_exchange({}).operations.empty());
}

TEST(ShardState, ParametersAreGatheredALayerAhead) {
  const Program program = gathered(microbatch());
  ASSERT_TRUE(verify(program).ok()) << verify(program).message();
  // The last layer's stay for the backward pass; the head and the embedding are needed once.
  EXPECT_THAT(story_of(program),
              ElementsAre("gather embedding", "gather layers.0", "gather layers.1", "forward layers.0",
                          "gather layers.2", "forward layers.1", "gather layers.3", "forward layers.2", "gather head",
                          "forward layers.3", "gather layers.2", "backward layers.3", "gather layers.1",
                          "backward layers.2", "gather layers.0", "backward layers.1", "backward layers.0"));
  const int64_t num_elements = 2 * kVocabulary * kWidth + kLayers * (kWidth + kWidth * kWidth);
  EXPECT_EQ(plan_memory(program).parameter_bytes, 4 * num_elements / 2);
  EXPECT_LE(plan_memory(program).live_peak_bytes,
            plan_memory(microbatch()).live_peak_bytes + 3 * 4 * (kWidth + kWidth * kWidth));
  // Twice half of each layer but the last, once of the others.
  EXPECT_EQ(total_cost(program).bytes_sent,
            4 * (kVocabulary * kWidth + (2 * (kLayers - 1) + 1) * (kWidth + kWidth * kWidth) / 2));
}

TEST(ShardState, WhatAProgramLacksIsLeftOut) {
  Builder b("forward");
  const TensorId x = b.input("x", {4, kWidth}, DType::kF32);
  b.mark_output(b.emit(Matmul{}, {x, b.parameter("layers.2.w", {kWidth, kWidth})}), "y");
  const Program program = exchanged(gathered(*b.finish()));
  ASSERT_TRUE(verify(program).ok()) << verify(program).message();
  EXPECT_EQ(program.with_role(Role::kParameter).size(), 1u);
  EXPECT_TRUE(program.with_role(Role::kGradient).empty());
  EXPECT_EQ(program.operations.size(), 2u);
}

}  // namespace
}  // namespace colossus
