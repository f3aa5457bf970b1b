// A layout to be judged: how a model's training step lies on GPUs, and what the software that runs it does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "device/sim/kernel_times.h"
#include "model/model_config.h"
#include "parallel/mesh.h"
#include "train/run_config.h"

namespace colossus {

// How far communication runs beside computation, and in which width. The default is what our own programs do on GPUs;
// stacks of others differ (configs/calibration.toml).
struct StackConfig {
  std::string name = "colossus";
  // Between the large products each tensor rank has its share of the tokens (Korthikanti et al. 2022); else norms and
  // the residual stream are computed by all of them alike.
  bool sequence_parallel = true;
  double tensor_overlap = 0;  // share of the tensor axis's communication that runs beside the products it belongs to
  double context_overlap = 0;
  double expert_overlap = 0;
  double pipeline_overlap = 1;  // of transfers between stages, with work of other microbatches
  // Of gradients and parameters, with the backward and the forward pass of the layers. None: as our own programs do,
  // which are then played as they are (exchange_overlap() in step_time.h).
  std::optional<double> data_overlap;
  bool fused_attention = true;  // scores never stored (Dao et al. 2022)
  bool attention_dropout = false;
  bool expert_folding = true;         // experts need not be cut as the rest is (Liu et al. 2025)
  bool expert_deduplication = false;  // a row goes once to each machine, whatever number of experts it meets there
  // A row goes to one of an expert's ranks, which gather it among them; else to each.
  bool expert_tensor_gather = false;
  // Of the rows that an expert gets, as a share of the mean. The fullest of the ranks that share the experts is waited
  // for. 0: routing is forced to be even, as in most published measurements.
  double expert_deviation = 0;
  // What putting rows in order of their experts moves, over what our kernels move, which do it in one pass each way;
  // and how many kernels each of these four operations of a layer and microbatch is.
  double routing_passes = 1;
  double routing_kernels = 1;
  bool fused_expert_rounding = false;  // what experts' products read is rounded by the kernels that make it
  double layer_host_ms = 0;            // that the host takes to launch what a layer does for a microbatch, both passes
  // How often the logits are read or written in fp32 between the head's products, by kernels of their own.
  double loss_passes = 0;
  double gradient_bytes = 4;  // an element, on the wire
  double parameter_bytes = 4;
  Recompute recompute = Recompute::kNone;  // where nothing else is said
  double efficiency = 1;  // of all kernels, beside those of the machine: one number for a release of the software
  double attention = 1;   // of attention's kernels, beside the machine's: an older generation of them
  void visit_fields(FieldVisitor& v);

  // Data ranks exchange what our own programs say, when they say it.
  bool is_own() const { return !data_overlap; }
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

// "tensor 8 context 1 pipeline 4 data 16, microbatch 1, recompute none".
std::string layout_text(const Layout& layout);
// "bf16".
std::string product_name(ProductType products);

}  // namespace colossus
