#include "ops/pieces/pieces.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "program/builder.h"

namespace colossus {

Status PieceAttributes::check(const Inference& io, int64_t buffer_size) const {
  RETURN_IF_ERROR(CollectiveAttributes::check(io));
  const auto fail = [&] {
    return io.fail_attribute("bounds", fmt::format("got [{}]; needed {} pieces of {} elements that do not overlap",
                                                   fmt::join(bounds, ", "), ranks, buffer_size));
  };
  if (static_cast<int64_t>(bounds.size()) != 2 * ranks) return fail();
  std::vector<std::pair<int64_t, int64_t>> pieces;
  for (int64_t i = 0; i < ranks; ++i) pieces.emplace_back(begin(i), end(i));
  std::sort(pieces.begin(), pieces.end());
  int64_t last = 0;
  for (const auto& [from, to] : pieces) {
    if (from < 0 || to < from || to > buffer_size) return fail();
    if (from == to) continue;  // nothing, wherever it lies
    if (from < last) return fail();
    last = to;
  }
  return ok_status();
}

int64_t ExchangePieces::num_before() const {
  return std::accumulate(num_sums.begin(), num_sums.begin() + rank, int64_t{0});
}

int64_t ExchangePieces::num_behind() const {
  return std::accumulate(num_sums.begin() + rank + 1, num_sums.end(), int64_t{0});
}

std::vector<TensorId> nodes_by_rank(const ExchangePieces& op, const std::vector<TensorId>& received,
                                    const std::vector<TensorId>& sums,
                                    FunctionRef<TensorId(TensorId sum, Shape shape, int64_t offset)> view) {
  std::vector<TensorId> nodes;
  if (op.num_before() > 0) nodes.push_back(received.at(ExchangePieces::kBefore));
  for (const TensorId sum : sums) nodes.push_back(view(sum, {1, op.size(op.rank)}, op.begin(op.rank)));
  if (op.num_behind() > 0) nodes.push_back(received.at(ExchangePieces::kBehind));
  return nodes;
}

std::vector<TensorId> exchanged_nodes(const ExchangePieces& op, const std::vector<TensorId>& sums, Builder& b) {
  b.emit(op, sums);
  if (!b.status().ok()) return {};
  return nodes_by_rank(op, b.last_outputs(), sums, [&](TensorId sum, Shape shape, int64_t offset) {
    // It may be a view itself: then this is one of what it is a view of.
    const Tensor& tensor = b.tensor(sum);
    return b.view(tensor.name + ".here", std::move(shape), b.program().root(sum), tensor.offset + offset);
  });
}

Status infer(const ExchangePieces& op, Inference& io) {
  using E = ExchangePieces;
  if (io.num_inputs() < 1) return io.fail_attribute("num_sums", "got no sums; needed one or more");
  RETURN_IF_ERROR(io.need_rank(E::kSums, 1));
  for (int i = 0; i < io.num_inputs(); ++i) {
    RETURN_IF_ERROR(io.need_dtype(i, DType::kF32));
    RETURN_IF_ERROR(io.need_shape(i, io.shape(0), "all sums are of one size"));
  }
  RETURN_IF_ERROR(op.check(io, io.shape(0)[0]));
  if (static_cast<int64_t>(op.num_sums.size()) != op.ranks ||
      op.num_sums[static_cast<size_t>(op.rank)] != io.num_inputs() ||
      *std::min_element(op.num_sums.begin(), op.num_sums.end()) < 1)
    return io.fail_attribute("num_sums",
                             fmt::format("got [{}]; needed one number for each of {} ranks, {} for this one",
                                         fmt::join(op.num_sums, ", "), op.ranks, io.num_inputs()));
  io.set_output(E::kBefore, {op.num_before(), op.size(op.rank)}, DType::kF32);
  io.set_output(E::kBehind, {op.num_behind(), op.size(op.rank)}, DType::kF32);
  return ok_status();
}

Cost cost(const ExchangePieces& op, const OpShapes& shapes) {
  Cost cost;
  int64_t sent = 0;
  for (int64_t i = 0; i < op.ranks; ++i)
    if (i != op.rank) sent += op.size(i);
  cost.bytes_sent = cost.bytes_read = static_cast<double>(sent * shapes.num_inputs()) * 4;
  cost.bytes_written = static_cast<double>((op.num_before() + op.num_behind()) * op.size(op.rank)) * 4;
  return cost;
}

Status infer(const TreeSum& op, Inference& io) {
  using T = TreeSum;
  if (io.num_inputs() < 2) return io.fail_attribute("additions", "got no nodes; needed one or more");
  RETURN_IF_ERROR(io.need_dtype(T::kSum, DType::kF32));
  const Shape& sum = io.shape(T::kSum);
  if (sum.rank() != 1 && sum.rank() != 2) return io.fail(T::kSum, "one sum (N), or several (S, N)");
  const int64_t num_sums = sum.rank() == 1 ? 1 : sum[0];
  int64_t nodes = 0;
  for (int i = T::kNodes; i < io.num_inputs(); ++i) {
    RETURN_IF_ERROR(io.need_rank(i, 2));
    RETURN_IF_ERROR(io.need_dtype(i, DType::kF32));
    RETURN_IF_ERROR(io.need_size(i, 1, sum[-1], "the elements of a sum"));
    nodes += io.shape(i)[0];
  }
  const bool in_range =
      std::all_of(op.additions.begin(), op.additions.end(), [&](int64_t node) { return node >= 0 && node < nodes; });
  if (!in_range || static_cast<int64_t>(op.additions.size()) != 2 * (nodes - num_sums))
    return io.fail_attribute("additions", fmt::format("got [{}]; needed {} pairs of {} nodes",
                                                      fmt::join(op.additions, ", "), nodes - num_sums, nodes));
  return ok_status();
}

Cost cost(const TreeSum& op, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(TreeSum::kInputs);
  cost.flops = static_cast<double>(op.additions.size() / 2) * static_cast<double>(shapes.shape(TreeSum::kSum)[-1]);
  return cost;
}

Status infer(const GatherPieces& op, Inference& io) {
  RETURN_IF_ERROR(io.need_rank(GatherPieces::kBuffer, 1));
  RETURN_IF_ERROR(io.need_dtype(GatherPieces::kBuffer, DType::kF32));
  return op.check(io, io.shape(GatherPieces::kBuffer)[0]);
}

Cost cost(const GatherPieces& op, const OpShapes&) {
  Cost cost;
  int64_t received = 0;
  for (int64_t i = 0; i < op.ranks; ++i)
    if (i != op.rank) received += op.size(i);
  cost.bytes_read = static_cast<double>(op.size(op.rank)) * 4;
  cost.bytes_written = static_cast<double>(received) * 4;
  cost.bytes_sent = static_cast<double>(op.size(op.rank) * (op.ranks - 1)) * 4;
  return cost;
}

Status infer(const CollectPieces& op, Inference& io) {
  using C = CollectPieces;
  RETURN_IF_ERROR(io.need_dtype(C::kPiece, DType::kF32));
  int64_t size = 0;
  for (int64_t i = 0; i < op.ranks && 2 * i + 1 < static_cast<int64_t>(op.bounds.size()); ++i) size += op.size(i);
  RETURN_IF_ERROR(op.check(io, size));
  RETURN_IF_ERROR(io.need_shape(C::kPiece, {op.size(op.rank)}, "this rank's piece"));
  io.set_output(C::kWhole, {size}, DType::kF32);
  return ok_status();
}

Cost cost(const CollectPieces& op, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(CollectPieces::kInputs);
  cost.bytes_sent = static_cast<double>(op.size(op.rank) * (op.ranks - 1)) * 4;
  return cost;
}

}  // namespace colossus
