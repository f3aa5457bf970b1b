#include <algorithm>
#include <array>
#include <vector>

#include "device/cpu/cpu_kernel.h"
#include "ops/collective/collective.h"
#include "ops/collective/parts_cpu.h"

namespace colossus {

template <>
void prepare_cpu(const AllReduce& op, CpuPrepare& prepare) {
  const TensorType& x = prepare.shapes.input(AllReduce::kX);
  const int64_t part = (x.shape.num_elements() + op.ranks - 1) / op.ranks;
  prepare.workspace_bytes = op.ranks * (op.in_one_round(x.num_bytes()) ? x.num_bytes() : part * dtype_bytes(x.dtype));
}

template <>
Status communicate(const AllReduce& op, const CpuCall& call, Communicator& ranks) {
  const View &x = call.input(AllReduce::kX), &sum = call.output(AllReduce::kSum);
  const int64_t count = x.num_elements();
  const auto terms = std::span(call.workspace, static_cast<size_t>(op.ranks * x.num_bytes()));
  if (op.in_one_round(x.num_bytes())) {
    RETURN_IF_ERROR(ranks.all_gather(std::span(x.data, static_cast<size_t>(x.num_bytes())), terms));
    add_in_order(x.dtype, terms.data(), op.ranks, count, sum.data);
    return ok_status();
  }
  const Parts of_x = parts_of(x, op.ranks), of_sum = parts_of(sum, op.ranks);
  const std::span<std::byte> own = of_sum[static_cast<size_t>(op.rank)];
  Parts received;
  for (int64_t rank = 0; rank < op.ranks; ++rank)
    received.push_back({call.workspace + rank * static_cast<int64_t>(own.size()), own.size()});
  RETURN_IF_ERROR(ranks.all_to_all(constant(of_x), received));
  add_in_order(x.dtype, call.workspace, op.ranks, static_cast<int64_t>(own.size()) / dtype_bytes(x.dtype), own.data());
  return share_parts(ranks, of_sum);
}

}  // namespace colossus
