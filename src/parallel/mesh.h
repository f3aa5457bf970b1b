// The layout of a run: along which axes ranks share the work, and which ranks form a group along each.
//
// A stage of the pipeline is a block of consecutive ranks, cut twice, independently of each other:
//   attention, norms and dense layers   data x shard x context x tensor        (tensor innermost)
//   experts                             expert_data x expert x expert_tensor   (expert_tensor innermost)
// Innermost ranks are neighbours: on one machine, where links are fastest.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "io/fields.h"
#include "parallel/pipeline_schedule.h"
#include "tensor/placement.h"

namespace colossus {

// The [mesh] of a run.
struct MeshConfig {
  int64_t data = 1;
  int64_t shard = 1;
  int64_t zero_stage = 1;  // 1: optimizer state is cut over `shard`, 2: gradients too, 3: parameters too
                           // (Rajbhandari et al. 2020)
  int64_t context = 1;
  int64_t tensor = 1;
  int64_t expert = 1;
  int64_t expert_tensor = 1;
  int64_t pipeline = 1;
  int64_t chunks = 1;  // of layers on each stage
  PipelineScheduleKind schedule = PipelineScheduleKind::kOneForwardOneBackward;
  bool automatic = false;  // `mesh = "auto"`: all of this by auto_mesh

  void visit_fields(FieldVisitor& v);

  int64_t stage_ranks() const { return data * shard * context * tensor; }
  int64_t num_ranks() const { return pipeline * stage_ranks(); }
  // Do ranks with different sequences share one copy of the experts?
  bool experts_over_data_ranks() const { return context * tensor % (expert * expert_tensor) != 0; }
  int64_t expert_data() const { return stage_ranks() / (expert * expert_tensor); }
};

// What a run has that a layout must divide.
struct MeshLimits {
  int64_t num_layers = 1;
  int64_t num_heads = 1;
  int64_t num_kv_heads = 1;
  int64_t ffn_width = 0;    // 0: no dense block
  int64_t num_experts = 0;  // 0: no experts
  int64_t expert_width = 0;
  int64_t tokens = 1;            // T
  int64_t reduction_leaves = 1;  // of the gradient tree
};

// Every fault, each with what would do: "[mesh.tensor] 6 does not divide num_kv_heads = 8; try 1, 2, 4 or 8".
Status check_mesh(const MeshConfig& mesh, const MeshLimits& limits);

// A legal layout for this many ranks by a simple rule: as many data ranks as there are leaves (cut optimizer state),
// then tensor within a machine of `ranks_per_node`, then pipeline. An error when no such layout is legal.
Result<MeshConfig> auto_mesh(int64_t num_ranks, int64_t ranks_per_node, const MeshLimits& limits);

// Where a rank stands on every axis, and who stands beside it.
class Mesh {
 public:
  explicit Mesh(const MeshConfig& config) : config_(config) {}  // a config that check_mesh passed

  const MeshConfig& config() const { return config_; }
  int64_t size() const { return config_.num_ranks(); }
  int64_t size(MeshAxis axis) const;
  int64_t coordinate(int64_t rank, MeshAxis axis) const;
  MeshPosition position(int64_t rank) const;
  // The ranks that differ from `rank` along these axes alone, itself included, in order of rank. Either axes of the
  // dense cut or of the experts' cut; kPipeline goes with both.
  std::vector<int64_t> group(int64_t rank, std::span<const MeshAxis> axes) const;
  std::vector<int64_t> group(int64_t rank, MeshAxis axis) const { return group(rank, std::span(&axis, 1)); }

  // Ranks between neighbours along the axis.
  int64_t stride(MeshAxis axis) const;

 private:
  MeshConfig config_;
};

// Layers [begin, end) of each piece of the pipeline, `pieces` = pipeline * chunks of them: equally many where that
// divides them. Else the embedding counts as one layer of the first and the head as one of the last, so these may hold
// fewer. pieces <= num_layers + 2.
struct LayerRange {
  int64_t begin = 0;
  int64_t end = 0;
  bool operator==(const LayerRange&) const = default;
};
std::vector<LayerRange> cut_layers(int64_t num_layers, int64_t pieces);

}  // namespace colossus
