#include "train/run_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "data/shard_set.h"
#include "io/config.h"
#include "io/testing.h"
#include "model/model.h"
#include "model/testing.h"
#include "train/dial.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

RunConfig run_of(int64_t batch, int64_t tokens, int64_t microbatch = 0, int64_t leaves = 0) {
  RunConfig run;
  run.model.context = 8192;
  run.train.batch = batch;
  run.train.tokens = tokens;
  run.train.microbatch = microbatch;
  run.train.reduction_leaves = leaves;
  return run;
}

TEST(Resolve, FillsWhatIsLeftToARule) {
  struct Case {
    int64_t batch, tokens, microbatch, leaves;
  };
  for (const Case& c : {Case{64, 256, 16, 4}, Case{32, 8192, 1, 8}, Case{12, 64, 12, 1}, Case{30, 1024, 3, 2},
                        Case{7, 1024, 1, 1}, Case{128, 1024, 4, 8}}) {
    RunConfig run = run_of(c.batch, c.tokens);
    ASSERT_TRUE(resolve(run, 100).ok());
    EXPECT_EQ(run.train.microbatch, c.microbatch) << c.batch << " x " << c.tokens;
    EXPECT_EQ(run.train.reduction_leaves, c.leaves) << c.batch << " x " << c.tokens;
    EXPECT_EQ(run.model.vocab_size, 100);
  }
  RunConfig run = run_of(8, 0);
  ASSERT_TRUE(resolve(run, 100).ok());
  EXPECT_EQ(run.train.tokens, 8192);
}

TEST(Resolve, IsDoneOnce) {
  RunConfig run = run_of(64, 256);
  ASSERT_TRUE(resolve(run, 100).ok());
  const std::string once = print_config(run);
  ASSERT_TRUE(resolve(run, 100).ok());
  EXPECT_EQ(print_config(run), once);
}

TEST(Resolve, Faults) {
  RunConfig small_vocabulary = run_of(8, 16);
  small_vocabulary.model.vocab_size = 50;
  EXPECT_THAT(resolve(small_vocabulary, 51).message(),
              AllOf(HasSubstr("model.vocab_size"), HasSubstr("50"), HasSubstr("51")));
  RunConfig long_rows = run_of(8, 8193);
  EXPECT_THAT(resolve(long_rows, 100).message(), AllOf(HasSubstr("8193"), HasSubstr("model.context = 8192")));
  RunConfig leaves = run_of(24, 16, 8, 2);
  EXPECT_THAT(resolve(leaves, 100).message(), AllOf(HasSubstr("reduction_leaves"), HasSubstr("3 microbatches")));
}

TEST(Resolve, WithDataTheVocabularyIsThatOfTheShards) {
  const TemporaryDirectory dir;
  RunConfig run = run_of(8, 16);
  EXPECT_THAT(resolve_with_data(local_files(), run).status().message(),
              AllOf(HasSubstr("[data.sources] none"), HasSubstr("colossus data build")));
  run.data.sources = {{.path = dir / "shards"}};
  EXPECT_THAT(resolve_with_data(local_files(), run).status().message(), HasSubstr(dir / "shards"));
  ShardIndex index;
  index.identity.vocab_size = 77;
  ASSERT_TRUE(local_files().make_directories(dir / "shards").ok());
  ASSERT_TRUE(write_shard_index(local_files(), dir / "shards", index).ok());
  const auto read = resolve_with_data(local_files(), run);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->identity.vocab_size, 77);
  EXPECT_EQ(run.model.vocab_size, 77);
  run.model.vocab_size = 50;
  EXPECT_THAT(resolve_with_data(local_files(), run).status().message(), HasSubstr("model.vocab_size"));
}

TEST(RunConfig, FaultsNameTheKey) {
  const auto wrong = [](const std::string& text) { return parse_config<RunConfig>(text, "r.toml").status().message(); };
  EXPECT_THAT(wrong("[train]\nbatch = 10\nmicrobatch = 4\n"), HasSubstr("microbatch"));
  EXPECT_THAT(wrong("[train]\nreduction_leaves = 3\n"), HasSubstr("power of two"));
  EXPECT_THAT(wrong("[train]\nstep = 3\n"), HasSubstr("steps"));
  EXPECT_THAT(wrong("[optimizer]\nkind = \"adam\"\n"), HasSubstr("adamw"));
  EXPECT_THAT(wrong("[optimizer]\nlearning_rate = 0\n"), HasSubstr("learning_rate"));
  EXPECT_THAT(wrong("depth = 65\n"), HasSubstr("depth"));
}

class Dial : public testing::TestWithParam<int64_t> {};

