// A model shared by several ranks beside the same model on one: losses, gradients of every parameter, bytes sent. Ranks
// are threads of this process, each with a device of one thread.

#include "parallel/partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/testing.h"
#include "partition/model_on_ranks.h"

namespace colossus {
namespace {

using testing::HasSubstr;

// The largest difference over the largest value of a tensor; of a gradient that value is at least a hundredth of the
// largest of all gradients. docs/numerics.md repeats the numbers.
struct PartitionTolerance {
  double loss, gradient;
};
constexpr PartitionTolerance tolerance_of(DType compute) {
  switch (compute) {
    case DType::kF64: return {.loss = 1e-9, .gradient = 1e-9};
    case DType::kBF16: return {.loss = 1e-2, .gradient = 0.1};
    default: return {.loss = 1e-6, .gradient = 1e-5};
  }
}

double largest(const Values& values) {
  double most = 0;
  for (const double value : values) most = std::max(most, std::abs(value));
  return most;
}

double largest_difference(const Values& a, const Values& b) {
  CHECK(a.size() == b.size());
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a[i] - b[i]);
    most = std::isnan(difference) ? INFINITY : std::max(most, difference);
  }
  return most;
}

void expect_close(const Outcome& got, const Outcome& want, const PartitionTolerance& tolerance) {
  const auto compare = [&](const std::vector<Values>& a, const std::vector<Values>& b, const char* name) {
    ASSERT_EQ(a.size(), b.size()) << name;
    for (size_t i = 0; i < a.size(); ++i)
      EXPECT_LE(largest_difference(a[i], b[i]), tolerance.loss * largest(b[i])) << name << " of data rank " << i;
  };
  compare(got.losses, want.losses, "loss");
  compare(got.aux_losses, want.aux_losses, "aux_loss");
  compare(got.token_losses, want.token_losses, "token_loss");
  double floor = 0;
  for (const auto& [name, gradient] : want.gradients) floor = std::max(floor, largest(gradient) / 100);
  EXPECT_GT(floor, 0);
  ASSERT_EQ(got.gradients.size(), want.gradients.size());
  for (const auto& [name, gradient] : want.gradients) {
    const double size = std::max(floor, largest(gradient));
    EXPECT_LE(largest_difference(got.gradients.at(name), gradient) / size, tolerance.gradient)
        << "gradient of " << name;
  }
}

// Heads and vocabulary that four ranks can share; auxiliary losses large enough to be seen in gradients.
ModelConfig model_of(Family family) {
  ModelConfig m = tiny_model(family);
  m.num_kv_heads = 4;
  m.expert_width = 12;
  m.vocab_size = 40;
  if (m.is_grok()) {
    m.router_softcap = 30;
    m.balance_loss = 0.1;
    m.z_loss = 0.02;
  }
  return m;
}

ModelConfig with(ModelConfig m, const std::function<void(ModelConfig&)>& change) {
  change(m);
  return m;
}

