#include <cstring>
#include <vector>

#include "device/cpu/cpu_kernel.h"
#include "ops/collective/collective.h"
#include "ops/collective/parts_cpu.h"

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
  void unpack(const std::byte* part, int64_t rank, std::byte* whole) const {
    for_each_run(rank, [&](int64_t in_part, int64_t in_whole) {
      std::memcpy(whole + in_whole, part + in_part, static_cast<size_t>(bytes));
    });
  }
  void pack(const std::byte* whole, int64_t rank, std::byte* part) const {
    for_each_run(rank, [&](int64_t in_part, int64_t in_whole) {
      std::memcpy(part + in_part, whole + in_whole, static_cast<size_t>(bytes));
    });
  }

 private:
  template <class Visit>
  void for_each_run(int64_t rank, Visit visit) const {
    if (bytes == 0) return;  // and there may be no memory at all
    for (int64_t i = 0; i < outer; ++i)
      for (int64_t piece = 0; piece < pieces; ++piece) {
        const int64_t place = piece == 0 ? rank : 2 * ranks - 1 - rank;
        visit((i * pieces + piece) * bytes, (i * ranks * pieces + place) * bytes);
      }
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
void prepare_cpu(const AllGather& op, CpuPrepare& prepare) {
  const Runs runs(op, prepare.shapes.input(AllGather::kX));
  prepare.workspace_bytes = runs.in_place() ? 0 : op.ranks * runs.part_bytes();
}

template <>
Status communicate(const AllGather& op, const CpuCall& call, Communicator& ranks) {
  const View &x = call.input(AllGather::kX), &whole = call.output(AllGather::kWhole);
  const Runs runs(op, type_of(x));
  std::byte* into = runs.in_place() ? whole.data : call.workspace;
  RETURN_IF_ERROR(ranks.all_gather(std::span(x.data, static_cast<size_t>(x.num_bytes())),
                                   std::span(into, static_cast<size_t>(whole.num_bytes()))));
  for (int64_t rank = 0; !runs.in_place() && rank < op.ranks; ++rank)
    runs.unpack(into + rank * runs.part_bytes(), rank, whole.data);
  return ok_status();
}

// Workspace: the terms that have come; then, where parts do not lie in one piece, what is sent.
template <>
void prepare_cpu(const ReduceScatter& op, CpuPrepare& prepare) {
  const Runs runs(op, prepare.shapes.output(ReduceScatter::kPart));
  prepare.workspace_bytes = (runs.in_place() ? 1 : 2) * op.ranks * runs.part_bytes();
}

template <>
Status communicate(const ReduceScatter& op, const CpuCall& call, Communicator& ranks) {
  const View &x = call.input(ReduceScatter::kX), &part = call.output(ReduceScatter::kPart);
  const Runs runs(op, type_of(part));
  std::byte* from = x.data;
  if (!runs.in_place()) {
    from = call.workspace + op.ranks * runs.part_bytes();
    for (int64_t rank = 0; rank < op.ranks; ++rank) runs.pack(x.data, rank, from + rank * runs.part_bytes());
  }
  RETURN_IF_ERROR(ranks.all_to_all(constant(parts_in(from, runs)), parts_in(call.workspace, runs)));
  add_in_order(part.dtype, call.workspace, op.ranks, part.num_elements(), part.data);
  return ok_status();
}

}  // namespace colossus
