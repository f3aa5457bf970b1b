#include <vector>

#include "device/collectives.h"
#include "ops/expert_exchange/expert_exchange.h"

namespace colossus {
namespace {

// Who has how many rows for whom. The ranks take their experts one at a time, the first of each owner, then the second:
// so rows come to their places without a copy.
class Routes {
 public:
  static Result<Routes> make(const ExpertExchangeAttributes& op, const View& all_offsets, int64_t row_bytes,
                             Collectives& ranks) {
    ASSIGN_OR_RETURN(const ConstByteSpan offsets, ranks.on_host(all_offsets));
    return Routes(op, offsets, row_bytes);
  }

  int64_t experts_of_a_rank() const { return num_experts_ * op_.expert_tensor / op_.ranks; }

  // The e-th expert of `owner` in this rank's own rows.
  ByteSpan own_rows(std::byte* rows, int64_t owner, int64_t e) const {
    const int64_t expert = first_expert(owner) + e;
    return run(rows, begin(op_.rank, expert), count(op_.rank, expert));
  }
  // What has come from `source` for this rank's e-th expert; to be asked for in order of e, then of source.
  ByteSpan arrived_rows(std::byte* rows, int64_t source, int64_t e) {
    const int64_t here = count(source, first_expert(op_.rank) + e), at = next_row_;
    next_row_ += here;
    return run(rows, at, here);
  }
  int64_t num_arrived() const { return next_row_; }

 private:
  Routes(const ExpertExchangeAttributes& op, ConstByteSpan all_offsets, int64_t row_bytes)
      : op_(op),
        offsets_(reinterpret_cast<const int32_t*>(all_offsets.data())),
        num_experts_(static_cast<int64_t>(all_offsets.size() / sizeof(int32_t)) / op.ranks - 1),
        row_bytes_(row_bytes) {}
  int64_t first_expert(int64_t rank) const { return rank / op_.expert_tensor * experts_of_a_rank(); }
  int64_t begin(int64_t rank, int64_t expert) const { return offsets_[rank * (num_experts_ + 1) + expert]; }
  int64_t count(int64_t rank, int64_t expert) const { return begin(rank, expert + 1) - begin(rank, expert); }
  ByteSpan run(std::byte* rows, int64_t first, int64_t count) const {
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
int64_t ranks_workspace_bytes(const RowsToExperts&, const OpShapes&) {
  return 0;
}

template <>
Status communicate(const RowsToExperts& op, const RankCall& call, Collectives& ranks) {
  using X = RowsToExperts;
  const View &rows = call.input(X::kRows), &arrived = call.output(X::kArrived);
  ASSIGN_OR_RETURN(Routes routes, Routes::make(op, call.input(X::kAllOffsets), row_bytes_of(rows), ranks));
  std::vector<int32_t> offsets;
  Parts send(static_cast<size_t>(op.ranks)), receive(send.size());
  for (int64_t e = 0; e < routes.experts_of_a_rank(); ++e) {
    offsets.push_back(static_cast<int32_t>(routes.num_arrived()));
    for (int64_t peer = 0; peer < op.ranks; ++peer) {
      send[static_cast<size_t>(peer)] = routes.own_rows(rows.data, peer, e);
      receive[static_cast<size_t>(peer)] = routes.arrived_rows(arrived.data, peer, e);
    }
    RETURN_IF_ERROR(ranks.all_to_all(constant(send), receive));
  }
  offsets.push_back(static_cast<int32_t>(routes.num_arrived()));
  ranks.write(bytes_of(call.output(X::kOffsets)), std::as_bytes(std::span(offsets)));
  return ok_status();
}

// Workspace: a term of every row from each of the ranks that share an expert.
template <>
int64_t ranks_workspace_bytes(const RowsFromExperts& op, const OpShapes& shapes) {
  return op.expert_tensor > 1 ? op.expert_tensor * shapes.output(RowsFromExperts::kRows).num_bytes() : 0;
}

template <>
Status communicate(const RowsFromExperts& op, const RankCall& call, Collectives& ranks) {
  using X = RowsFromExperts;
  const View &arrived = call.input(X::kArrived), &rows = call.output(X::kRows);
  ASSIGN_OR_RETURN(Routes routes, Routes::make(op, call.input(X::kAllOffsets), row_bytes_of(rows), ranks));
  Parts send(static_cast<size_t>(op.ranks)), receive(send.size());
  for (int64_t e = 0; e < routes.experts_of_a_rank(); ++e) {
    for (int64_t peer = 0; peer < op.ranks; ++peer) {
      std::byte* term = op.expert_tensor == 1 ? rows.data : call.workspace + peer % op.expert_tensor * rows.num_bytes();
      send[static_cast<size_t>(peer)] = routes.arrived_rows(arrived.data, peer, e);
      receive[static_cast<size_t>(peer)] = routes.own_rows(term, peer, e);
    }
    RETURN_IF_ERROR(ranks.all_to_all(constant(send), receive));
  }
  if (op.expert_tensor > 1)
    ranks.add_in_order(rows.dtype, call.workspace, op.expert_tensor, rows.num_elements(), rows.data);
  return ok_status();
}

}  // namespace colossus