std::vector<Case> cases() {
  const ModelConfig grok = model_of(Family::kGrok1), grok_2 = model_of(Family::kGrok2),
                    llama = model_of(Family::kLlama), gpt_2 = model_of(Family::kGpt2);
  const auto dropout = [](ModelConfig& m) { m.dropout = 0.2; };
  std::vector<Case> list = {
      {.name = "llama_tensor_2", .model = llama, .mesh = {.tensor = 2}},
      {.name = "llama_untied_documents_tensor_4",
       .model = with(llama, [](ModelConfig& m) { m.tie_embeddings = false; }),
       .mesh = {.tensor = 4},
       .document_mask = true},
      {.name = "llama_grouped_heads_dropout_tensor_2",
       .model = with(llama,
                     [](ModelConfig& m) {
                       m.num_kv_heads = 2;
                       m.window = 5;
                       m.dropout = 0.2;
                     }),
       .mesh = {.tensor = 2}},
      {.name = "gpt_2_biases_dropout_data_2_tensor_2",
       .model = with(gpt_2, dropout),
       .mesh = {.data = 2, .tensor = 2},
       .recompute = Recompute::kFull},
      {.name = "gpt_2_tensor_4", .model = gpt_2, .mesh = {.tensor = 4}},
      {.name = "grok_1_copies_of_experts_tensor_2", .model = grok, .mesh = {.tensor = 2}},
      {.name = "grok_1_tensor_4_expert_4", .model = grok, .mesh = {.tensor = 4, .expert = 4}},
      {.name = "grok_1_data_2_expert_2", .model = grok, .mesh = {.data = 2, .expert = 2}},
      {.name = "grok_1_shard_2_tensor_2_expert_4_dropout",
       .model = with(grok, dropout),
       .mesh = {.shard = 2, .tensor = 2, .expert = 4},
       .recompute = Recompute::kSelective},
      {.name = "grok_1_expert_tensor_2", .model = grok, .mesh = {.tensor = 2, .expert_tensor = 2}},
      {.name = "grok_1_untied_tensor_4_expert_2_expert_tensor_2",
       .model = with(grok,
                     [](ModelConfig& m) {
                       m.tie_embeddings = false;
                       m.renormalize_gates = true;
                     }),
       .mesh = {.tensor = 4, .expert = 2, .expert_tensor = 2},
       .recompute = Recompute::kFull},
      {.name = "llama_context_2", .model = llama, .mesh = {.context = 2}},
      {.name = "llama_documents_window_dropout_context_4",
       .model = with(llama,
                     [](ModelConfig& m) {
                       m.window = 5;
                       m.dropout = 0.2;
                     }),
       .mesh = {.context = 4},
       .document_mask = true},
      {.name = "gpt_2_context_2_tensor_2_dropout", .model = with(gpt_2, dropout), .mesh = {.context = 2, .tensor = 2}},
      {.name = "gpt_2_tensor_4_context_2", .model = gpt_2, .mesh = {.context = 2, .tensor = 4}},
      {.name = "grok_1_context_2_tensor_2_expert_4",
       .model = with(grok, [](ModelConfig& m) { m.attn_temperature_len = 3; }),
       .mesh = {.context = 2, .tensor = 2, .expert = 4},
       .recompute = Recompute::kFull,
       .document_mask = true},
      {.name = "grok_2_data_2_tensor_2_expert_2", .model = grok_2, .mesh = {.data = 2, .tensor = 2, .expert = 2}},
  };
  for (size_t i = 0, count = list.size(); i < count; ++i) {
    list.push_back(list[i]);
    list.back().compute = DType::kF32;
  }
  list.push_back({.name = "grok_2_tensor_2_expert_2",
                  .model = grok_2,
                  .mesh = {.tensor = 2, .expert = 2},
                  .compute = DType::kBF16});
  return list;
}

class Partitioned : public testing::TestWithParam<Case> {};

TEST_P(Partitioned, IsTheModelOfOneRank) {
  const Case& c = GetParam();
  World world(c);
  world.run();
  expect_close(world.outcome(), run_on_one_rank(c), tolerance_of(c.compute));
}

INSTANTIATE_TEST_SUITE_P(Layouts, Partitioned, testing::ValuesIn(cases()), [](const auto& info) {
  return info.param.name + "_" + std::string(dtype_name(info.param.compute));
});

// Every token chooses the first expert: one rank computes it all, the others' experts have nothing to do.
TEST(Partition, AllTokensOfOneExpert) {
  for (const DType compute : {DType::kF64, DType::kF32}) {
    Case c{.name = "one expert",
           .model = with(model_of(Family::kGrok1), [](ModelConfig& m) { m.num_experts_per_token = 1; }),
           .mesh = {.tensor = 4, .expert = 2, .expert_tensor = 2},
           .compute = compute};
    c.fill = [](const std::string& name, const Shape& shape, Values& values) {
      // A column that is large in each embedding, and that only the first expert's score looks at.
      const int64_t width = shape[-1];
      for (size_t i = 0; i < values.size(); ++i) {
        if (name == "embedding" && static_cast<int64_t>(i) % width == 0) values[i] = 3;
        if (name.ends_with("router")) values[i] = i == 0 ? 4 : static_cast<int64_t>(i) < width ? 0 : values[i] / 10;
      }
    };
    World world(c);
    world.run();
    const Outcome want = run_on_one_rank(c), got = world.outcome();
    expect_close(got, want, tolerance_of(compute));
    const Values& gate = want.gradients.at("layers.0.moe.gate");
    const size_t expert = gate.size() / static_cast<size_t>(c.model.num_experts);
    EXPECT_GT(largest(Values(gate.begin(), gate.begin() + static_cast<std::ptrdiff_t>(expert))), 0);
    EXPECT_EQ(largest(Values(gate.begin() + static_cast<std::ptrdiff_t>(expert), gate.end())), 0);
  }
}

