// What the planner is asked: a model, a cluster, and how the one trains on the other.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "plan/cluster.h"
#include "plan/layout.h"
#include "plan/memory.h"

namespace colossus {

// A model's step on a cluster's GPUs.
struct PlanQuestion {
  ModelConfig model;
  ClusterConfig cluster;
  size_t pool = 0;          // whose GPUs
  int64_t num_gpus = 0;     // at most; 0: all of the pool but the spares
  int64_t tokens = 0;       // T; 0: the model's context
  double batch_tokens = 0;  // of a step, about; 0: 16M
  ProductType products = ProductType::kBF16;
  StateBytes state;
  StackConfig stack;

  const PoolSpec& gpu_pool() const { return cluster.pools[pool]; }
  const GpuSpec& gpu() const { return gpu_pool().gpu; }
  int64_t gpus_to_use() const;
  int64_t sequence_tokens() const { return tokens > 0 ? tokens : model.context; }
  double tokens_of_batch() const { return batch_tokens > 0 ? batch_tokens : 16e6; }
};

// Fails where the GPU has no units for the products that are asked for.
Status check_products(const PlanQuestion& question);

// The pool of this name.
Result<size_t> find_pool(const ClusterConfig& cluster, const std::string& name);

// A layout from assignments such as "tensor=8", "microbatch=2", "recompute=full" (fields of a mesh and these two), with
// the batch nearest to the question's. `place` is for messages. Legal for the mesh alone: `judge` says the rest.
Result<Layout> read_layout(const PlanQuestion& question, const std::string& place,
                           std::span<const std::string> assignments);
// What such assignments may name.
std::vector<std::string> layout_axes();

}  // namespace colossus
