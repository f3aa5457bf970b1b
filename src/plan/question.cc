#include "plan/question.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "io/config.h"

namespace colossus {
namespace {

// A mesh, and what else decides about a pass.
struct LayoutConfig {
  MeshConfig mesh;
  int64_t microbatch = 1;
  Recompute recompute = Recompute::kNone;
  void visit_fields(FieldVisitor& v) {
    mesh.visit_fields(v);
    v.field("microbatch", microbatch, "sequences computed at once", {.min = 1, .max = 1 << 20});
    v.field("recompute", recompute, "activations computed again instead of kept");
  }
};

}  // namespace

int64_t PlanQuestion::gpus_to_use() const {
  const PoolSpec& pool = gpu_pool();
  return num_gpus > 0 ? std::min(num_gpus, pool.num_gpus()) : (pool.nodes - pool.spare_nodes) * pool.gpus_per_node;
}

Status check_products(const PlanQuestion& question) {
  const GpuSpec& gpu = question.gpu();
  const bool lacks = (question.products == ProductType::kFp8 && gpu.fp8_tflops == 0) ||
                     (question.products == ProductType::kFp4 && gpu.fp4_tflops == 0) ||
                     (question.products == ProductType::kF32 && gpu.fp32_tflops == 0);
  if (!lacks) return ok_status();
  return invalid(fmt::format("[--dtype] {}; {} has no units for it", product_name(question.products), gpu.name));
}

Result<size_t> find_pool(const ClusterConfig& cluster, const std::string& name) {
  std::string names;
  for (size_t i = 0; i < cluster.pools.size(); ++i) {
    if (cluster.pools[i].name == name) return i;
    names += (i > 0 ? ", " : "") + cluster.pools[i].name;
  }
  return invalid(fmt::format("[--pool] {}; {} has {}", name, cluster.name, names));
}

Result<Layout> read_layout(const PlanQuestion& question, const std::string& place,
                           std::span<const std::string> assignments) {
  ASSIGN_OR_RETURN(const auto given, parse_config<LayoutConfig>("", place, assignments));
  Layout layout;
  layout.mesh = given.mesh;
  layout.microbatch = given.microbatch;
  layout.recompute = given.recompute;
  if (layout.mesh.automatic)
    return invalid(fmt::format("[{}] auto is what the search is for: leave --layout out", place));
  if (layout.mesh.num_ranks() > question.gpu_pool().num_gpus() && !question.gpu_pool().processor_cores)
    return invalid(fmt::format("[{}] {} ranks; {} has {} GPUs", place, layout.mesh.num_ranks(), question.cluster.name,
                               question.gpu_pool().num_gpus()));
  layout.tokens = question.sequence_tokens();
  layout.products = question.products;
  const int64_t unit = layout.microbatch * layout.mesh.data * layout.mesh.shard;
  const double rounds = question.tokens_of_batch() / static_cast<double>(layout.tokens) / static_cast<double>(unit);
  layout.batch = std::max<int64_t>(1, std::llround(rounds)) * unit;
  if (layout.mesh.chunks > 1) layout.mesh.schedule = PipelineScheduleKind::kInterleaved;
  return layout;
}

std::vector<std::string> layout_axes() {
  std::vector<std::string> axes = paths_of(describe_config<LayoutConfig>());
  std::erase(axes, "auto");
  return axes;
}

}  // namespace colossus
