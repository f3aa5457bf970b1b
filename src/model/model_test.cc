#include "model/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/config.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

ModelConfig published(const std::string& name) {
  auto config =
      load_config<ModelConfig>(local_files(), std::string(COLOSSUS_SOURCE_DIR) + "/configs/models/" + name + ".toml");
  EXPECT_TRUE(config.ok()) << config.status().message();
  return config.ok() ? *config : ModelConfig{};
}

int64_t num_parameters(const std::string& name) {
  const auto counts = count_parameters(published(name));
  EXPECT_TRUE(counts.ok()) << counts.status().message();
  return counts.ok() ? counts->total : -1;
}

TEST(ParameterCounts, OfPublishedModels) {
  EXPECT_EQ(num_parameters("grok-1"), 315'684'820'992);
  EXPECT_EQ(num_parameters("grok-2"), 269'515'497'472);
  EXPECT_EQ(num_parameters("llama-3-8b"), 8'030'261'248);
  EXPECT_EQ(num_parameters("llama-3-70b"), 70'553'706'496);
  EXPECT_EQ(num_parameters("gpt-2-124m"), 124'439'808);
  EXPECT_EQ(num_parameters("gpt-2-355m"), 354'823'168);
  EXPECT_EQ(num_parameters("gpt-2-774m"), 774'030'080);
  EXPECT_EQ(num_parameters("gpt-2-1558m"), 1'557'611'200);
}

TEST(ParameterCounts, Grok1SeesTwoOfEightExperts) {
  const auto counts = count_parameters(published("grok-1"));
  ASSERT_TRUE(counts.ok());
  EXPECT_EQ(counts->active, 83'756'587'008);
}

TEST(ParameterCounts, EverySizeOfTheFamilyIsOfItsOrder) {
  EXPECT_NEAR(static_cast<double>(num_parameters("llama-3-405b")), 405e9, 1.5e9);
}

// Forward FLOPs read off the program agree with the published figure (1.675e11 a token, without attention scores).
TEST(Program, FlopsOfGrok1) {
  const auto program = write_loss_program(published("grok-1"), {.batch = 1, .tokens = 128, .compute = DType::kBF16});
  ASSERT_TRUE(program.ok()) << program.status().message();
  double flops = 0;
  for (const Operation& operation : program->operations)
    if (!std::holds_alternative<Attention>(operation.op)) flops += cost_of(*program, operation).flops;
  EXPECT_NEAR(flops / 128 / 1.675e11, 1, 0.01);
}

// The program's own count of a training step is what the formula says, where attention is a small part.
TEST(Program, TrainingFlopsAreThreeTimesForward) {
  ModelConfig config = published("gpt-2-124m");
  const ProgramOptions options{.batch = 1, .tokens = 64};
  const auto program = write_training_program(config, options, Recompute::kNone);
  const auto formula = training_flops_per_token(config, options.tokens);
  ASSERT_TRUE(program.ok() && formula.ok());
  EXPECT_NEAR(total_cost(*program).flops / 64 / *formula, 1, 0.02);
}

TEST(Program, VerifiesForEveryFamilyAndPass) {
  for (const char* name : {"grok-1", "grok-2", "llama-3-8b", "gpt-2-124m"}) {
    ModelConfig config = published(name);
    config.num_layers = 2;
    config.dropout = 0.1;
    config.balance_loss = 0.01;
    const ProgramOptions options{.batch = 2, .tokens = 32, .compute = DType::kBF16, .document_mask = true};
    for (Recompute policy : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
      const auto program = write_training_program(config, options, policy);
      ASSERT_TRUE(program.ok()) << name << ": " << program.status().message();
      EXPECT_TRUE(verify(*program).ok()) << name << ": " << verify(*program).message();
    }
    const auto decode = write_decode_program(config, {.batch = 3, .tokens = 1}, 64);
    ASSERT_TRUE(decode.ok()) << name << ": " << decode.status().message();
    EXPECT_TRUE(verify(*decode).ok()) << name << ": " << verify(*decode).message();
  }
}

// Mixtral's and Qwen3's parts, which the Llama family has, too.
TEST(Program, LlamaHasExpertsAndHeadNorms) {
  ModelConfig config = published("llama-3-8b");
  config.num_layers = 2;
  config.ffn_width = 0;
  config.num_experts = 8;
  config.expert_width = 256;
  config.qk_norm = config.renormalize_gates = true;
  config.rope_factor = 8;
  const auto table = parameter_table(config);
  ASSERT_TRUE(table.ok()) << table.status().message();
  const auto shape_of = [&](const char* name) {
    const auto found = std::ranges::find(*table, name, &ParameterSpec::name);
    return found == table->end() ? std::string("not there") : found->shape.to_string();
  };
  EXPECT_EQ(shape_of("layers.1.attn.q_norm"), "[128]");
  EXPECT_EQ(shape_of("layers.1.moe.gate"), "[8, 4096, 256]");
  EXPECT_EQ(shape_of("layers.1.mlp.gate"), "not there");
  const auto program = write_training_program(config, {.batch = 2, .tokens = 32}, Recompute::kSelective);
  ASSERT_TRUE(program.ok()) << program.status().message();
  EXPECT_TRUE(verify(*program).ok()) << verify(*program).message();
  const auto decode = write_decode_program(config, {.batch = 3, .tokens = 1}, 64);
  ASSERT_TRUE(decode.ok()) << decode.status().message();
}

TEST(ModelConfig, FaultsNameTheKeyAndWhatWouldDo) {
  const auto wrong = [](const std::string& text) {
    return parse_config<ModelConfig>(text, "m.toml").status().message();
  };
  EXPECT_THAT(wrong("num_heads = 48\nnum_kv_heads = 7\n"),
              HasSubstr("[m.toml:2] num_kv_heads = 7 does not divide num_heads = 48; try 6 or 8"));
  EXPECT_THAT(wrong("num_hedas = 48\n"), HasSubstr("num_heads"));
  EXPECT_THAT(wrong("head_dim = 7\n"), HasSubstr("head_dim"));
  EXPECT_THAT(wrong("family = \"gork-1\"\n"), HasSubstr("grok-1"));
  EXPECT_THAT(wrong("num_experts = 0\n"), HasSubstr("ffn_width"));
  EXPECT_THAT(wrong("num_experts_per_token = 9\n"), HasSubstr("num_experts = 8"));
  EXPECT_THAT(wrong("num_layers = 0\nwidth = \"big\"\n"), HasSubstr("m.toml:2"));  // all faults at once
}

TEST(Program, NeedsAVocabulary) {
  EXPECT_THAT(write_loss_program(ModelConfig{}, {}).status().message(), HasSubstr("vocab_size"));
}

TEST(Program, RefusesMoreTokensThanLearnedPositions) {
  EXPECT_THAT(write_loss_program(published("gpt-2-124m"), {.batch = 1, .tokens = 1025}).status().message(),
              HasSubstr("1024"));
}

}  // namespace
}  // namespace colossus
