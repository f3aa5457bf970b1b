#include "plan/rank_pieces.h"

#include <bit>

#include "device/cpu/cpu_prepare.h"
#include "parallel/pipeline_cut.h"
#include "program/memory_plan.h"
#include "train/rank_model.h"
#include "train/shared_state.h"

namespace colossus {
namespace {

int64_t arena_bytes(const Program& program, const Workspace& workspace) {
  return plan_memory(program, [&](int at) { return workspace(program, program.operations[static_cast<size_t>(at)]); })
      .arena_bytes;
}

PieceProgram piece_program(const Program& program, const Program& last, const Workspace& workspace) {
  if (program.operations.empty()) return {};
  return {playable(program), arena_bytes(program, workspace),
          last.operations.empty() ? 0 : arena_bytes(last, workspace)};
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

// Of each program its run for a step's last microbatch.
std::vector<Program> last_runs(const std::vector<const Program*>& programs, const RankModel& model,
                               const RunConfig& run, const Ranks& ranks) {
  const auto groups = update_groups(model, {.programs = programs, .shared = {}}, run.train.reduction_leaves, ranks);
  const auto buckets = make_update_buckets(model.table, {}, groups, bucket_elements(run.mesh));
  const LeafRange leaves = leaves_of_tree(run.train.reduction_leaves, ranks);
  std::vector<Program> last;
  for (size_t i = 0; i < programs.size(); ++i) last.push_back(write_last_run(*programs[i], i, buckets, leaves));
  return last;
}

// Behind the microbatches. All that is exchanged is here; what of it runs beside the last microbatch is a matter of
// prices (step_time.cc).
Result<PieceProgram> write_update(const RankModel& model, const RunConfig& run, const Ranks& ranks,
                                  const Workspace& workspace) {
  const RankGradients gradients{.programs = {&model.microbatch}, .shared = {}};
  auto groups = update_groups(model, gradients, run.train.reduction_leaves, ranks);
  for (UpdateGroup& group : groups) group.last_run.reset();
  const UpdateOptions options{.bucket_elements = bucket_elements(run.mesh), .world = ranks.all()};
  const auto buckets = make_update_buckets(model.table, {}, groups, options.bucket_elements);
  const Program exchange =
      write_exchange(buckets, leaves_of_tree(run.train.reduction_leaves, ranks), ExchangedBehind::kAll);
  ASSIGN_OR_RETURN(const UpdateProgram update, write_update_program(model.table, {}, groups, options));
  PieceProgram all = piece_program(exchange, {}, workspace);
  const PieceProgram behind = piece_program(update.program, {}, workspace);
  const auto first = static_cast<int>(all.works.works.size());
  for (std::vector<int> waits : behind.works.waits) {
    for (int& wait : waits) wait += first;
    all.works.waits.push_back(std::move(waits));
  }
  std::ranges::copy(behind.works.works, std::back_inserter(all.works.works));
  std::ranges::copy(behind.works.outlives_run, std::back_inserter(all.works.outlives_run));
  all.arena_bytes = std::max(all.arena_bytes, behind.arena_bytes);
  return all;
}

Status write_pipeline_pieces(const RankModel& model, const RunConfig& run, const Ranks& ranks, const Layout& layout,
                             const Workspace& workspace, RankPieces& result) {
  const int64_t layers = run.model.num_layers / 3;
  const std::vector<LayerRange> ranges = {{0, layers}, {layers, 2 * layers}, {2 * layers, 3 * layers}};
  const Program evaluation = fuse(model.forward.program);
  std::vector<PipelinePiece> pieces;
  for (size_t kind = 0; kind < ranges.size(); ++kind) {
    PipelineCut cut{.layers = ranges,
                    .piece = static_cast<int64_t>(kind),
                    .split_backward = layout.mesh.schedule == PipelineScheduleKind::kZeroBubble};
    ASSIGN_OR_RETURN(PipelinePiece piece, cut_pipeline_piece(model.microbatch, cut));
    PiecePrograms& programs = result.pieces[kind][static_cast<size_t>(layers - 1)];
    for (const StashKind stash : kStashKinds) programs.stash_bytes[stash] = piece.stashes[stash].num_bytes;
    pieces.push_back(std::move(piece));
    cut.split_backward = false;
    ASSIGN_OR_RETURN(const PipelinePiece evaluated, cut_pipeline_piece(evaluation, cut));
    programs.evaluation_arena_bytes = arena_bytes(evaluated.forward, workspace);
  }
  std::vector<const Program*> all;
  for (const PipelinePiece& piece : pieces)
    for (const Program* program : {&piece.forward, &piece.backward, &piece.backward_weight}) all.push_back(program);
  const std::vector<Program> last = last_runs(all, model, run, ranks);
  for (size_t i = 0; i < all.size(); ++i) {
    PiecePrograms& programs = result.pieces[i / 3][static_cast<size_t>(layers - 1)];
    PieceProgram* const of_piece[] = {&programs.forward, &programs.backward, &programs.backward_weight};
    *of_piece[i % 3] = piece_program(*all[i], last[i], workspace);
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
      const RunConfig three = small_run(model, layout, 3 * layers);
      ASSIGN_OR_RETURN(const RankModel of_three, write_small(three, ranks, layout.products));
      RETURN_IF_ERROR(write_pipeline_pieces(of_three, three, ranks, layout, workspace, result));
    } else {
      result.pieces[static_cast<size_t>(PieceKind::kWhole)][static_cast<size_t>(layers - 1)].forward =
          piece_program(whole.microbatch, last_runs({&whole.microbatch}, whole, run, ranks).front(), workspace);
    }
    ASSIGN_OR_RETURN(result.update[static_cast<size_t>(layers - 1)], write_update(whole, run, ranks, workspace));
  }
  return result;
}

}  // namespace colossus
