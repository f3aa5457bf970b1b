#include <vector>

#include "device/cpu/cpu_kernel.h"
#include "ops/collective/parts_cpu.h"
#include "ops/expert_exchange/expert_exchange.h"

namespace colossus {
namespace {

// Who has how many rows for whom. The ranks take their experts one at a time, the first of each owner, then the second:
// so rows come to their places without a copy.
class Routes {
 public:
  Routes(const ExpertExchangeAttributes& op, const View& all_offsets, int64_t row_bytes)
      : op_(op),
        offsets_(all_offsets.as<int32_t>()),
        num_experts_(all_offsets.num_elements() / op.ranks - 1),
        row_bytes_(row_bytes) {}

  int64_t experts_of_a_rank() const { return num_experts_ * op_.expert_tensor / op_.ranks; }

  // The e-th expert of `owner` in this rank's own rows.
  std::span<std::byte> own_rows(std::byte* rows, int64_t owner, int64_t e) const {
    const int64_t expert = first_expert(owner) + e;
    return run(rows, begin(op_.rank, expert), count(op_.rank, expert));
  }
  // What has come from `source` for this rank's e-th expert; to be asked for in order of e, then of source.
  std::span<std::byte> arrived_rows(std::byte* rows, int64_t source, int64_t e) {
    const int64_t here = count(source, first_expert(op_.rank) + e), at = next_row_;
    next_row_ += here;
    return run(rows, at, here);
  }
  int64_t num_arrived() const { return next_row_; }

 private:
  int64_t first_expert(int64_t rank) const { return rank / op_.expert_tensor * experts_of_a_rank(); }
  int64_t begin(int64_t rank, int64_t expert) const { return offsets_[rank * (num_experts_ + 1) + expert]; }
  int64_t count(int64_t rank, int64_t expert) const { return begin(rank, expert + 1) - begin(rank, expert); }
  std::span<std::byte> run(std::byte* rows, int64_t first, int64_t count) const {
    return {rows + first * row_bytes_, static_cast<size_t>(count * row_bytes_)};
  }

  const ExpertExchangeAttributes& op_;
  const int32_t* offsets_;
  const int64_t num_experts_, row_bytes_;
  int64_t next_row_ = 0;
};

int64_t row_bytes_of(const View& rows) { return rows.shape[1] * dtype_bytes(rows.dtype); }

}  // namespace

template <>
void prepare_cpu(const RowsToExperts&, CpuPrepare&) {}

template <>
Status communicate(const RowsToExperts& op, const CpuCall& call, Communicator& ranks) {
  using X = RowsToExperts;
  const View &rows = call.input(X::kRows), &arrived = call.output(X::kArrived);
  auto* offsets = call.output(X::kOffsets).as<int32_t>();
  Routes routes(op, call.input(X::kAllOffsets), row_bytes_of(rows));
  Parts send(static_cast<size_t>(op.ranks)), receive(send.size());
  for (int64_t e = 0; e < routes.experts_of_a_rank(); ++e) {
    offsets[e] = static_cast<int32_t>(routes.num_arrived());
    for (int64_t peer = 0; peer < op.ranks; ++peer) {
      send[static_cast<size_t>(peer)] = routes.own_rows(rows.data, peer, e);
      receive[static_cast<size_t>(peer)] = routes.arrived_rows(arrived.data, peer, e);
    }
    RETURN_IF_ERROR(ranks.all_to_all(constant(send), receive));
  }
  offsets[routes.experts_of_a_rank()] = static_cast<int32_t>(routes.num_arrived());
  return ok_status();
}

// Workspace: a term of every row from each of the ranks that share an expert.
template <>
void prepare_cpu(const RowsFromExperts& op, CpuPrepare& prepare) {
  if (op.expert_tensor > 1)
    prepare.workspace_bytes = op.expert_tensor * prepare.shapes.output(RowsFromExperts::kRows).num_bytes();
}

template <>
Status communicate(const RowsFromExperts& op, const CpuCall& call, Communicator& ranks) {
  using X = RowsFromExperts;
  const View &arrived = call.input(X::kArrived), &rows = call.output(X::kRows);
  Routes routes(op, call.input(X::kAllOffsets), row_bytes_of(rows));
  Parts send(static_cast<size_t>(op.ranks)), receive(send.size());
  for (int64_t e = 0; e < routes.experts_of_a_rank(); ++e) {
    for (int64_t peer = 0; peer < op.ranks; ++peer) {
      std::byte* term = op.expert_tensor == 1 ? rows.data : call.workspace + peer % op.expert_tensor * rows.num_bytes();
      send[static_cast<size_t>(peer)] = routes.arrived_rows(arrived.data, peer, e);
      receive[static_cast<size_t>(peer)] = routes.own_rows(term, peer, e);
    }
    RETURN_IF_ERROR(ranks.all_to_all(constant(send), receive));
  }
  if (op.expert_tensor > 1) add_in_order(rows.dtype, call.workspace, op.expert_tensor, rows.num_elements(), rows.data);
  return ok_status();
}

}  // namespace colossus