TEST(Partition, ASecondRunHasTheSameBits) {
  const Case c{
      .name = "twice", .model = model_of(Family::kGrok2), .mesh = {.tensor = 2, .expert = 2}, .compute = DType::kF32};
  World first(c), second(c);
  first.run();
  second.run();
  const Outcome a = first.outcome(), b = second.outcome();
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.gradients, b.gradients);
}

// Alone, a rank runs the whole program.
TEST(Partition, AMeshOfOneChangesNoBit) {
  for (const Family family : {Family::kGrok2, Family::kGpt2}) {
    const Case c{.name = "alone",
                 .model = with(model_of(family), [](ModelConfig& m) { m.dropout = 0.1; }),
                 .mesh = {},
                 .compute = DType::kF32,
                 .document_mask = true};
    World world(c);
    world.run();
    const Outcome got = world.outcome(), want = run_on_one_rank(c);
    EXPECT_EQ(got.losses, want.losses);
    EXPECT_EQ(got.aux_losses, want.aux_losses);
    EXPECT_EQ(got.gradients, want.gradients);
    EXPECT_EQ(world.part(0).program.operations.size(), write_loss_program(c.model, options_of(c))->operations.size());
  }
}

// What a program says it sends is what it sends. Tokens that choose every expert load all ranks alike: then this holds
// for the experts' rows too, whose cost is an average.
TEST(Partition, BytesSentAreThoseOfTheProgram) {
  for (const MeshConfig& mesh :
       {MeshConfig{.tensor = 2}, MeshConfig{.tensor = 4}, MeshConfig{.data = 2, .tensor = 2, .expert = 4},
        MeshConfig{.context = 2, .tensor = 2}, MeshConfig{.tensor = 4, .expert = 2, .expert_tensor = 2}}) {
    const Case c{.name = "volume",
                 .model = with(model_of(Family::kGrok2), [](ModelConfig& m) { m.num_experts_per_token = 4; }),
                 .mesh = mesh,
                 .compute = DType::kF32};
    World world(c);
    world.run();
    for (int64_t rank = 0; rank < world.size(); ++rank)
      for (const auto& [group, volume] : world.volumes(rank)) {
        EXPECT_GT(volume.sent, 0) << group;
        EXPECT_EQ(volume.said, volume.sent) << group << " of rank " << rank << " of " << world.size();
      }
  }
}

TEST(Partition, FoldedOrder) {
  Values order;
  for (int64_t place = 0; place < 12; ++place) order.push_back(static_cast<double>(folded_token(12, 3, place)));
  EXPECT_THAT(order, testing::ElementsAre(0, 1, 10, 11, 2, 3, 8, 9, 4, 5, 6, 7));
  EXPECT_EQ(folded_token(7, 1, 3), 3);
}

