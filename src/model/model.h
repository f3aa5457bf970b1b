// Models as programs. A family's file (grok.cc, llama.cc, gpt2.cc) reads like its paper: no device, no parallelism, no
// difference between training and decoding in sight.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/model_config.h"
#include "program/passes.h"
#include "program/program.h"

namespace colossus {

// How a parameter begins, who updates it, and how ranks may share it.
struct ParameterSpec {
  enum class Kind { kMatrix, kEmbedding, kVector };  // hidden matrices may be updated by Muon; vectors do not decay

  std::string name;
  Shape shape;
  Kind kind = Kind::kMatrix;
  double init_std = 0;  // normal; 0: every element is init_value
  double init_value = 0;
  Placement placement = {};  // on axes of a mesh that has them; copies on all others
};

// Every parameter in the order the model uses them: what the writers declare, so nothing is described twice.
Result<std::vector<ParameterSpec>> parameter_table(const ModelConfig& config);

struct ParameterCounts {
  int64_t total = 0;
  int64_t active = 0;         // seen by one token: of the experts only those chosen
  int64_t active_matmul = 0;  // of those, the ones in matrix products: no norms, no biases, no embedding look-up
};
Result<ParameterCounts> count_parameters(const ModelConfig& config);

// Training FLOPs per token, forward and backward: 6 * (active matmul parameters) + 12 * L * H * D * T
// (Chowdhery et al. 2022, appendix B; the whole score square is counted).
Result<double> training_flops_per_token(const ModelConfig& config, int64_t tokens);

// A matrix or table as it is stored. Programs that do nothing but read it declare it so: nothing has to be made of it.
struct StoredForm {
  DType dtype = DType::kF32;  // or bf16
  bool transposed = false;    // of a matrix: (out, in), or (E, out, in), where the network has (in, out)
};
using StoredForms =
    std::map<std::string, StoredForm>;  // by parameter; those not in it are fp32, as the network has them

struct ProgramOptions {
  int64_t batch = 1;            // B
  int64_t tokens = 1;           // T
  DType compute = DType::kF32;  // activations; parameters are fp32 (fp64 with fp64) or as `stored` says
  bool document_mask = false;   // attention stays within documents: one more input
  StoredForms stored = {};      // of matrices and tables, in programs that are not differentiated
};

// The forward pass and its loss. Inputs: tokens (B, T) i32, targets (B, T) i32, [document_start (B, T) i32], [rng (3)
// i64]. Outputs: loss () nats per target, token_loss (B, T), and aux_loss () where experts have one.
Result<Program> write_loss_program(const ModelConfig& config, const ProgramOptions& options);

// write_loss_program differentiated and fused: one microbatch of training. One more input, loss_grad () f32: what to
// multiply gradients by (1 / number of microbatches). Gradients are added into tensors "grad.<parameter>".
Result<Program> write_training_program(const ModelConfig& config, const ProgramOptions& options, Recompute recompute);

// The same from a loss program, whole or one rank's (parallel/partition.h).
Result<Program> write_training_program(Program loss_program, Recompute recompute);

// Cached decoding of B sequences, T tokens each. Inputs: tokens (B, T), positions (B, T), lengths (B), last (B): which
// of the T tokens to give logits for. States: layers.N.k_cache and v_cache (B, cache_tokens, K * D). Output: logits (B,
// 1, V) f32, scaled and capped.
Result<Program> write_decode_program(const ModelConfig& config, const ProgramOptions& options, int64_t cache_tokens);

}  // namespace colossus
