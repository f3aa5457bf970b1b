#include "train/optimizer_config.h"

#include <algorithm>
#include <cmath>

namespace colossus {

void OptimizerConfig::visit_fields(FieldVisitor& v) {
  v.field("kind", kind, "adamw, or muon: hidden matrices by Muon, all else by AdamW");
  v.field("learning_rate", learning_rate, "peak learning rate of AdamW", {.above = 0});
  v.field("muon_learning_rate", muon_learning_rate, "peak learning rate of Muon", {.above = 0});
  v.field("beta1", beta1, "decay of AdamW's first moment", {.min = 0, .max = 0.9999});
  v.field("beta2", beta2, "decay of AdamW's second moment", {.min = 0, .max = 0.99999});
  v.field("eps", eps, "added to AdamW's denominator", {.above = 0});
  v.field("momentum", momentum, "decay of Muon's momentum", {.min = 0, .max = 0.9999});
  v.field("weight_decay", weight_decay, "of AdamW, decoupled; norms and biases never decay", {.min = 0});
  v.field("muon_weight_decay", muon_weight_decay, "of Muon, decoupled", {.min = 0});
  v.field("clip_norm", clip_norm, "largest norm of all gradients together; 0: no clipping", {.min = 0});
  v.field("decay", decay, "form of the learning rate after warm-up");
  v.field("warmup_steps", warmup_steps, "linear rise to the peak", {.unit = "steps", .min = 0});
  v.field("decay_share", decay_share, "warmup_stable_decay: share of the steps that fall, at the end",
          {.min = 0, .max = 1});
  v.field("final_share", final_share, "learning rate of the last step, as a share of the peak", {.min = 0, .max = 1});
}

double learning_rate_factor(const OptimizerConfig& config, int64_t step, int64_t steps) {
  if (step < config.warmup_steps) return static_cast<double>(step + 1) / static_cast<double>(config.warmup_steps);
  if (config.decay == Decay::kConstant) return 1;
  const double begin =
      config.decay == Decay::kWarmupStableDecay
          ? std::max(static_cast<double>(config.warmup_steps), static_cast<double>(steps) * (1 - config.decay_share))
          : static_cast<double>(config.warmup_steps);
  const double length = std::max(1.0, static_cast<double>(steps - 1) - begin);
  const double progress = std::clamp((static_cast<double>(step) - begin) / length, 0.0, 1.0);
  const double fall = config.decay == Decay::kCosine ? 0.5 * (1 - std::cos(progress * 3.141592653589793)) : progress;
  return 1 - (1 - config.final_share) * fall;
}

}  // namespace colossus
