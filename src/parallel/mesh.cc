#include "parallel/mesh.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "base/check.h"

namespace colossus {
namespace {

constexpr int64_t kMostRanks = int64_t{1} << 24;

bool of_experts(MeshAxis axis) {
  return axis == MeshAxis::kExpertData || axis == MeshAxis::kExpert || axis == MeshAxis::kExpertTensor;
}

// "1, 2, 4 or 8"
std::string divisors_text(int64_t number) {
  std::vector<int64_t> divisors;
  for (int64_t d = 1; d <= number && d <= 4096; ++d)
    if (number % d == 0) divisors.push_back(d);
  std::string text;
  for (size_t i = 0; i < divisors.size(); ++i)
    text += fmt::format("{}{}", i == 0 ? "" : i + 1 == divisors.size() ? " or " : ", ", divisors[i]);
  return text;
}

class Faults {
 public:
  void add(std::string_view field, const std::string& text) {
    text_ += fmt::format("{}[mesh.{}] {}", text_.empty() ? "" : "\n", field, text);
  }
  void need_divisor(std::string_view field, int64_t value, std::string_view of_what, int64_t number) {
    if (number % value != 0)
      add(field, fmt::format("{} does not divide {} = {}; try {}", value, of_what, number, divisors_text(number)));
  }
  void need_at_least_one(std::string_view field, int64_t value) {
    if (value < 1) add(field, fmt::format("{} is below 1", value));
  }
  bool none() const { return text_.empty(); }
  Status status() const { return none() ? ok_status() : invalid(text_); }