TEST(Partition, ReportsWhatTheRankHas) {
  const Case c{.name = "report",
               .model = model_of(Family::kGrok2),
               .mesh = {.data = 2, .tensor = 2, .expert = 2},
               .document_mask = true};
  const auto part = partition_case(c, Mesh(c.mesh).position(1));
  ASSERT_TRUE(part.ok()) << part.status().message();
  const auto placement = [](const std::vector<TensorPart>& parts, const std::string& name) {
    for (const TensorPart& p : parts)
      if (p.name == name) return p.placement.to_string() + ", gradient " + p.gradient.to_string();
    return std::string("none");
  };
  EXPECT_EQ(placement(part->inputs, "tokens"), "cut(1, tensor), gradient copies");
  EXPECT_EQ(placement(part->inputs, "targets"), "cut(1, tensor), gradient copies");
  EXPECT_EQ(placement(part->inputs, "document_start"), "copies, gradient copies");
  EXPECT_EQ(placement(part->outputs, "loss"), "copies, gradient copies");
  EXPECT_EQ(placement(part->outputs, "token_loss"), "cut(1, tensor), gradient copies");
  const auto parameter = [&](const std::string& name) { return placement(part->parameters, name); };
  EXPECT_EQ(parameter("embedding"), "copies, gradient partial(data) partial(tensor)");
  EXPECT_EQ(parameter("layers.0.attn_norm"), "copies, gradient partial(data) partial(tensor)");
  EXPECT_EQ(parameter("layers.0.attn.q"), "cut(1, tensor), gradient cut(1, tensor) partial(data)");
  EXPECT_EQ(parameter("layers.1.attn.o"), "cut(0, tensor), gradient cut(0, tensor) partial(data)");
  EXPECT_EQ(parameter("layers.0.mlp.down"), "cut(0, tensor), gradient cut(0, tensor) partial(data)");
  EXPECT_EQ(parameter("layers.0.moe.router"), "copies, gradient partial(data) partial(tensor)");
  EXPECT_EQ(parameter("layers.0.moe.down"), "cut(0, expert), gradient cut(0, expert) partial(expert_data)");
  EXPECT_EQ(part->program.tensor(part->program.find("layers.0.attn.q")).type.shape, (Shape{16, 8}));
  EXPECT_EQ(part->program.tensor(part->program.find("tokens")).type.shape, (Shape{kBatch, kTokens / 2}));
}

TEST(Partition, RefusesWhatCannotBeCut) {
  const auto error = [](const ModelConfig& model, const MeshConfig& mesh) {
    const Case c{.name = "illegal", .model = model, .mesh = mesh};
    return partition_case(c, Mesh(mesh).position(0)).status().message();
  };
  const ModelConfig llama = model_of(Family::kLlama);
  EXPECT_THAT(error(llama, {.tensor = 3}), HasSubstr("[mesh.tensor] 3 does not divide dimension 1 of layers.0.attn.q"));
  EXPECT_THAT(error(with(llama, [](ModelConfig& m) { m.num_kv_heads = 2; }), {.tensor = 4}),
              HasSubstr("rotary.x: got 2 heads; needed a multiple of mesh.tensor = 4"));
  EXPECT_THAT(error(with(model_of(Family::kGpt2), [](ModelConfig& m) { m.num_kv_heads = 2; }), {.tensor = 4}),
              HasSubstr("attention.num_kv_heads: got 2; needed a multiple of mesh.tensor = 4"));
  EXPECT_THAT(
      error(with(llama, [](ModelConfig& m) { m.num_heads = m.num_kv_heads = 16, m.head_dim = 2; }), {.tensor = 16}),
      HasSubstr("[mesh.tensor] 16 does not divide dimension 1 of tokens [2, 8]"));
  EXPECT_THAT(error(llama, {.context = 8}),
              HasSubstr("[mesh.context] 8 does not divide dimension 1 of tokens [2, 8] into two pieces for each"));
  EXPECT_THAT(error(model_of(Family::kGrok1), {.tensor = 8, .expert = 8}), HasSubstr("8 does not divide dimension 0"));

  const auto decode = write_decode_program(llama, {.batch = 1, .tokens = 1}, 16);
  EXPECT_THAT(partition(*decode, {}, {}).status().message(), HasSubstr("attention_cached: only forward passes"));
  const auto training = write_training_program(llama, {.batch = 1, .tokens = 8}, Recompute::kNone);
  EXPECT_THAT(partition(*training, {}, {}).status().message(), HasSubstr("only forward passes of training are cut"));
  // Weights that nobody said how to cut, beside heads that are.
  const auto whole = write_loss_program(llama, {.batch = 2, .tokens = 8});
  EXPECT_THAT(partition(*whole, {}, Mesh({.tensor = 2}).position(0)).status().message(),
              HasSubstr("rotary.x: got cut(1, tensor); needed cut(2, tensor), and no collective leads there"));
}

}  // namespace
}  // namespace colossus
