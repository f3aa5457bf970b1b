#include "device/collectives.h"
#include "ops/collective/collective.h"

namespace colossus {

template <>
int64_t ranks_workspace_bytes(const AllReduce& op, const OpShapes& shapes) {
  const TensorType& x = shapes.input(AllReduce::kX);
  const int64_t part = (x.shape.num_elements() + op.ranks - 1) / op.ranks;
  return op.ranks * (op.in_one_round(x.num_bytes()) ? x.num_bytes() : part * dtype_bytes(x.dtype));
}

template <>
Status communicate(const AllReduce& op, const RankCall& call, Collectives& ranks) {
  const View &x = call.input(AllReduce::kX), &sum = call.output(AllReduce::kSum);
  const int64_t count = x.num_elements();
  if (op.in_one_round(x.num_bytes())) {
    RETURN_IF_ERROR(ranks.all_gather(bytes_of(x), {call.workspace, static_cast<size_t>(op.ranks * x.num_bytes())}));
    ranks.add_in_order(x.dtype, call.workspace, op.ranks, count, sum.data);
    return ok_status();
  }
  const Parts of_x = parts_of(x, op.ranks), of_sum = parts_of(sum, op.ranks);
  const ByteSpan own = of_sum[static_cast<size_t>(op.rank)];
  Parts received;
  for (int64_t rank = 0; rank < op.ranks; ++rank)
    received.push_back({call.workspace + rank * static_cast<int64_t>(own.size()), own.size()});
  RETURN_IF_ERROR(ranks.all_to_all(constant(of_x), received));
  ranks.add_in_order(x.dtype, call.workspace, op.ranks, static_cast<int64_t>(own.size()) / dtype_bytes(x.dtype),
                     own.data());
  return share_parts(ranks, of_sum, op.rank);
}

}  // namespace colossus
