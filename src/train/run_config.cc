#include "train/run_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "train/dial.h"

namespace colossus {

void DataSourceConfig::visit_fields(FieldVisitor& v) {
  v.field("path", path, "directory of token shards (colossus data build)");
  v.field("weight", weight, "share of the samples, over the sum of all weights", {.above = 0});
}

void DataConfig::visit_fields(FieldVisitor& v) {
  v.field("tokenizer", tokenizer, "tokenizer.json; \"\": the one beside the first source's shards");
  v.field("document_mask", document_mask, "attention stays within a document");
  v.field("random_offset", random_offset, "each epoch cuts the text at other places");
  v.list("sources", sources, "shards and their weights");
}

void TrainConfig::visit_fields(FieldVisitor& v) {
  v.field("steps", steps, "optimizer steps", {.unit = "steps", .min = 1});
  v.field("batch", batch, "sequences of a step", {.unit = "sequences", .min = 1, .max = 1 << 24});
  v.field("tokens", tokens, "length of a sequence; 0: the model's context",
          {.unit = "tokens", .min = 0, .max = 1 << 24});
  v.field("microbatch", microbatch, "sequences computed at once; divides batch; 0: about 4096 tokens",
          {.unit = "sequences", .min = 0});
  v.field("reduction_leaves", reduction_leaves, "leaves of the tree that sums gradients, a power of two; 0: up to 8",
          {.min = 0, .max = 1 << 20});
  v.field("seed", seed, "of initial weights, data order and dropout", {.min = 0});
  v.field("init_from", init_from,
          "a run, checkpoint or imported model whose parameters this run begins with; \"\": random ones");
  v.field("compute", compute, "type of activations; auto: bf16 where the processor multiplies it, else f32");
  v.field("recompute", recompute, "activations computed again instead of kept");
  v.field("device", device, "cpu, cuda, cuda:N, or auto: a GPU where there is one; of several ranks each takes its own");
  v.field("threads", threads, "of the CPU; 0: every core this process may use", {.min = 0, .max = 4096});
  v.field("evaluate_every", evaluate_every, "0: only at the end", {.unit = "steps", .min = 0});
  v.field("evaluation_tokens", evaluation_tokens, "validation tokens of an evaluation; 0: all",
          {.unit = "tokens", .min = 0});
  v.field("sample_every", sample_every, "0: never", {.unit = "steps", .min = 0});
  v.field("sample_tokens", sample_tokens, "length of a sample", {.unit = "tokens", .min = 1, .max = 1 << 20});
  v.field("sample_prompt", sample_prompt, "what samples continue");
  v.field("checkpoint_every", checkpoint_every, "0: only at the end", {.unit = "steps", .min = 0});
  v.field("checkpoint_directory", checkpoint_directory,
          "where checkpoints are kept, also s3://bucket/key; empty: checkpoints/ in `out`");
  v.field("keep_last", keep_last, "checkpoints to keep", {.min = 1, .max = 1 << 20});
  v.field("keep_best", keep_best, "also keep the one with the lowest validation loss");
  v.field("async_checkpoints", async_checkpoints, "go on training while one is written; takes memory for a copy");
  v.field("max_skipped_steps", max_skipped_steps, "stop after so many non-finite steps in a row",
          {.unit = "steps", .min = 1});
  v.field("max_seconds", max_seconds, "end the run after this time of training; 0: no limit",
          {.unit = "seconds", .min = 0});
  v.field("balance_every", balance_every, "share the leaves by how fast ranks were; 0: equally",
          {.unit = "steps", .min = 0});
  v.field("verify_every", verify_every,
          "compute every leaf of each so many-th step twice, on two ranks, to find one that computes wrong numbers; "
          "0: never",
          {.unit = "steps", .min = 0});
}

void TrainConfig::check_fields(FieldChecker& c) const {
  if (microbatch > 0)
    c.require(batch % microbatch == 0, "microbatch", fmt::format("does not divide batch = {}", batch));
  if (reduction_leaves > 0)
    c.require((reduction_leaves & (reduction_leaves - 1)) == 0, "reduction_leaves",
              "is not a power of two; try 1, 2, 4 or 8");
}

void RunConfig::visit_fields(FieldVisitor& v) {
  v.field("out", out, "directory of the run: checkpoints, metrics, config");
  v.field("depth", depth, "the dial: layers of a small Grok; sets every other field that is not given",
          {.min = 0, .max = 64});
  // Keys that follow are read over what the dial set. A printed configuration carries both, and reads back the same.
  if (depth != dialled_depth_) {
    dialled_depth_ = depth;
    if (depth > 0) apply_dial(*this, depth);
  }
  v.group("model", model, "the network");
  v.group("data", data, "what it reads");
  v.group("train", train, "the run");
  v.group("optimizer", optimizer, "the rule of the update");
  v.group("mesh", mesh, "how ranks share the work");
}

Status resolve(RunConfig& run, int64_t tokenizer_vocab_size) {
  ModelConfig& model = run.model;
  TrainConfig& train = run.train;
  if (model.vocab_size == 0) model.vocab_size = tokenizer_vocab_size;
  if (model.vocab_size < tokenizer_vocab_size)
    return invalid(fmt::format(
        "[model.vocab_size] {}; the tokenizer has {} tokens: give at least that, or 0 to take it from the tokenizer",
        model.vocab_size, tokenizer_vocab_size));
  if (train.tokens == 0) train.tokens = model.context;
  if (train.tokens > model.context)
    return invalid(fmt::format("[train.tokens] {} is more than model.context = {}", train.tokens, model.context));
  if (train.microbatch == 0) {
    train.microbatch = std::clamp<int64_t>(4096 / train.tokens, 1, train.batch);
    while (train.batch % train.microbatch != 0) --train.microbatch;
  }
  const int64_t num_microbatches = train.batch / train.microbatch;
  if (train.reduction_leaves == 0) {
    train.reduction_leaves = 1;
    while (train.reduction_leaves < 8 && num_microbatches % (2 * train.reduction_leaves) == 0)
      train.reduction_leaves *= 2;
  }
  if (num_microbatches % train.reduction_leaves != 0)
    return invalid(fmt::format("[train.reduction_leaves] {} does not divide the {} microbatches of a step",
                               train.reduction_leaves, num_microbatches));
  return ok_status();
}

Result<ShardIndex> resolve_with_data(FileSystem& files, RunConfig& run) {
  if (run.data.sources.empty())
    return invalid("[data.sources] none; build shards with `colossus data build` and name their directory: --data DIR");
  ASSIGN_OR_RETURN(ShardIndex index, read_shard_index(files, run.data.sources.front().path));
  RETURN_IF_ERROR(resolve(run, index.identity.vocab_size));
  return index;
}

MeshLimits mesh_limits(const RunConfig& run) {
  return {.num_layers = run.model.num_layers,
          .num_heads = run.model.num_heads,
          .num_kv_heads = run.model.num_kv_heads,
          .ffn_width = run.model.ffn_width,
          .num_experts = run.model.num_experts,
          .expert_width = run.model.expert_width,
          .tokens = run.train.tokens,
          .reduction_leaves = run.train.reduction_leaves};
}

namespace {

// With ZeRO 2 and 3 the ranks exchange gradients after each microbatch, of which each is a leaf, and what they have
// then must be whole subtrees of the gradient tree.
Status check_turns(const RunConfig& run) {
  const TrainConfig& t = run.train;
  const int64_t num_microbatches = t.batch / t.microbatch, leaves = t.reduction_leaves;
  const auto power_below = [](int64_t number) {
    return static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(number)));
  };
  if (power_below(num_microbatches) != num_microbatches)
    return invalid(
        fmt::format("[mesh.zero_stage] {} needs a power of two of microbatches in a step; batch = {} and "
                    "microbatch = {} make {}: try batch = {} or {}",
                    run.mesh.zero_stage, t.batch, t.microbatch, num_microbatches,
                    power_below(num_microbatches) * t.microbatch, 2 * power_below(num_microbatches) * t.microbatch));
  if (leaves != num_microbatches)
    return invalid(
        fmt::format("[mesh.zero_stage] {} needs a leaf of the gradient tree for each microbatch: set "
                    "train.reduction_leaves = {} (was {}), or microbatch = {}; either rounds sums otherwise",
                    run.mesh.zero_stage, num_microbatches, leaves, t.batch / leaves));
  const int64_t data_ranks = run.mesh.data * run.mesh.shard;
  if (leaves % data_ranks == 0) return ok_status();
  std::string powers;
  for (int64_t power = 1; power <= leaves; power *= 2)
    powers += fmt::format("{}{}", power == 1 ? "" : 2 * power > leaves ? " or " : ", ", power);
  return invalid(
      fmt::format("[mesh.shard] data x shard = {} does not divide the {} leaves, which ranks take in turn "
                  "with zero_stage {}; try {}",
                  data_ranks, leaves, run.mesh.zero_stage, powers));
}

}  // namespace

Status check_layout(const RunConfig& run) {
  RETURN_IF_ERROR(check_mesh(run.mesh, mesh_limits(run)));
  if (run.mesh.zero_stage != 1 && run.train.verify_every > 0)
    return invalid(
        fmt::format("[train.verify_every] {}: with mesh.zero_stage = {} ranks sum each leaf together, and no rank can "
                    "compute another's alone; use 0, or zero_stage = 1",
                    run.train.verify_every, run.mesh.zero_stage));
  return run.mesh.zero_stage > 1 ? check_turns(run) : ok_status();
}

}  // namespace colossus
