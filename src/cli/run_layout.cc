#include "cli/run_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace colossus {
namespace {

Status lay_out_by_rule(FileSystem& files, const AskedRanks& asked, RunConfig& run) {
  if (asked.ranks < 1) return invalid("mesh = \"auto\" lays out the ranks there are; say how many: --ranks N");
  RunConfig resolved = run;  // the workers resolve it again: it stays as it was written
  RETURN_IF_ERROR(resolve_with_data(files, resolved));
  const int64_t zero_stage = run.mesh.zero_stage;  // no axis: what is kept along them
  ASSIGN_OR_RETURN(run.mesh,
                   auto_mesh(asked.ranks, std::max<int64_t>(1, asked.ranks / asked.machines), mesh_limits(resolved)));
  run.mesh.automatic = true;
  run.mesh.zero_stage = zero_stage;
  resolved.mesh = run.mesh;
  return check_layout(resolved);
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
    RunConfig resolved = run;
    RETURN_IF_ERROR(resolve_with_data(files, resolved));
    RETURN_IF_ERROR(check_layout(resolved));
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
  const std::string zero = mesh.zero_stage > 1 ? fmt::format(", ZeRO {}", mesh.zero_stage) : "";
  return (text.empty() ? dense : dense + "; of these " + text) + zero;
}

}  // namespace colossus
