// For tests: a question that is answered in milliseconds.
#pragma once

#include "io/config.h"
#include "plan/calibration.h"
#include "plan/question.h"
#include "plan/ready_files.h"

namespace colossus {

inline const Calibration& ready_calibration() {
  static const Calibration loaded = *load_config<Calibration>(local_and_ready_files(), "configs/calibration.toml");
  return loaded;
}

// Four layers on 16 GPUs of a pod of H100.
inline PlanQuestion small_question(Family family) {
  PlanQuestion question;
  question.cluster = *load_config<ClusterConfig>(local_and_ready_files(), "configs/clusters/dgx-h100-pod.toml");
  question.num_gpus = 16;
  question.batch_tokens = 64 * 1024;
  question.state = kMixedState;
  ModelConfig& model = question.model;
  model.family = family;
  model.num_layers = 4;
  model.width = 2048;
  model.num_heads = 16;
  model.num_kv_heads = 4;
  model.head_dim = 128;
  model.num_experts = family == Family::kLlama ? 0 : 4;
  model.ffn_width = family == Family::kLlama ? 8192 : 0;
  model.expert_width = 4096;
  model.vocab_size = 32768;
  model.context = 1024;
  model.tie_embeddings = false;
  return question;
}

}  // namespace colossus
