#include "plan/rank_pieces.h"

#include <bit>

#include "device/cpu/cpu_prepare.h"
#include "parallel/pipeline_cut.h"
#include "program/memory_plan.h"
#include "train/rank_model.h"
#include "train/update_program.h"

namespace colossus {
namespace {

int64_t arena_bytes(const Program& program, const Workspace& workspace) {
  return plan_memory(program, [&](int at) { return workspace(program, program.operations[static_cast<size_t>(at)]); })
      .arena_bytes;
}

PieceProgram piece_program(const Program& program, const Workspace& workspace) {
  if (program.operations.empty()) return {};
  return {playable(program), arena_bytes(program, workspace)};
}

// A run of a model with so many layers on a rank of a stage. Stages lie outermost, so a stage's ranks are those of a
// mesh without them.
RunConfig small_run(const ModelConfig& model, const Layout& layout, int64_t num_layers) {
  RunConfig run;
  run.model = model;
  run.model.num_layers = num_layers;
  run.model.context = std::max(model.context, layout.tokens);
  run.mesh = layout.mesh;
  run.mesh.pipeline = run.mesh.chunks = 1;
  run.mesh.zero_stage = 1;  // what 2 and 3 send with each microbatch is priced by the layer (step_time.cc)
  run.mesh.schedule = PipelineScheduleKind::kOneForwardOneBackward;
  run.train.batch = layout.batch;
  run.train.microbatch = layout.microbatch;
  run.train.tokens = layout.tokens;
  run.train.recompute = layout.recompute;
  run.train.reduction_leaves =
      static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(layout.mesh.data * layout.mesh.shard)));
  return run;
}

Result<RankModel> write_small(const RunConfig& run, const Ranks& ranks, ProductType products) {
  return write_rank_model(run, products == ProductType::kF32 ? DType::kF32 : DType::kBF16, ranks);
}

// What ranks exchange in one operation must grow with their number, or it is all latency: as Megatron-LM's default
// (--ddp-bucket-size: 40 million elements, or a million for each data rank).
int64_t bucket_elements(const MeshConfig& mesh) {
  return std::max<int64_t>(40'000'000, 1'000'000 * mesh.data * mesh.shard * mesh.context);
}

Status write_pipeline_pieces(const RankModel& model, const Layout& layout, int64_t layers, const Workspace& workspace,
                             RankPieces& result) {
  const std::vector<LayerRange> ranges = {{0, layers}, {layers, 2 * layers}, {2 * layers, 3 * layers}};
  const Program evaluation = fuse(model.forward.program);
  for (size_t kind = 0; kind < ranges.size(); ++kind) {
    PipelineCut cut{.layers = ranges,
                    .piece = static_cast<int64_t>(kind),
                    .split_backward = layout.mesh.schedule == PipelineScheduleKind::kZeroBubble};
    ASSIGN_OR_RETURN(const PipelinePiece piece, cut_pipeline_piece(model.microbatch, cut));
    PiecePrograms& programs = result.pieces[kind][static_cast<size_t>(layers - 1)];
    programs.forward = piece_program(piece.forward, workspace);
    programs.backward = piece_program(piece.backward, workspace);
    programs.backward_weight = piece_program(piece.backward_weight, workspace);
    for (const StashKind stash : kStashKinds) programs.stash_bytes[stash] = piece.stashes[stash].num_bytes;
    cut.split_backward = false;
    ASSIGN_OR_RETURN(const PipelinePiece evaluated, cut_pipeline_piece(evaluation, cut));
    programs.evaluation_arena_bytes = arena_bytes(evaluated.forward, workspace);
  }
  return ok_status();
}

SharedParameters count_of(const TensorPart& part, const RunConfig& run, const Ranks& ranks) {
  const MeshConfig& mesh = run.mesh;
  const int64_t size =
      local_slice(part.whole.shape, part.placement, ranks.mesh.position(ranks.rank)).shape.num_elements();
  if (part.name == "embedding" && run.model.tie_embeddings) return {.tied = size};
  // Experts that nobody cut are copies like all others.
  if (part.whole.shape.rank() == 3 && mesh.expert * mesh.expert_tensor > 1) return {.experts = size};
  if (part.placement.find(MeshAxis::kTensor)) return {.cut = size};
  return {.copied = size};
}

void count_parameters_of(const RankModel& model, const RunConfig& run, const Ranks& ranks, RankPieces& result) {
  for (const ParameterSpec& spec : model.table) {
    const bool before = spec.name == "embedding" || spec.name == "position_embedding";
    SharedParameters& counts = spec.name.starts_with("layers.") ? result.layer : before ? result.first : result.last;
    const SharedParameters more = count_of(model.parameter(spec.name), run, ranks);
    counts.cut += more.cut;
    counts.copied += more.copied;
    counts.experts += more.experts;
    counts.tied += more.tied;
  }
}

}  // namespace

int64_t processor_workspace(const Program& program, const Operation& operation) {
  return prepare_operation(program, operation, 1).workspace_bytes;
}

int64_t exchange_workspace(const Program& program, const Operation& operation) {
  return group_of(operation.op) ? processor_workspace(program, operation) : 0;
}

Result<RankPieces> write_rank_pieces(const ModelConfig& model, const Layout& layout, const Workspace& workspace) {
  RankPieces result;
  result.has_pipeline = layout.mesh.pipeline > 1;
  RETURN_IF_ERROR(check_mesh(small_run(model, layout, 1).mesh, mesh_limits(small_run(model, layout, 1))));
  Ranks ranks{.mesh = Mesh(small_run(model, layout, 1).mesh), .rank = 0};
  ranks.members = groups_of(ranks.mesh, ranks.rank);
  for (int64_t layers = 1; layers <= 2; ++layers) {
    const RunConfig run = small_run(model, layout, layers);
    ASSIGN_OR_RETURN(const RankModel whole, write_small(run, ranks, layout.products));
    if (layers == 1) count_parameters_of(whole, run, ranks, result);
    if (result.has_pipeline) {
      ASSIGN_OR_RETURN(const RankModel three,
                       write_small(small_run(model, layout, 3 * layers), ranks, layout.products));
      RETURN_IF_ERROR(write_pipeline_pieces(three, layout, layers, workspace, result));
    } else {
      result.pieces[static_cast<size_t>(PieceKind::kWhole)][static_cast<size_t>(layers - 1)].forward =
          piece_program(whole.microbatch, workspace);
    }
    const RankGradients gradients{.programs = {&whole.microbatch}, .shared = {}};
    ASSIGN_OR_RETURN(
        const UpdateProgram update,
        write_update_program(whole.table, {}, update_groups(whole, gradients, run.train.reduction_leaves, ranks),
                             {.bucket_elements = bucket_elements(layout.mesh), .world = ranks.all()}));
    result.update[static_cast<size_t>(layers - 1)] = piece_program(update.program, workspace);
  }
  return result;
}

}  // namespace colossus
