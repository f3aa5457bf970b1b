#include "train/dial.h"

#include <algorithm>
#include <cmath>

#include "train/run_config.h"

namespace colossus {

void apply_dial(RunConfig& run, int64_t depth) {
  ModelConfig& m = run.model;
  m = ModelConfig{};
  m.family = Family::kGrok1;
  m.num_layers = depth;
  m.width = 64 * depth;
  m.head_dim = 64;
  m.num_heads = depth;
  m.num_kv_heads = std::max<int64_t>(1, depth / 2);
  while (m.num_heads % m.num_kv_heads != 0) --m.num_kv_heads;
  m.num_experts = 8;
  m.num_experts_per_token = 2;
  m.expert_width = (m.width * 4 / 3 + 31) / 32 * 32;
  m.context = std::min<int64_t>(2048, 128 + 64 * depth);
  m.embedding_scale = std::sqrt(static_cast<double>(m.width));
  m.logit_scale = 1 / std::sqrt(3.0);
  m.attn_softcap = 30;
  m.balance_loss = 0.01;
  m.z_loss = 0.001;

  run.train.tokens = m.context;
  run.train.batch = std::max<int64_t>(1, 16384 / m.context);
  const double tokens_per_step = static_cast<double>(run.train.batch * m.context);
  // Per layer: attention (2 + 2 K / H) C^2, and two gated experts.
  const double width = static_cast<double>(m.width);
  const double attention =
      (2 + 2 * static_cast<double>(m.num_kv_heads) / static_cast<double>(m.num_heads)) * width * width;
  const double experts = 6 * width * static_cast<double>(m.expert_width);
  run.train.steps = std::max<int64_t>(
      200, static_cast<int64_t>(20 * static_cast<double>(depth) * (attention + experts) / tokens_per_step));

  run.optimizer.kind = OptimizerKind::kMuon;
  run.optimizer.learning_rate = 4e-3 * std::sqrt(256 / width);
  run.optimizer.muon_learning_rate = 0.02;
  run.optimizer.warmup_steps = std::min<int64_t>(100, run.train.steps / 10);
  run.optimizer.decay = Decay::kWarmupStableDecay;
  run.optimizer.decay_share = 0.4;
  run.optimizer.final_share = 0;
}

}  // namespace colossus
