// How parameters move.
#pragma once

#include "io/fields.h"

namespace colossus {

enum class OptimizerKind { kAdamW, kMuon };
inline auto field_choices(OptimizerKind) {
  return std::to_array<FieldChoice<OptimizerKind>>({{OptimizerKind::kAdamW, "adamw"}, {OptimizerKind::kMuon, "muon"}});
}

enum class Decay { kConstant, kCosine, kLinear, kWarmupStableDecay };
inline auto field_choices(Decay) {
  return std::to_array<FieldChoice<Decay>>({{Decay::kConstant, "constant"},
                                            {Decay::kCosine, "cosine"},
                                            {Decay::kLinear, "linear"},
                                            {Decay::kWarmupStableDecay, "warmup_stable_decay"}});
}

struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::kAdamW;  // muon: hidden matrices by Muon, all else by AdamW
  double learning_rate = 1e-3;                 // peak, of AdamW
  double muon_learning_rate = 0.02;            // peak, of Muon
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double momentum = 0.95;
  double weight_decay = 0.1;  // of matrices and embeddings; vectors never decay
  double muon_weight_decay = 0.01;
  double clip_norm = 1;  // 0: off
  Decay decay = Decay::kCosine;
  int64_t warmup_steps = 100;
  double decay_share = 0.2;  // of the steps, at the end: warmup_stable_decay
  double final_share = 0.1;  // of the peak, at the last step

  void visit_fields(FieldVisitor& v);
};

// What to multiply peak learning rates by at optimizer step `step` (from 0) of `steps`: linear warm-up to 1, then
// cosine (Loshchilov and Hutter 2016), linear, or flat and then linear (Hu et al. 2024), to final_share.
double learning_rate_factor(const OptimizerConfig& config, int64_t step, int64_t steps);

}  // namespace colossus
