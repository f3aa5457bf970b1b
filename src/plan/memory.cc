#include "plan/memory.h"

#include <algorithm>
#include <cmath>

#include "plan/step_time.h"

namespace colossus {
namespace {

// Steps enough that as many microbatches are in flight as ever are.
constexpr int64_t kRounds = 3;

struct StageShape {
  std::vector<int64_t> pieces;  // numbers of its chunks
  double parameters = 0;
  double updated = 0;  // of them, by one rank
  double summed = 0;   // of their gradients, kept by one rank with ZeRO 2 and 3 in our own programs
};

StageShape shape_of_stage(const Layout& layout, const RankPieces& pieces, const std::vector<LayerRange>& ranges,
                          int64_t stage) {
  const MeshConfig& mesh = layout.mesh;
  const auto sharers = static_cast<double>(mesh.shard * mesh.context), tensor = static_cast<double>(mesh.tensor);
  const double ends = mesh.pipeline > 1 ? 2 * static_cast<double>(mesh.data) : 1;
  StageShape shape;
  const auto data_ranks = static_cast<double>(mesh.data * mesh.shard);
  // Experts over data ranks: whoever shares them adds up one sum for all of their data ranks.
  const double expert_sharers = mesh.experts_over_data_ranks() ? static_cast<double>(mesh.expert_data()) : data_ranks;
  const auto add = [&](const SharedParameters& counts, double times) {
    shape.summed += times * (static_cast<double>(counts.all() - counts.experts) / data_ranks +
                             static_cast<double>(counts.experts) / expert_sharers);
    shape.parameters += times * static_cast<double>(counts.all());
    shape.updated +=
        times * (static_cast<double>(counts.cut) / sharers + static_cast<double>(counts.copied) / (sharers * tensor) +
                 static_cast<double>(counts.experts) / static_cast<double>(mesh.expert_data()) +
                 static_cast<double>(counts.tied) / (sharers * tensor * ends));
  };
  for (int64_t chunk = 0; chunk < mesh.chunks; ++chunk) {
    shape.pieces.push_back(chunk * mesh.pipeline + stage);
    const LayerRange& range = ranges[static_cast<size_t>(shape.pieces.back())];
    add(pieces.update->layer, static_cast<double>(range.end - range.begin));
  }
  if (stage == 0) add(pieces.update->first, 1);
  if (stage == mesh.pipeline - 1) add(pieces.update->last, 1);
  if (stage == mesh.pipeline - 1 && stage > 0) add({.tied = pieces.update->first.tied}, 1);
  return shape;
}

// Elements of gradients that a rank keeps between microbatches.
double gradients_kept(const Layout& layout, const RankPieces& pieces, const StageShape& shape) {
  if (layout.mesh.zero_stage == 1) return shape.parameters;
  if (!pieces.is_own) return shape.updated;
  // Each microbatch is a leaf, and sums of leaves wait for one another (train/gradient_tree.h).
  const double waiting = std::floor(std::log2(static_cast<double>(std::max<int64_t>(1, layout.num_microbatches()))));
  return shape.summed * (1 + waiting);
}

// Of a program of so many layers, which is known with a few and with one more.
double arena_bytes(const PieceProgram& few, const PieceProgram& more, double fewest_layers, double layers) {
  const PerLayer ever{static_cast<double>(few.arena_bytes), static_cast<double>(more.arena_bytes), fewest_layers};
  const double further = layers - fewest_layers - 1;
  const double last = further < 0 ? static_cast<double>(few.last_arena_bytes)
                                  : static_cast<double>(more.last_arena_bytes) + (ever.more - ever.few) * further;
  return std::max(ever.at(layers), more.last_arena_bytes > 0 ? last : 0);
}

}  // namespace

Result<StashCounts> count_stashes(const Layout& layout) {
  const MeshConfig& mesh = layout.mesh;
  StashCounts counts(static_cast<size_t>(mesh.pipeline));
  if (mesh.pipeline == 1) return counts;
  const PipelineShape shape{.kind = mesh.schedule,
                            .num_stages = static_cast<int>(mesh.pipeline),
                            .num_chunks = static_cast<int>(mesh.chunks),
                            .num_microbatches = std::min(layout.num_microbatches(), kRounds * mesh.pipeline)};
  ASSIGN_OR_RETURN(const auto lists, write_pipeline_schedule(shape));
  ASSIGN_OR_RETURN(const std::vector<StageSlots> slots, assign_stage_slots(shape, lists));
  for (size_t stage = 0; stage < counts.size(); ++stage)
    for (const StashKind kind : kStashKinds) counts[stage][static_cast<size_t>(kind)] = slots[stage][kind].count;
  return counts;
}

Result<RankMemory> memory_of(const ModelConfig& model, const Layout& layout, const RankPieces& pieces,
                             const StateBytes& state) {
  ASSIGN_OR_RETURN(const StashCounts stashes, count_stashes(layout));
  return memory_of(model, layout, pieces, stashes, state);
}

Result<RankMemory> memory_of(const ModelConfig& model, const Layout& layout, const RankPieces& pieces,
                             const StashCounts& stashes, const StateBytes& state) {
  const MeshConfig& mesh = layout.mesh;
  const int64_t num_pieces = mesh.pipeline * mesh.chunks;
  const std::vector<LayerRange> ranges = cut_layers(model.num_layers, num_pieces);
  const auto fewest_layers = static_cast<double>(pieces.fewest_layers);
  const auto programs_of = [&](int64_t piece) -> const std::array<PiecePrograms, 2>& {
    return pieces.of(!pieces.has_pipeline      ? PieceKind::kWhole
                     : piece == 0              ? PieceKind::kFirst
                     : piece == num_pieces - 1 ? PieceKind::kLast
                                               : PieceKind::kMiddle);
  };
  const auto layers_of = [&](int64_t piece) {
    const LayerRange& range = ranges[static_cast<size_t>(piece)];
    return static_cast<double>(range.end - range.begin);
  };
  const auto bytes_at = [&](int64_t piece, auto of) {
    const auto& programs = programs_of(piece);
    return PerLayer{static_cast<double>(of(programs[0])), static_cast<double>(of(programs[1])), fewest_layers}.at(
        layers_of(piece));
  };
  const auto arena_at = [&](int64_t piece, PieceProgram PiecePrograms::*program) {
    return arena_bytes(programs_of(piece)[0].*program, programs_of(piece)[1].*program, fewest_layers, layers_of(piece));
  };
  RankMemory most;
  for (int64_t stage = 0; stage < mesh.pipeline; ++stage) {
    const StageShape shape = shape_of_stage(layout, pieces, ranges, stage);
    RankMemory memory;
    memory.weights = state.weights * (mesh.zero_stage == 3 ? shape.updated : shape.parameters);
    memory.gradients = state.gradients * gradients_kept(layout, pieces, shape);
    memory.optimizer = state.optimizer * shape.updated;
    memory.arena = static_cast<double>(pieces.update->arena_bytes);
    for (const int64_t piece : shape.pieces) {
      memory.arena =
          std::max({memory.arena, arena_at(piece, &PiecePrograms::forward), arena_at(piece, &PiecePrograms::backward),
                    arena_at(piece, &PiecePrograms::backward_weight),
                    bytes_at(piece, [](const PiecePrograms& p) { return p.evaluation_arena_bytes; })});
    }
    if (pieces.has_pipeline)
      for (const StashKind kind : kStashKinds) {
        // A slot is as large as the largest of the stage's chunks.
        double slot = 0;
        for (const int64_t piece : shape.pieces)
          slot = std::max(slot, bytes_at(piece, [&](const PiecePrograms& p) { return p.stash_bytes[kind]; }));
        memory.stashes += slot * static_cast<double>(stashes[static_cast<size_t>(stage)][static_cast<size_t>(kind)]);
      }
    if (memory.total() > most.total()) most = memory;
  }
  return most;
}

}  // namespace colossus
