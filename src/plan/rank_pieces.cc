#include "plan/rank_pieces.h"

#include <bit>

#include "parallel/pipeline_cut.h"
#include "program/memory_plan.h"
#include "train/rank_model.h"
#include "train/update_program.h"

namespace colossus {
namespace {

PieceProgram piece_program(const Program& program) {
  if (program.operations.empty()) return {};
  return {playable(program), plan_memory(program).arena_bytes};
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

Status write_pipeline_pieces(const RankModel& model, const Layout& layout, int64_t layers, RankPieces& result) {
  const std::vector<LayerRange> ranges = {{0, layers}, {layers, 2 * layers}, {2 * layers, 3 * layers}};
  for (size_t kind = 0; kind < ranges.size(); ++kind) {
    ASSIGN_OR_RETURN(const PipelinePiece piece,
                     cut_pipeline_piece(model.microbatch,
                                        {.layers = ranges,
                                         .piece = static_cast<int64_t>(kind),
                                         .split_backward = layout.mesh.schedule == PipelineScheduleKind::kZeroBubble}));
    PiecePrograms& programs = result.pieces[kind][static_cast<size_t>(layers - 1)];
    programs.forward = piece_program(piece.forward);
    programs.backward = piece_program(piece.backward);
    programs.backward_weight = piece_program(piece.backward_weight);
    for (const StashKind stash : kStashKinds) programs.stash_bytes[stash] = piece.stashes[stash].num_bytes;
  }
  return ok_status();
}

void count_parameters_of(const RankModel& model, const Ranks& ranks, RankPieces& result) {
  for (size_t i = 0; i < model.table.size(); ++i) {
    const TensorPart& part = model.parameter(model.table[i].name);
    const int64_t size =
        local_slice(part.whole.shape, part.placement, ranks.mesh.position(ranks.rank)).shape.num_elements();
    const bool in_layer = part.name.starts_with("layers.");
    const bool before = part.name == "embedding" || part.name == "position_embedding";
    (in_layer ? result.layer_parameters : before ? result.first_parameters : result.last_parameters) += size;
    if (in_layer && part.whole.shape.rank() == 3) result.layer_expert_parameters += size;
  }
}

}  // namespace

Result<RankPieces> write_rank_pieces(const ModelConfig& model, const Layout& layout) {
  RankPieces result;
  result.has_pipeline = layout.mesh.pipeline > 1;
  RETURN_IF_ERROR(check_mesh(small_run(model, layout, 1).mesh, mesh_limits(small_run(model, layout, 1))));
  Ranks ranks{.mesh = Mesh(small_run(model, layout, 1).mesh), .rank = 0};
  ranks.members = groups_of(ranks.mesh, ranks.rank);
  for (int64_t layers = 1; layers <= 2; ++layers) {
    const RunConfig run = small_run(model, layout, layers);
    ASSIGN_OR_RETURN(const RankModel whole, write_small(run, ranks, layout.products));
    if (layers == 1) count_parameters_of(whole, ranks, result);
    if (result.has_pipeline) {
      ASSIGN_OR_RETURN(const RankModel three,
                       write_small(small_run(model, layout, 3 * layers), ranks, layout.products));
      RETURN_IF_ERROR(write_pipeline_pieces(three, layout, layers, result));
    } else {
      result.pieces[static_cast<size_t>(PieceKind::kWhole)][static_cast<size_t>(layers - 1)].forward =
          piece_program(whole.microbatch);
    }
    const RankGradients gradients{.programs = {&whole.microbatch}, .shared = {}};
    ASSIGN_OR_RETURN(
        const UpdateProgram update,
        write_update_program(whole.table, {}, update_groups(whole, gradients, run.train.reduction_leaves, ranks),
                             {.bucket_elements = bucket_elements(layout.mesh), .world = ranks.all()}));
    result.update[static_cast<size_t>(layers - 1)] = playable(update.program);
  }
  return result;
}

}  // namespace colossus
