#include <algorithm>

#include "device/collectives.h"
#include "ops/pieces/pieces.h"

namespace colossus {
namespace {

ByteSpan piece_of(const View& buffer, const PieceAttributes& op, int64_t rank) {
  return {buffer.data + op.begin(rank) * dtype_bytes(buffer.dtype),
          static_cast<size_t>(op.size(rank) * dtype_bytes(buffer.dtype))};
}

}  // namespace

template <>
int64_t ranks_workspace_bytes(const ExchangePieces&, const OpShapes&) {
  return 0;
}

// Ranks with several sums send them one after the other: round i moves everyone's i-th.
template <>
Status communicate(const ExchangePieces& op, const RankCall& call, Collectives& ranks) {
  const int64_t rounds = *std::max_element(op.num_sums.begin(), op.num_sums.end());
  for (int64_t round = 0; round < rounds; ++round) {
    Parts send(static_cast<size_t>(op.ranks)), receive(static_cast<size_t>(op.ranks));
    int64_t row = round;  // of the peer's sum of this round, where it has one
    for (int64_t peer = 0; peer < op.ranks; ++peer) {
      const auto at = static_cast<size_t>(peer);
      if (peer == op.rank) {
        row = round;
        continue;
      }
      if (round < call.num_inputs()) send[at] = piece_of(call.input(static_cast<int>(round)), op, peer);
      const View& into = call.output(peer < op.rank ? ExchangePieces::kBefore : ExchangePieces::kBehind);
      const auto row_bytes = static_cast<size_t>(into.shape[1] * dtype_bytes(into.dtype));
      if (round < op.num_sums[at]) receive[at] = {into.data + static_cast<size_t>(row) * row_bytes, row_bytes};
      row += op.num_sums[at];
    }
    RETURN_IF_ERROR(ranks.all_to_all(constant(send), receive));
  }
  return ok_status();
}

template <>
int64_t ranks_workspace_bytes(const GatherPieces&, const OpShapes&) {
  return 0;
}

template <>
Status communicate(const GatherPieces& op, const RankCall& call, Collectives& ranks) {
  Parts parts;
  for (int64_t rank = 0; rank < op.ranks; ++rank)
    parts.push_back(piece_of(call.input(GatherPieces::kBuffer), op, rank));
  return share_parts(ranks, parts, op.rank);
}

template <>
int64_t ranks_workspace_bytes(const CollectPieces&, const OpShapes&) {
  return 0;
}

template <>
Status communicate(const CollectPieces& op, const RankCall& call, Collectives& ranks) {
  const View& piece = call.input(CollectPieces::kPiece);
  Parts parts;
  for (int64_t rank = 0; rank < op.ranks; ++rank)
    parts.push_back(piece_of(call.output(CollectPieces::kWhole), op, rank));
  ranks.copy_rows({parts[static_cast<size_t>(op.rank)].data(), 0}, {piece.data, 0}, piece.num_bytes(), 1);
  return share_parts(ranks, parts, op.rank);
}

}  // namespace colossus
