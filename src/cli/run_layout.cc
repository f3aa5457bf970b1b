#include "cli/run_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "data/shard_set.h"

namespace colossus {
namespace {

// What the run, with what its data says about it, has for a mesh to divide.
Result<MeshLimits> limits_of(FileSystem& files, RunConfig run) {
  ASSIGN_OR_RETURN(const ShardIndex index, read_shard_index(files, run.data.sources.front().path));
  RETURN_IF_ERROR(resolve(run, index.identity.vocab_size));
  return mesh_limits(run.model, run.train.tokens, run.train.reduction_leaves);
}

Status lay_out_by_rule(FileSystem& files, const AskedRanks& asked, RunConfig& run) {
  if (asked.ranks < 1) return invalid("mesh = \"auto\" lays out the ranks there are; say how many: --ranks N");
  ASSIGN_OR_RETURN(const MeshLimits limits, limits_of(files, run));
  ASSIGN_OR_RETURN(run.mesh, auto_mesh(asked.ranks, std::max<int64_t>(1, asked.ranks / asked.machines), limits));
  run.mesh.automatic = true;
  return ok_status();
}

}  // namespace

Status lay_out(FileSystem& files, const AskedRanks& asked, RunConfig& run) {
  if (run.mesh.automatic) {
    RETURN_IF_ERROR(lay_out_by_rule(files, asked, run));
  } else {
    if (run.mesh.num_ranks() == 1) run.mesh.shard = asked.ranks > 0 ? asked.ranks : asked.machines;
    if (asked.ranks > 0 && asked.ranks != run.mesh.num_ranks())
      return invalid(fmt::format("--ranks {}, but [mesh] has {} ranks: give one of them, or the same number",
                                 asked.ranks, run.mesh.num_ranks()));
    if (run.mesh.zero_stage != 1)
      return invalid(fmt::format("[mesh.zero_stage] {}: over shard, the optimizer state is cut so far; use 1",
                                 run.mesh.zero_stage));
    ASSIGN_OR_RETURN(const MeshLimits limits, limits_of(files, run));
    RETURN_IF_ERROR(check_mesh(run.mesh, limits));
  }
  if (run.mesh.num_ranks() % asked.machines != 0)
    return invalid(
        fmt::format("{} ranks cannot be shared out evenly to {} machines", run.mesh.num_ranks(), asked.machines));
  return ok_status();
}

std::string layout_text(const MeshConfig& mesh) {
  std::string text;
  const auto add = [&](std::string_view axis, int64_t size) {
    if (size > 1) text += fmt::format("{}{} {}", text.empty() ? "" : " x ", axis, size);
  };
  add("pipeline", mesh.pipeline);
  add("data", mesh.data);
  add("shard", mesh.shard);
  add("context", mesh.context);
  add("tensor", mesh.tensor);
  const std::string dense = std::exchange(text, "");
  add("expert", mesh.expert);
  add("expert_tensor", mesh.expert_tensor);
  return text.empty() ? dense : dense + "; of these " + text;
}

}  // namespace colossus
