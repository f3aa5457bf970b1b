#include <cstring>
#include <vector>

#include "device/cpu/cpu_kernel.h"
#include "ops/collective/collective.h"
#include "ops/collective/parts_cpu.h"

namespace colossus {
namespace {

// A tensor that is cut along a dimension: for each index of the dimensions before it (outer), each rank has one run.
struct Runs {
  Runs(const CutAttributes& op, const TensorType& part) : ranks(op.ranks) {
    for (int d = 0; d < op.dimension; ++d) outer *= part.shape[d];
    bytes = outer == 0 ? 0 : part.num_bytes() / outer;
  }

  int64_t ranks;
  int64_t outer = 1;
  int64_t bytes = 0;  // of one run

  int64_t part_bytes() const { return outer * bytes; }
  // One rank's part as it lies on its own, from or to its place in the whole.
  void unpack(const std::byte* part, int64_t rank, std::byte* whole) const {
    for (int64_t i = 0; i < outer; ++i)
      std::memcpy(whole + (i * ranks + rank) * bytes, part + i * bytes, static_cast<size_t>(bytes));
  }
  void pack(const std::byte* whole, int64_t rank, std::byte* part) const {
    for (int64_t i = 0; i < outer; ++i)
      std::memcpy(part + i * bytes, whole + (i * ranks + rank) * bytes, static_cast<size_t>(bytes));
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
  prepare.workspace_bytes = runs.outer == 1 ? 0 : op.ranks * runs.part_bytes();
}

template <>
Status communicate(const AllGather& op, const CpuCall& call, Communicator& ranks) {
  const View &x = call.input(AllGather::kX), &whole = call.output(AllGather::kWhole);
  const Runs runs(op, type_of(x));
  std::byte* into = runs.outer == 1 ? whole.data : call.workspace;
  RETURN_IF_ERROR(ranks.all_gather(std::span(x.data, static_cast<size_t>(x.num_bytes())),
                                   std::span(into, static_cast<size_t>(whole.num_bytes()))));
  for (int64_t rank = 0; runs.outer != 1 && rank < op.ranks; ++rank)
    runs.unpack(into + rank * runs.part_bytes(), rank, whole.data);
  return ok_status();
}

// Workspace: the terms that have come; then, where parts do not lie in one piece, what is sent.
template <>
void prepare_cpu(const ReduceScatter& op, CpuPrepare& prepare) {
  const Runs runs(op, prepare.shapes.output(ReduceScatter::kPart));
  prepare.workspace_bytes = (runs.outer == 1 ? 1 : 2) * op.ranks * runs.part_bytes();
}

template <>
Status communicate(const ReduceScatter& op, const CpuCall& call, Communicator& ranks) {
  const View &x = call.input(ReduceScatter::kX), &part = call.output(ReduceScatter::kPart);
  const Runs runs(op, type_of(part));
  std::byte* from = x.data;
  if (runs.outer != 1) {
    from = call.workspace + op.ranks * runs.part_bytes();
    for (int64_t rank = 0; rank < op.ranks; ++rank) runs.pack(x.data, rank, from + rank * runs.part_bytes());
  }
  RETURN_IF_ERROR(ranks.all_to_all(constant(parts_in(from, runs)), parts_in(call.workspace, runs)));
  add_in_order(part.dtype, call.workspace, op.ranks, part.num_elements(), part.data);
  return ok_status();
}

}  // namespace colossus
