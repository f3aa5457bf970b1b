#include <vector>

#include "device/collectives.h"
#include "ops/collective/collective.h"

namespace colossus {
namespace {

// A tensor that is cut along a dimension: for each index of the dimensions before it (outer), each rank has one run, or
// two when it is folded.
struct Runs {
  Runs(const CutAttributes& op, const TensorType& part) : ranks(op.ranks), pieces(op.folded ? 2 : 1) {
    for (int d = 0; d < op.dimension; ++d) outer *= part.shape[d];
    bytes = outer == 0 ? 0 : part.num_bytes() / outer / pieces;
  }

  int64_t ranks, pieces;
  int64_t outer = 1;
  int64_t bytes = 0;  // of one run

  int64_t part_bytes() const { return outer * pieces * bytes; }
  // The parts one after the other are the whole.
  bool in_place() const { return outer == 1 && pieces == 1; }
  // One rank's part as it lies on its own, from or to its places in the whole.
  void unpack(Collectives& device, std::byte* part, int64_t rank, std::byte* whole) const {
    for (int64_t piece = 0; piece < pieces; ++piece)
      device.copy_rows(in_whole(whole, rank, piece), in_part(part, piece), bytes, outer);
  }
  void pack(Collectives& device, std::byte* whole, int64_t rank, std::byte* part) const {
    for (int64_t piece = 0; piece < pieces; ++piece)
      device.copy_rows(in_part(part, piece), in_whole(whole, rank, piece), bytes, outer);
  }

 private:
  Collectives::Rows in_part(std::byte* part, int64_t piece) const { return {part + piece * bytes, pieces * bytes}; }
  Collectives::Rows in_whole(std::byte* whole, int64_t rank, int64_t piece) const {
    const int64_t place = piece == 0 ? rank : 2 * ranks - 1 - rank;
    return {whole + place * bytes, ranks * pieces * bytes};
  }
};

TensorType type_of(const View& view) { return {view.shape, view.dtype}; }

// The parts of all ranks in one buffer, in order of rank.
Parts parts_in(std::byte* buffer, const Runs& runs) {
  Parts parts;
  for (int64_t rank = 0; rank < runs.ranks; ++rank)
    parts.push_back({buffer + rank * runs.part_bytes(), static_cast<size_t>(runs.part_bytes())});
  return parts;
}

}  // namespace

// Workspace: what has come, unless it lies in the whole as it comes.
template <>
int64_t ranks_workspace_bytes(const AllGather& op, const OpShapes& shapes) {
  const Runs runs(op, shapes.input(AllGather::kX));
  return runs.in_place() ? 0 : op.ranks * runs.part_bytes();
}

template <>
Status communicate(const AllGather& op, const RankCall& call, Collectives& ranks) {
  const View &x = call.input(AllGather::kX), &whole = call.output(AllGather::kWhole);
  const Runs runs(op, type_of(x));
  std::byte* into = runs.in_place() ? whole.data : call.workspace;
  RETURN_IF_ERROR(ranks.all_gather(bytes_of(x), {into, static_cast<size_t>(whole.num_bytes())}));
  for (int64_t rank = 0; !runs.in_place() && rank < op.ranks; ++rank)
    runs.unpack(ranks, into + rank * runs.part_bytes(), rank, whole.data);
  return ok_status();
}

// Workspace: the terms that have come; then, where parts do not lie in one piece, what is sent.
template <>
int64_t ranks_workspace_bytes(const ReduceScatter& op, const OpShapes& shapes) {
  const Runs runs(op, shapes.output(ReduceScatter::kPart));
  return (runs.in_place() ? 1 : 2) * op.ranks * runs.part_bytes();
}

template <>
Status communicate(const ReduceScatter& op, const RankCall& call, Collectives& ranks) {
  const View &x = call.input(ReduceScatter::kX), &part = call.output(ReduceScatter::kPart);
  const Runs runs(op, type_of(part));
  std::byte* from = x.data;
  if (!runs.in_place()) {
    from = call.workspace + op.ranks * runs.part_bytes();
    for (int64_t rank = 0; rank < op.ranks; ++rank) runs.pack(ranks, x.data, rank, from + rank * runs.part_bytes());
  }
  RETURN_IF_ERROR(ranks.all_to_all(constant(parts_in(from, runs)), parts_in(call.workspace, runs)));
  ranks.add_in_order(part.dtype, call.workspace, op.ranks, part.num_elements(), part.data);
  return ok_status();
}

}  // namespace colossus
