// Runs on many ranks beside the same run on one: losses, gradient norms, evaluations, and all that is saved. Ranks are
// threads of this process. The text is the project's own.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "io/config.h"
#include "train/testing_ranks.h"

namespace colossus {
namespace {

constexpr int64_t kSteps = 20;

struct Outcome {
  std::vector<Losses> losses;  // by rank
  std::map<std::string, std::vector<std::byte>> saved;
};

std::map<std::string, std::vector<std::byte>> read_saved(const std::string& directory) {
  std::map<std::string, std::vector<std::byte>> saved;
  const auto paths = list_checkpoints(local_files(), directory);
  CHECK(paths.ok() && !paths->empty(), directory.c_str());
  const auto checkpoint = Checkpoint::open(local_files(), paths->back());
  CHECK(checkpoint.ok(), checkpoint.status().message().c_str());
  for (const Checkpoint::Entry& entry : checkpoint->tensors()) {
    auto& bytes = saved[entry.file + "/" + entry.name];
    bytes.resize(static_cast<size_t>(entry.shape.num_elements() * 4));
    const Status read = checkpoint->read(
        entry, whole_piece(entry.shape),
        [&](int64_t offset, std::span<const std::byte> part) { std::ranges::copy(part, bytes.begin() + offset); });
    CHECK(read.ok(), read.message().c_str());
  }
  return saved;
}

struct Life {
  int64_t stop_after = std::numeric_limits<int64_t>::max();
  bool resumes = false;
  std::vector<LeafRange> shares = {};  // of the leaves; none: equal ones
};

Outcome train_on(const TinyData& data, RunConfig run, const MeshConfig& layout, const Life& life = {}) {
  run.mesh = layout;
  if (!life.resumes) CHECK(local_files().remove_all(run.out).ok());
  Outcome outcome{.losses = train_on_ranks(data, run, life.stop_after, nullptr, life.shares), .saved = {}};
  if (!testing::Test::HasFailure()) outcome.saved = read_saved(run.out + "/checkpoints");
  return outcome;
}

const TinyData& project_text() {
  static const TinyData data([] {
    std::string text;
    for (const char* name : {"design.md", "numerics.md"})
      text += *read_file(local_files(), std::string(COLOSSUS_SOURCE_DIR) + "/docs/" + name);
    return text;
  }());
  return data;
}

struct Model {
  Family family;
  OptimizerKind optimizer = OptimizerKind::kAdamW;
  bool tied = true;
  bool documents = false;
  double dropout = 0;
  Recompute recompute = Recompute::kNone;
  int64_t leaves = 8;  // as many as microbatches
  int64_t verify_every = 0;
};

RunConfig run_of(const Model& model) {
  RunConfig run = tiny_run(project_text(), "run", model.family);
  run.model.num_layers = 3;
  run.model.num_kv_heads = 4;
  run.model.tie_embeddings = model.tied;
  run.model.dropout = model.dropout;
  run.data.document_mask = model.documents;
  run.data.random_offset = true;
  run.train.steps = kSteps;
  run.train.batch = 16;
  run.train.reduction_leaves = model.leaves;
  run.train.verify_every = model.verify_every;
  run.train.evaluate_every = 10;
  run.train.evaluation_tokens = 16 * 9;
  run.train.checkpoint_every = 0;
  run.train.recompute = model.recompute;
  run.optimizer.kind = model.optimizer;
  return run;
}

// Layouts that differ from `base` in data, shard and pipeline alone: they all have the bits of `base`, which has those
// of one rank where it is one, and else is near it.
struct Case {
  std::string name;
  Model model;
  MeshConfig base;
  std::vector<MeshConfig> layouts;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

// The largest relative difference of losses over 20 steps, and of the first gradient norm; docs/numerics.md repeats it.
constexpr double kLossTolerance = 1e-5, kNormTolerance = 1e-6;

void expect_near(const Losses& got, const Losses& want) {
  ASSERT_EQ(got.steps.size(), want.steps.size());
  for (size_t i = 0; i < want.steps.size(); ++i)
    EXPECT_NEAR(got.steps[i][0] / want.steps[i][0], 1, kLossTolerance) << "loss of step " << i;
  EXPECT_NEAR(got.steps[0][2] / want.steps[0][2], 1, kNormTolerance);
  ASSERT_EQ(got.evaluations.size(), want.evaluations.size());
  for (size_t i = 0; i < want.evaluations.size(); ++i)
    EXPECT_NEAR(got.evaluations[i] / want.evaluations[i], 1, kLossTolerance) << "evaluation " << i;
}

class Layouts : public testing::TestWithParam<Case> {};

TEST_P(Layouts, HaveTheBitsOfTheirSums) {
  const Case& c = GetParam();
  const RunConfig run = run_of(c.model);
  const Outcome base = train_on(project_text(), run, c.base);
  ASSERT_FALSE(HasFailure());
  ASSERT_EQ(base.losses.front().steps.size(), static_cast<size_t>(kSteps));
  EXPECT_LT(base.losses.front().steps.back()[0], base.losses.front().steps.front()[0]) << "it learns";
  if (c.base.num_ranks() > 1) expect_near(base.losses.front(), train_on(project_text(), run, {}).losses.front());
  for (const MeshConfig& layout : c.layouts) {
    SCOPED_TRACE(print_config(layout));
    RunConfig laid_out = run;
    laid_out.mesh = layout;
    ASSERT_TRUE(resolve_with_data(local_files(), laid_out).ok());
    ASSERT_TRUE(check_layout(laid_out).ok());
    const Outcome other = train_on(project_text(), run, layout);
    ASSERT_FALSE(HasFailure());
    for (const Losses& losses : other.losses) {
      EXPECT_EQ(losses.steps, base.losses.front().steps);
      EXPECT_EQ(losses.evaluations, base.losses.front().evaluations);
    }
    ASSERT_EQ(other.saved.size(), base.saved.size());
    for (const auto& [name, bytes] : base.saved) EXPECT_TRUE(other.saved.at(name) == bytes) << name;
  }
}

// Data ranks whose pipelines have different numbers of microbatches, some fewer than there are stages.
TEST(Shares, OfLeavesChangeNoBitInPipelines) {
  const auto interleaved = PipelineScheduleKind::kInterleaved, zero_bubble = PipelineScheduleKind::kZeroBubble;
  const std::vector<LeafRange> first_slow = {{0, 1}, {1, 8}}, last_slow = {{0, 7}, {7, 8}},
                               three = {{0, 5}, {5, 7}, {7, 8}}, pairs = {{0, 3}, {3, 4}};
  struct Shared {
    Model model;
    MeshConfig base, layout;
    std::vector<LeafRange> shares;
  };
  const Model muon = {.family = Family::kGrok2, .optimizer = OptimizerKind::kMuon, .tied = false, .documents = true},
              two_to_a_leaf = {.family = Family::kGrok1, .leaves = 4}, llama = {.family = Family::kLlama};
  const Shared cases[] = {
      {{Family::kGrok1}, {}, {.data = 2, .pipeline = 2}, last_slow},
      {{Family::kGrok1}, {}, {.data = 2, .pipeline = 2, .chunks = 2, .schedule = interleaved}, first_slow},
      {{Family::kGrok1}, {}, {.shard = 2, .pipeline = 3, .schedule = zero_bubble}, last_slow},
      {muon, {}, {.shard = 3, .pipeline = 2, .schedule = zero_bubble}, three},
      {two_to_a_leaf, {}, {.data = 2, .pipeline = 2, .chunks = 2, .schedule = interleaved}, pairs},
      {llama, {.tensor = 2}, {.data = 2, .tensor = 2, .pipeline = 2, .schedule = zero_bubble}, first_slow},
      {llama, {.context = 2}, {.shard = 2, .context = 2, .pipeline = 2}, last_slow}};
  for (const Shared& c : cases) {
    SCOPED_TRACE(print_config(c.layout));
    const Outcome base = train_on(project_text(), run_of(c.model), c.base);
    const Outcome shared = train_on(project_text(), run_of(c.model), c.layout, {.shares = c.shares});
    ASSERT_FALSE(HasFailure());
    EXPECT_EQ(shared.losses.back().steps, base.losses.front().steps);
    EXPECT_EQ(shared.losses.back().evaluations, base.losses.front().evaluations);
    EXPECT_TRUE(shared.saved == base.saved);
  }
}

// A checkpoint of any layout is read by any other. Where both have the same sums nobody sees it afterwards.
TEST(Checkpoints, OfAnyLayoutGoOnWithAnyOther) {
  const RunConfig run = run_of({Family::kGrok1, OptimizerKind::kMuon});
  const auto zero_bubble = PipelineScheduleKind::kZeroBubble;
  struct Change {
    MeshConfig from, to;
    bool same_sums;
  };
  const Change changes[] = {{{.shard = 3}, {.data = 2, .pipeline = 3}, true},
                            {{.data = 2, .pipeline = 2, .schedule = zero_bubble}, {}, true},
                            {{.shard = 2, .tensor = 2, .expert = 2}, {.data = 3, .tensor = 2, .expert = 2}, true},
                            {{.shard = 2}, {.data = 2, .shard = 2, .zero_stage = 3}, true},
                            {{.shard = 4, .zero_stage = 3}, {.data = 3}, true},
                            {{}, {.shard = 2, .tensor = 4, .expert = 2, .expert_tensor = 2}, false},
                            {{.tensor = 4, .expert = 4, .pipeline = 2}, {.shard = 2, .context = 2}, false}};
  for (const Change& change : changes) {
    SCOPED_TRACE(print_config(change.from) + " to " + print_config(change.to));
    const Outcome alone = train_on(project_text(), run, change.to);
    const Outcome before = train_on(project_text(), run, change.from, {.stop_after = 8});
    const Outcome after = train_on(project_text(), run, change.to, {.resumes = true});
    ASSERT_FALSE(HasFailure());
    const Losses &first = before.losses.front(), &second = after.losses.front();
    const size_t done = first.steps.size();
    ASSERT_EQ(done, change.from.num_ranks() > 1 ? 9u : 8u) << "ranks stop together, after a step";
    ASSERT_EQ(second.steps.size(), static_cast<size_t>(kSteps) - done);
    EXPECT_EQ(second.notes.find("sums are rounded in another order") != std::string::npos, !change.same_sums);
    for (size_t i = 0; i < second.steps.size(); ++i) {
      const auto &got = second.steps[i], &want = alone.losses.front().steps[i + done];
      if (change.same_sums)
        EXPECT_EQ(got, want) << "step " << i + done;
      else
        EXPECT_NEAR(got[0] / want[0], 1, kLossTolerance) << "step " << i + done;
    }
    EXPECT_EQ(after.saved == alone.saved, change.same_sums);
  }
}

std::vector<Case> cases() {
  const auto interleaved = PipelineScheduleKind::kInterleaved, zero_bubble = PipelineScheduleKind::kZeroBubble;
  return {
      {.name = "Grok1Pipeline",
       .model = {Family::kGrok1},
       .base = {},
       .layouts = {{.pipeline = 2},
                   {.pipeline = 5},
                   {.pipeline = 2, .chunks = 2, .schedule = interleaved},
                   {.pipeline = 3, .schedule = zero_bubble},
                   {.data = 2, .pipeline = 2},
                   {.shard = 3, .pipeline = 2, .schedule = zero_bubble},
                   {.data = 2, .shard = 2, .pipeline = 4}}},
      {.name = "Grok2UntiedMuonPipeline",
       .model = {Family::kGrok2, OptimizerKind::kMuon, /*tied=*/false, /*documents=*/true, 0, Recompute::kFull},
       .base = {},
       .layouts = {{.pipeline = 2, .schedule = zero_bubble},
                   {.pipeline = 2, .chunks = 2, .schedule = interleaved},
                   {.shard = 5, .pipeline = 3},
                   {.data = 3},
                   {.data = 2, .shard = 4, .pipeline = 2}}},
      {.name = "Gpt2DropoutPipeline",
       .model = {Family::kGpt2, OptimizerKind::kAdamW, true, false, 0.1},
       .base = {},
       .layouts = {{.pipeline = 4}, {.data = 4, .pipeline = 2, .chunks = 2, .schedule = interleaved}, {.shard = 8}}},
      // Several microbatches to a leaf, and one to several leaves to a rank: those of three ranks are no whole trees.
      {.name = "Grok1FourLeaves",
       .model = {.family = Family::kGrok1, .leaves = 4},
       .base = {},
       .layouts = {{.data = 2},
                   {.shard = 3},
                   {.data = 2, .shard = 2},
                   {.data = 3, .pipeline = 2},
                   {.shard = 3, .pipeline = 2, .chunks = 2, .schedule = interleaved},
                   {.shard = 2, .pipeline = 3, .schedule = zero_bubble}}},
      {.name = "LlamaMuonOneLeaf",
       .model = {.family = Family::kLlama, .optimizer = OptimizerKind::kMuon, .leaves = 1},
       .base = {},
       .layouts = {{.pipeline = 2, .schedule = zero_bubble}}},
      // In every other step the exchange comes behind the passes.
      {.name = "Gpt2Verified",
       .model = {.family = Family::kGpt2, .dropout = 0.1, .verify_every = 2},
       .base = {},
       .layouts = {{.data = 2}, {.shard = 3}, {.data = 5, .pipeline = 2}}},
      {.name = "LlamaTensor2",
       .model = {Family::kLlama, OptimizerKind::kMuon},
       .base = {.tensor = 2},
       .layouts = {{.data = 2, .tensor = 2},
                   {.shard = 2, .tensor = 2},
                   {.tensor = 2, .pipeline = 2},
                   {.data = 2, .shard = 2, .tensor = 2, .pipeline = 2, .schedule = zero_bubble}}},
      {.name = "Gpt2Tensor4Dropout",
       .model = {Family::kGpt2, OptimizerKind::kAdamW, true, true, 0.1, Recompute::kSelective},
       .base = {.tensor = 4},
       .layouts = {{.shard = 4, .tensor = 4}, {.tensor = 4, .pipeline = 3}}},
      {.name = "LlamaContext2",
       .model = {Family::kLlama, OptimizerKind::kAdamW, false, true},
       .base = {.context = 2},
       .layouts = {{.data = 2, .context = 2}, {.shard = 3, .context = 2, .pipeline = 2}}},
      {.name = "Grok1Tensor2Expert2",
       .model = {Family::kGrok1},
       .base = {.tensor = 2, .expert = 2},
       .layouts = {{.shard = 2, .tensor = 2, .expert = 2},
                   {.data = 3, .tensor = 2, .expert = 2},
                   {.tensor = 2, .expert = 2, .pipeline = 2, .schedule = zero_bubble},
                   {.data = 2, .shard = 2, .tensor = 2, .expert = 2, .pipeline = 2}}},
      {.name = "Grok1ExpertOverDataMuon",
       .model = {Family::kGrok1, OptimizerKind::kMuon},
       .base = {.shard = 4, .expert = 4},
       .layouts = {{.data = 4, .expert = 4}, {.data = 2, .shard = 2, .expert = 4, .pipeline = 2}}},
      {.name = "Grok2ExpertTensorMuon",
       .model = {Family::kGrok2, OptimizerKind::kMuon},
       .base = {.tensor = 4, .expert = 2, .expert_tensor = 2},
       .layouts = {{.shard = 2, .tensor = 4, .expert = 2, .expert_tensor = 2},
                   {.tensor = 4, .expert = 2, .expert_tensor = 2, .pipeline = 2}}},
      {.name = "Grok1ContextTensorExpert",
       .model = {Family::kGrok1, OptimizerKind::kAdamW, true, true},
       .base = {.context = 2, .tensor = 2, .expert = 4},
       .layouts = {{.data = 2, .context = 2, .tensor = 2, .expert = 4},
                   {.shard = 2, .context = 2, .tensor = 2, .expert = 4, .pipeline = 2}}},
      {.name = "Grok2ExpertOverDataAndTensor",
       .model = {Family::kGrok2},
       .base = {.shard = 2, .tensor = 2, .expert = 4},
       .layouts = {{.data = 2, .tensor = 2, .expert = 4}, {.data = 2, .tensor = 2, .expert = 4, .pipeline = 3}}},
      {.name = "Grok1Zero",
       .model = {Family::kGrok1},
       .base = {},
       .layouts = {{.shard = 4, .zero_stage = 2},
                   {.data = 2, .shard = 2, .zero_stage = 2},
                   {.shard = 2, .zero_stage = 2, .pipeline = 2, .chunks = 2, .schedule = interleaved},
                   {.shard = 4, .zero_stage = 3},
                   {.shard = 8, .zero_stage = 3},
                   {.data = 2, .shard = 2, .zero_stage = 3},
                   {.zero_stage = 3, .pipeline = 3},
                   {.shard = 2, .zero_stage = 3, .pipeline = 2, .schedule = zero_bubble},
                   {.data = 2, .shard = 2, .zero_stage = 3, .pipeline = 2}}},
      {.name = "Grok2UntiedMuonZero",
       .model = {Family::kGrok2, OptimizerKind::kMuon, /*tied=*/false, /*documents=*/true, 0, Recompute::kFull},
       .base = {},
       .layouts = {{.data = 4, .zero_stage = 2},
                   {.shard = 2, .zero_stage = 3},
                   {.data = 2, .shard = 4, .zero_stage = 3},
                   {.shard = 4, .zero_stage = 2, .pipeline = 2, .schedule = zero_bubble}}},
      {.name = "Gpt2DropoutZero",
       .model = {Family::kGpt2, OptimizerKind::kAdamW, true, false, 0.1},
       .base = {},
       .layouts = {{.data = 2, .shard = 2, .zero_stage = 2}, {.shard = 2, .zero_stage = 3, .pipeline = 2}}},
      {.name = "LlamaTensor2Zero",
       .model = {Family::kLlama, OptimizerKind::kMuon},
       .base = {.tensor = 2},
       .layouts = {{.zero_stage = 2, .tensor = 2},
                   {.data = 2, .zero_stage = 2, .tensor = 2},
                   {.shard = 2, .zero_stage = 3, .tensor = 2},
                   {.data = 2, .shard = 2, .zero_stage = 3, .tensor = 2, .pipeline = 2}}},
      {.name = "LlamaContext2Zero",
       .model = {Family::kLlama, OptimizerKind::kAdamW, false, true},
       .base = {.context = 2},
       .layouts = {{.shard = 2, .zero_stage = 2, .context = 2}, {.shard = 4, .zero_stage = 3, .context = 2}}},
      {.name = "Grok1Tensor2Expert2Zero",
       .model = {Family::kGrok1},
       .base = {.tensor = 2, .expert = 2},
       .layouts = {{.shard = 2, .zero_stage = 2, .tensor = 2, .expert = 2},
                   {.data = 2, .shard = 2, .zero_stage = 3, .tensor = 2, .expert = 2},
                   {.shard = 2, .zero_stage = 3, .tensor = 2, .expert = 2, .pipeline = 2}}},
      // Each rank has one leaf: then they are dealt as with stage 1.
      {.name = "Grok1ExpertOverDataZeroMuon",
       .model = {Family::kGrok1, OptimizerKind::kMuon},
       .base = {.shard = 8, .expert = 4},
       .layouts = {{.shard = 8, .zero_stage = 2, .expert = 4},
                   {.shard = 8, .zero_stage = 3, .expert = 4},
                   {.data = 4, .shard = 2, .zero_stage = 3, .expert = 4}}},
      {.name = "Grok1ExpertOverDataZeroInTurn",
       .model = {Family::kGrok1},
       .base = {.shard = 4, .zero_stage = 2, .expert = 2},
       .layouts = {{.shard = 4, .zero_stage = 3, .expert = 2},
                   {.data = 2, .shard = 2, .zero_stage = 3, .expert = 2, .pipeline = 2}}},
      {.name = "Grok2ExpertTensorZeroMuon",
       .model = {Family::kGrok2, OptimizerKind::kMuon},
       .base = {.tensor = 4, .expert = 2, .expert_tensor = 2},
       .layouts = {{.shard = 2, .zero_stage = 3, .tensor = 4, .expert = 2, .expert_tensor = 2}}},
      {.name = "LlamaContext2Tensor4",
       .model = {Family::kLlama},
       .base = {.context = 2, .tensor = 4},
       .layouts = {{.shard = 2, .context = 2, .tensor = 4}}},
  };
}

INSTANTIATE_TEST_SUITE_P(Runs, Layouts, testing::ValuesIn(cases()), [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace colossus