TEST_P(Dial, GivesAValidRun) {
  auto run = parse_config<RunConfig>(fmt::format("depth = {}\n", GetParam()), "dial.toml");
  ASSERT_TRUE(run.ok()) << run.status().message();
  ASSERT_TRUE(resolve(*run, 4096).ok());
  EXPECT_EQ(run->model.num_layers, GetParam());
  EXPECT_EQ(run->model.width, 64 * GetParam());
  EXPECT_EQ(run->model.num_heads % run->model.num_kv_heads, 0);
  EXPECT_EQ(run->train.batch % run->train.microbatch, 0);
  EXPECT_GE(run->train.steps, 200);
  EXPECT_EQ(run->optimizer.kind, OptimizerKind::kMuon);
  const auto program = write_training_program(run->model, {.batch = run->train.microbatch, .tokens = run->train.tokens},
                                              Recompute::kNone);
  ASSERT_TRUE(program.ok()) << program.status().message();
  EXPECT_TRUE(verify(*program).ok());
  // What is written reads back the same, dial and all.
  const auto again = parse_config<RunConfig>(print_config(*run), "printed");
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(print_config(*again), print_config(*run));
}

INSTANTIATE_TEST_SUITE_P(Depths, Dial, testing::Range<int64_t>(1, 17));

TEST(Dial, KeysThatAreGivenWin) {
  const auto run = parse_config<RunConfig>("depth = 4\n[model]\nnum_experts = 4\n[train]\nsteps = 7\n", "dial.toml");
  ASSERT_TRUE(run.ok()) << run.status().message();
  EXPECT_EQ(run->model.num_experts, 4);
  EXPECT_EQ(run->train.steps, 7);
  EXPECT_EQ(run->model.width, 256);
}

// More depth is more model and more training.
TEST(Dial, TurnsUp) {
  int64_t last_parameters = 0;
  double last_tokens = 0;
  for (int64_t depth = 1; depth <= 16; ++depth) {
    RunConfig run;
    apply_dial(run, depth);
    ASSERT_TRUE(resolve(run, 4096).ok());
    const auto counts = count_parameters(run.model);
    ASSERT_TRUE(counts.ok());
    EXPECT_GT(counts->total, last_parameters) << depth;
    const double tokens = static_cast<double>(run.train.steps * run.train.batch * run.train.tokens);
    if (depth > 4) {
      EXPECT_GT(tokens, last_tokens) << depth;
    }
    last_parameters = counts->total;
    last_tokens = tokens;
  }
}

TEST(RunConfig, AMeshMayBeLaidOutByRule) {
  const auto run = parse_config<RunConfig>("mesh = \"auto\"\n", "run.toml");
  ASSERT_TRUE(run.ok()) << run.status().message();
  EXPECT_TRUE(run->mesh.automatic);
  EXPECT_THAT(parse_config<RunConfig>("mesh = \"autp\"\n", "run.toml").status().message(),
              testing::HasSubstr("mesh.autp: unknown key; did you mean mesh.auto?"));
}

// Gradients that are handed on leaf by leaf want leaves that ranks take in turn; what would do is said.
TEST(RunConfig, ZeroStagesTwoAndThreeWantALeafForEachMicrobatch) {
  const auto error = [](int64_t batch, int64_t leaves, const MeshConfig& mesh) {
    RunConfig run;
    run.model = tiny_model(Family::kLlama);
    run.train = {.batch = batch, .tokens = 16, .microbatch = 2, .reduction_leaves = leaves};
    run.mesh = mesh;
    return check_layout(run).message();
  };
  using testing::HasSubstr;
  EXPECT_EQ(error(16, 8, {.shard = 4, .zero_stage = 3}), "");
  EXPECT_EQ(error(16, 8, {.data = 2, .shard = 4, .zero_stage = 2}), "");
  EXPECT_THAT(error(16, 4, {.shard = 2, .zero_stage = 2}), HasSubstr("set train.reduction_leaves = 8 (was 4)"));
  EXPECT_THAT(error(24, 4, {.shard = 2, .zero_stage = 2}), HasSubstr("make 12: try batch = 16 or 32"));
  EXPECT_THAT(
      error(16, 8, {.shard = 3, .zero_stage = 3}),
      HasSubstr("data x shard = 3 does not divide the 8 leaves, which ranks take in turn with zero_stage 3; try "
                "1, 2, 4 or 8"));
}

TEST(RunConfig, LeavesThatRanksSumTogetherCannotBeVerifiedAlone) {
  RunConfig run;
  run.model = tiny_model(Family::kLlama);
  run.train = {.batch = 16, .tokens = 16, .microbatch = 2, .reduction_leaves = 8};
  run.train.verify_every = 10;
  run.mesh = {.shard = 4, .zero_stage = 3};
  EXPECT_THAT(check_layout(run).message(),
              AllOf(HasSubstr("[train.verify_every] 10: with mesh.zero_stage = 3"), HasSubstr("use 0")));
  run.mesh.zero_stage = 1;
  EXPECT_TRUE(check_layout(run).ok());
}

}  // namespace
}  // namespace colossus