 private:
  std::string text_;
};

void check_dense(const MeshConfig& mesh, const MeshLimits& limits, Faults& faults) {
  const int64_t data_ranks = mesh.data * mesh.shard;
  if (data_ranks > limits.reduction_leaves)
    faults.add("data", fmt::format("data x shard = {} ranks, but the gradients of a step are summed in "
                                   "train.reduction_leaves = {} parts, and a rank takes one or more of them; use {} "
                                   "ranks or fewer, or more leaves (which rounds sums otherwise)",
                                   data_ranks, limits.reduction_leaves, limits.reduction_leaves));
  faults.need_divisor("tensor", mesh.tensor, "num_heads", limits.num_heads);
  faults.need_divisor("tensor", mesh.tensor, "num_kv_heads", limits.num_kv_heads);
  if (limits.ffn_width > 0) faults.need_divisor("tensor", mesh.tensor, "ffn_width", limits.ffn_width);
  // Each context rank has one block from the front and one from the back, so that the causal mask costs all the same.
  if (mesh.context > 1) faults.need_divisor("context", mesh.context, "tokens / 2", limits.tokens / 2);
  // Between the large products each rank has its share of the tokens.
  if (mesh.tensor > 1 && limits.tokens % mesh.context == 0)
    faults.need_divisor("tensor", mesh.tensor, "the tokens of a context rank", limits.tokens / mesh.context);
}

void check_experts(const MeshConfig& mesh, const MeshLimits& limits, Faults& faults) {
  if (limits.num_experts == 0) {
    if (mesh.expert > 1 || mesh.expert_tensor > 1)
      faults.add("expert", fmt::format("expert x expert_tensor = {}, but the model has no experts; use 1",
                                       mesh.expert * mesh.expert_tensor));
    return;
  }
  faults.need_divisor("expert", mesh.expert, "num_experts", limits.num_experts);
  faults.need_divisor("expert_tensor", mesh.expert_tensor, "expert_width", limits.expert_width);
  faults.need_divisor("expert", mesh.expert * mesh.expert_tensor, "the ranks of a stage", mesh.stage_ranks());
  // Experts that lie over data ranks work for the microbatches of all of them at once.
  if (mesh.experts_over_data_ranks() && limits.reduction_leaves % (mesh.data * mesh.shard) != 0)
    faults.need_divisor("data", mesh.data * mesh.shard, "train.reduction_leaves", limits.reduction_leaves);
}

void check_pipeline(const MeshConfig& mesh, const MeshLimits& limits, Faults& faults) {
  const int64_t pieces = mesh.pipeline * mesh.chunks;
  if (pieces > limits.num_layers + 2)
    faults.add("pipeline", fmt::format("pipeline x chunks = {} pieces, but there are {} layers, an embedding and a "
                                       "head; use at most {}",
                                       pieces, limits.num_layers, limits.num_layers + 2));
  if (mesh.chunks > 1 && mesh.schedule != PipelineScheduleKind::kInterleaved)
    faults.add("chunks", fmt::format("{} need schedule = \"interleaved\"", mesh.chunks));
  if (mesh.chunks > 1 && mesh.pipeline == 1) faults.add("chunks", "more than 1 needs pipeline above 1");
}

}  // namespace

void MeshConfig::visit_fields(FieldVisitor& v) {
  v.field("data", data, "groups of ranks with copies of all state, each with its own sequences", {.min = 1});
  v.field("shard", shard, "ranks with their own sequences that share state as zero_stage says", {.min = 1});
  v.field("zero_stage", zero_stage, "what is cut over shard: 1 optimizer state, 2 gradients too, 3 parameters too",
          {.min = 1, .max = 3});
  v.field("context", context, "ranks that share the tokens of a sequence", {.min = 1});
  v.field("tensor", tensor,
          "ranks that share heads and feed-forward width, and tokens between the products that have them", {.min = 1});
  v.field("expert", expert, "ranks that share the experts; folds over data, shard, context and tensor", {.min = 1});
  v.field("expert_tensor", expert_tensor, "ranks that share each expert's width", {.min = 1});
  v.field("pipeline", pipeline, "stages of layers", {.min = 1});
  v.field("chunks", chunks, "pieces of layers on each stage", {.min = 1});
  v.field("schedule", schedule, "order of forward and backward passes over the stages");
  v.field("auto", automatic, "true, or mesh = \"auto\": a layout for as many ranks as there are, by a simple rule");
}

Status check_mesh(const MeshConfig& mesh, const MeshLimits& limits) {
  Faults faults;
  for (const auto& [field, value] : {std::pair{"data", mesh.data},
                                     {"shard", mesh.shard},
                                     {"context", mesh.context},
                                     {"tensor", mesh.tensor},
                                     {"expert", mesh.expert},
                                     {"expert_tensor", mesh.expert_tensor},
                                     {"pipeline", mesh.pipeline},
                                     {"chunks", mesh.chunks}})
    faults.need_at_least_one(field, value);
  // Before anything is multiplied: the numbers come from a file.
  int64_t ranks = 1;
  for (int64_t size : {mesh.data, mesh.shard, mesh.context, mesh.tensor, mesh.pipeline})
    ranks = ranks > kMostRanks || size > kMostRanks ? kMostRanks + 1 : ranks * size;
  if (ranks > kMostRanks) faults.add("data", fmt::format("the axes make more than {} ranks", kMostRanks));
  for (const auto& [field, size] :
       {std::pair{"expert", mesh.expert}, {"expert_tensor", mesh.expert_tensor}, {"chunks", mesh.chunks}})
    if (size > kMostRanks) faults.add(field, fmt::format("{} is above {}", size, kMostRanks));
  if (!faults.none()) return faults.status();
  if (mesh.zero_stage < 1 || mesh.zero_stage > 3)
    faults.add("zero_stage", fmt::format("{} is none of 1, 2, 3", mesh.zero_stage));
  check_dense(mesh, limits, faults);
  check_experts(mesh, limits, faults);
  check_pipeline(mesh, limits, faults);
  return faults.status();
}

Result<MeshConfig> auto_mesh(int64_t num_ranks, int64_t ranks_per_node, const MeshLimits& limits) {
  if (num_ranks < 1) return invalid(fmt::format("[mesh] {} ranks", num_ranks));
  Status last = invalid("");
  for (int64_t shard = std::min(num_ranks, limits.reduction_leaves); shard >= 1; --shard) {
    if (num_ranks % shard != 0) continue;
    const int64_t rest = num_ranks / shard;
    for (int64_t tensor = std::min(rest, ranks_per_node); tensor >= 1; --tensor) {
      if (rest % tensor != 0) continue;
      const MeshConfig mesh = {.shard = shard, .tensor = tensor, .pipeline = rest / tensor};
      last = check_mesh(mesh, limits);
      if (last.ok()) return mesh;
    }
  }
  return invalid(
      fmt::format("[mesh] found no layout for {} ranks; the last one tried failed with:\n{}\ngive one "
                  "under [mesh], or use another number of ranks",
                  num_ranks, last.message()));
}

int64_t Mesh::size(MeshAxis axis) const {
  switch (axis) {
    case MeshAxis::kPipeline: return config_.pipeline;
    case MeshAxis::kData: return config_.data;
    case MeshAxis::kShard: return config_.shard;
    case MeshAxis::kContext: return config_.context;
    case MeshAxis::kTensor: return config_.tensor;
    case MeshAxis::kExpertData: return config_.expert_data();
    case MeshAxis::kExpert: return config_.expert;
    case MeshAxis::kExpertTensor: return config_.expert_tensor;
  }
  return 1;
}

int64_t Mesh::stride(MeshAxis axis) const {
  switch (axis) {
    case MeshAxis::kPipeline: return config_.stage_ranks();
    case MeshAxis::kData: return config_.shard * config_.context * config_.tensor;
    case MeshAxis::kShard: return config_.context * config_.tensor;
    case MeshAxis::kContext: return config_.tensor;
    case MeshAxis::kExpertData: return config_.expert * config_.expert_tensor;
    case MeshAxis::kExpert: return config_.expert_tensor;
    case MeshAxis::kTensor:
    case MeshAxis::kExpertTensor: return 1;
  }
  return 1;
}

int64_t Mesh::coordinate(int64_t rank, MeshAxis axis) const {
  CHECK(rank >= 0 && rank < size());
  return rank / stride(axis) % size(axis);
}

MeshPosition Mesh::position(int64_t rank) const {
  MeshPosition position;
  for (MeshAxis axis : kMeshAxes) position[axis] = {coordinate(rank, axis), size(axis)};
  return position;
}

std::vector<int64_t> Mesh::group(int64_t rank, std::span<const MeshAxis> axes) const {
  bool dense = false, experts = false;
  for (MeshAxis axis : axes)
    if (axis != MeshAxis::kPipeline) (of_experts(axis) ? experts : dense) = true;
  CHECK(!(dense && experts), "a group runs along axes of one cut of a stage");
  int64_t first = rank;
  for (MeshAxis axis : axes) first -= coordinate(rank, axis) * stride(axis);
  std::vector<int64_t> ranks = {first};
  for (MeshAxis axis : axes) {
    const size_t before = ranks.size();
    for (int64_t i = 1; i < size(axis); ++i)
      for (size_t j = 0; j < before; ++j) ranks.push_back(ranks[j] + i * stride(axis));
  }
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

std::vector<LayerRange> cut_layers(int64_t num_layers, int64_t pieces) {
  CHECK(pieces >= 1 && pieces <= num_layers + 2, "more pieces than layers, embedding and head");
  std::vector<LayerRange> ranges;
  if (num_layers % pieces == 0) {
    for (int64_t i = 0; i < pieces; ++i) ranges.push_back({num_layers * i / pieces, num_layers * (i + 1) / pieces});
    return ranges;
  }
  // Position 0 is the embedding, num_layers + 1 the head.
  const int64_t positions = num_layers + 2;
  for (int64_t i = 0; i < pieces; ++i) {
    const int64_t begin = positions * i / pieces, end = positions * (i + 1) / pieces;
    ranges.push_back({std::clamp<int64_t>(begin - 1, 0, num_layers), std::clamp<int64_t>(end - 1, 0, num_layers)});
  }
  return ranges;
}

}  // namespace colossus
