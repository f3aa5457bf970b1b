// Printed programs, before and after each pass, beside the text they had when someone last looked at them.
// After a change that is meant: COLOSSUS_UPDATE_GOLDENS=1 ctest -R ProgramGolden, and read the difference.

#include <gtest/gtest.h>

#include <cstdlib>

#include "io/file_system.h"
#include "model/model.h"
#include "model/testing.h"
#include "parallel/partition.h"
#include "program/memory_plan.h"

namespace colossus {
namespace {

ModelConfig small(Family family) {
  ModelConfig c = two_layer_model(family, 32);
  c.expert_width = 48;
  c.vocab_size = 96;
  c.context = 16;
  if (c.is_grok()) {
    c.balance_loss = 0.01;
    c.attn_softcap = 30;
    if (family == Family::kGrok2) c.ffn_width = 64;
    return c;
  }
  c.ffn_width = 64;
  return c;
}

void compare(const std::string& name, const std::string& text) {
  const std::string path = std::string(COLOSSUS_SOURCE_DIR) + "/tests/goldens/" + name + ".txt";
  if (std::getenv("COLOSSUS_UPDATE_GOLDENS")) {
    ASSERT_TRUE(write_file_atomically(local_files(), path, text).ok());
    return;
  }
  const auto golden = read_file(local_files(), path);
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  EXPECT_EQ(*golden, text) << "differs from " << path;
}

struct Passes {
  Program forward, differentiated, fused, selective, full;
};

Passes run_passes(Family family) {
  const ModelConfig config = small(family);
  const ProgramOptions options{.batch = 2, .tokens = 16};
  Passes p;
  p.forward = *write_loss_program(config, options);
  Program with_seed = p.forward;
  with_seed.tensors.push_back({"loss_grad", {{}, DType::kF32}, Role::kInput});
  std::vector<GradientSeed> seeds = {{with_seed.find("loss"), with_seed.find("loss_grad")}};
  if (const TensorId aux = with_seed.find("aux_loss")) seeds.push_back({aux, with_seed.find("loss_grad")});
  p.differentiated = *differentiate(with_seed, seeds);
  p.fused = eliminate_dead(fuse(p.differentiated));
  p.selective = recompute(p.fused, Recompute::kSelective);
  p.full = recompute(p.fused, Recompute::kFull);
  return p;
}

class ProgramGolden : public testing::TestWithParam<std::pair<Family, const char*>> {};

TEST_P(ProgramGolden, BeforeAndAfterEachPass) {
  const auto [family, name] = GetParam();
  const Passes p = run_passes(family);
  const ProgramPrintOptions options{.costs = true};
  compare(std::string(name) + ".forward", to_string(p.forward, options));
  compare(std::string(name) + ".differentiated", to_string(p.differentiated, options));
  compare(std::string(name) + ".fused", to_string(p.fused, options));
  compare(std::string(name) + ".recompute_selective", to_string(p.selective, options));
  compare(std::string(name) + ".recompute_full", to_string(p.full, options));
  compare(std::string(name) + ".memory",
          to_string(plan_memory(p.fused), p.fused) + to_string(plan_memory(p.full), p.full));
  compare(std::string(name) + ".decode",
          to_string(*write_decode_program(small(family), {.batch = 2, .tokens = 1}, 32), options));
}

INSTANTIATE_TEST_SUITE_P(Families, ProgramGolden,
                         testing::Values(std::pair{Family::kGrok1, "grok-1"}, std::pair{Family::kGrok2, "grok-2"},
                                         std::pair{Family::kLlama, "llama"}, std::pair{Family::kGpt2, "gpt-2"}),
                         [](const auto& info) {
                           std::string name = info.param.second;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// One layer shared by two ranks: tokens gathered and summed up around heads and widths, rows sent to their experts.
TEST(ProgramGolden, OfOneOfTwoRanks) {
  ModelConfig config = small(Family::kGrok1);
  config.num_layers = 1;
  config.dropout = 0.1;
  std::map<std::string, Placement> placements;
  for (const ParameterSpec& spec : *parameter_table(config)) placements[spec.name] = spec.placement;
  MeshPosition position;
  for (const MeshAxis axis : {MeshAxis::kTensor, MeshAxis::kExpert}) position[axis] = {.coordinate = 1, .size = 2};
  const auto part = partition(*write_loss_program(config, {.batch = 2, .tokens = 16}), placements, position);
  ASSERT_TRUE(part.ok()) << part.status().message();
  const auto training = write_training_program(part->program, Recompute::kNone);
  ASSERT_TRUE(training.ok()) << training.status().message();
  compare("grok-1.rank_1_of_2.forward", to_string(part->program));
  compare("grok-1.rank_1_of_2.training", to_string(*training));
}

// Recomputation is there to take less memory.
TEST(Recompute, TakesLessMemory) {
  ModelConfig config = small(Family::kGrok1);
  config.num_layers = 8;
  int64_t last = 0;
  for (Recompute policy : {Recompute::kFull, Recompute::kSelective, Recompute::kNone}) {
    const int64_t bytes = plan_memory(*write_training_program(config, {.batch = 4, .tokens = 64}, policy)).arena_bytes;
    EXPECT_GT(bytes, last) << recompute_name(policy);
    last = bytes;
  }
}

}  // namespace
}  // namespace colossus
