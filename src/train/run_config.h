// All that makes a training run. One description gives the file format, --set, help and what a checkpoint keeps.
#pragma once

#include <string>
#include <vector>

#include "data/shard_set.h"
#include "model/model_config.h"
#include "parallel/mesh.h"
#include "program/passes.h"
#include "train/optimizer_config.h"

namespace colossus {

inline auto field_choices(Recompute) {
  return std::to_array<FieldChoice<Recompute>>(
      {{Recompute::kNone, "none"}, {Recompute::kSelective, "selective"}, {Recompute::kFull, "full"}});
}

enum class ComputeType { kAuto, kF32, kBF16 };
inline auto field_choices(ComputeType) {
  return std::to_array<FieldChoice<ComputeType>>(
      {{ComputeType::kAuto, "auto"}, {ComputeType::kF32, "f32"}, {ComputeType::kBF16, "bf16"}});
}

struct DataSourceConfig {
  std::string path;
  double weight = 1;
  void visit_fields(FieldVisitor& v);
};

struct DataConfig {
  std::vector<DataSourceConfig> sources;
  std::string tokenizer;  // "": the one the shards were built with
  bool document_mask = false;
  bool random_offset = true;
  void visit_fields(FieldVisitor& v);
};

struct TrainConfig {
  int64_t steps = 1000;
  int64_t batch = 32;            // sequences per step
  int64_t tokens = 0;            // T; 0: the model's context
  int64_t microbatch = 0;        // sequences; 0: see resolve()
  int64_t reduction_leaves = 0;  // 0: see resolve()
  int64_t seed = 1;
  std::string init_from;
  ComputeType compute = ComputeType::kAuto;
  Recompute recompute = Recompute::kNone;
  std::string device = "auto";
  int64_t threads = 0;
  int64_t evaluate_every = 250;
  int64_t evaluation_tokens = 65536;
  int64_t sample_every = 0;
  int64_t sample_tokens = 120;
  std::string sample_prompt = "\n";
  int64_t checkpoint_every = 500;
  std::string checkpoint_directory;  // "": checkpoints/ in the run's
  int64_t keep_last = 2;
  bool keep_best = true;
  bool async_checkpoints = true;
  int64_t max_skipped_steps = 10;  // in a row
  double max_seconds = 0;
  int64_t balance_every = 20;
  int64_t verify_every = 0;
  void visit_fields(FieldVisitor& v);
  void check_fields(FieldChecker& c) const;
};

struct RunConfig {
  std::string out = "out/run";
  int64_t depth = 0;  // the dial: see dial.h
  ModelConfig model;
  DataConfig data;
  TrainConfig train;
  OptimizerConfig optimizer;
  MeshConfig mesh;

  std::string checkpoint_directory() const {
    return train.checkpoint_directory.empty() ? out + "/checkpoints" : train.checkpoint_directory;
  }
  void visit_fields(FieldVisitor& v);

 private:
  int64_t dialled_depth_ = 0;  // the depth whose rule the other fields were last set by
};

// Fills what is left to a rule: tokens from the context, microbatch and leaves from the batch. The rules look at the
// configuration alone, not at the machine, for both are part of which bits a run produces:
//   microbatch: as many sequences as hold 4096 tokens, at least one, lowered to a divisor of batch;
//   reduction_leaves: the largest power of two, at most 8, that divides the number of microbatches.
Status resolve(RunConfig& run, int64_t tokenizer_vocab_size);

// The same with what the run's first shards say, whose index it returns.
Result<ShardIndex> resolve_with_data(FileSystem& files, RunConfig& run);

// What the mesh of a completed run must divide.
MeshLimits mesh_limits(const RunConfig& run);
// Every fault of its mesh, and what training does not do yet.
Status check_layout(const RunConfig& run);

}  // namespace colossus
