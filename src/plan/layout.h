// A layout to be judged: how a model's training step lies on GPUs, and what the software that runs it does.
#pragma once

#include <cstdint>
#include <string>

#include "device/sim/kernel_times.h"
#include "model/model_config.h"
#include "parallel/mesh.h"
#include "train/run_config.h"

namespace colossus {

// How far communication runs beside computation, and in which width. The default is what our own programs do on GPUs;
// stacks of others differ (configs/validation/stacks.toml).
struct StackConfig {
  std::string name = "colossus";
  // Between the large products each tensor rank has its share of the tokens (Korthikanti et al. 2022); else norms and
  // the residual stream are computed by all of them alike.
  bool sequence_parallel = true;
  double tensor_overlap = 0;  // share of the tensor axis's communication that runs beside the products it belongs to
  double context_overlap = 0;
  double expert_overlap = 0;
  double pipeline_overlap = 1;  // of transfers between stages, with work of other microbatches
  double data_overlap = 1;      // of gradients and parameters, with the backward and the forward pass of the layers
  bool fused_attention = true;  // scores never stored (Dao et al. 2022)
  bool attention_dropout = false;
  bool expert_folding = true;         // experts need not be cut as the rest is (Liu et al. 2025)
  bool expert_deduplication = false;  // a row goes once to each machine, whatever number of experts it meets there
  double gradient_bytes = 4;          // an element, on the wire
  double parameter_bytes = 2;
  Recompute recompute = Recompute::kNone;  // where nothing else is said
  double efficiency = 1;  // of all kernels, beside those of the machine: one number for a release of the software
  double attention = 1;   // of attention's kernels, beside the machine's: an older generation of them
  void visit_fields(FieldVisitor& v);
};

struct Layout {
  MeshConfig mesh;
  int64_t batch = 1;       // sequences a step
  int64_t microbatch = 1;  // sequences
  int64_t tokens = 1;      // T
  Recompute recompute = Recompute::kNone;
  ProductType products = ProductType::kBF16;

  int64_t num_microbatches() const { return batch / (microbatch * mesh.data * mesh.shard); }  // of a data rank
};

}  // namespace colossus
