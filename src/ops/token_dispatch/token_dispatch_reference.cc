#include <vector>

#include "device/cpu/cpu_kernel.h"
#include "ops/token_dispatch/token_dispatch.h"

namespace colossus {
namespace {

// Output 0 of each token: the row of its addend, if there is one, plus gate(slot) times the row of each of its slots.
template <class Gate>
void sum_slots(const ReferenceCall& call, int rows_at, int slot_row_at, int addend_at, Gate gate) {
  const View &rows = call.input(rows_at), &slot_row = call.input(slot_row_at), &y = call.output(0);
  const int64_t width = y.shape.row_size(), top_k = slot_row.shape.row_size();
  for (int64_t n = 0; n < y.shape.num_rows(); ++n)
    for (int64_t c = 0; c < width; ++c) {
      double sum = call.has_input(addend_at) ? call.input(addend_at).get(n * width + c) : 0;
      for (int64_t slot = n * top_k; slot < (n + 1) * top_k; ++slot)
        sum += gate(slot) * rows.get(slot_row.as<int32_t>()[slot] * width + c);
      y.set(n * width + c, sum);
    }
}

}  // namespace

template <>
void run_reference(const TokenDispatch& op, const ReferenceCall& call) {
  const View& x = call.input(TokenDispatch::kX);
  const View& experts = call.input(TokenDispatch::kExperts);
  const int64_t width = x.shape.row_size();
  const int64_t top_k = experts.shape.row_size();
  int64_t row = 0;
  for (int64_t expert = 0; expert < op.num_experts; ++expert) {
    call.output(TokenDispatch::kOffsets).set(expert, static_cast<double>(row));
    for (int64_t slot = 0; slot < experts.num_elements(); ++slot) {
      if (experts.as<int32_t>()[slot] != expert) continue;
      for (int64_t c = 0; c < width; ++c)
        call.output(TokenDispatch::kRows).set(row * width + c, x.get(slot / top_k * width + c));
      call.output(TokenDispatch::kSlotRow).set(slot, static_cast<double>(row++));
    }
  }
  CHECK(row == experts.num_elements(), "token_dispatch: an expert is not in 0..num_experts-1");
  call.output(TokenDispatch::kOffsets).set(op.num_experts, static_cast<double>(row));
}

template <>
void run_reference(const TokenDispatchGrad&, const ReferenceCall& call) {
  using G = TokenDispatchGrad;
  sum_slots(call, G::kDrows, G::kSlotRow, G::kAddend, [](int64_t) { return 1.0; });
}

template <>
void run_reference(const TokenCombine&, const ReferenceCall& call) {
  using C = TokenCombine;
  sum_slots(call, C::kRows, C::kSlotRow, C::kAddend, [&](int64_t slot) { return call.input(C::kGates).get(slot); });
}

template <>
void run_reference(const TokenCombineGrad&, const ReferenceCall& call) {
  using G = TokenCombineGrad;
  const View& dy = call.input(G::kDy);
  const View& slot_row = call.input(G::kSlotRow);
  const int64_t width = dy.shape.row_size();
  const int64_t top_k = slot_row.shape.row_size();
  for (int64_t slot = 0; slot < slot_row.num_elements(); ++slot) {
    const int64_t row = slot_row.as<int32_t>()[slot] * width;
    const int64_t token = slot / top_k * width;
    double dgate = 0;
    for (int64_t c = 0; c < width; ++c) {
      dgate += dy.get(token + c) * call.input(G::kRows).get(row + c);
      call.output(G::kDrows).set(row + c, call.input(G::kGates).get(slot) * dy.get(token + c));
    }
    call.output(G::kDgates).set(slot, dgate);
  }
}

}  // namespace colossus
