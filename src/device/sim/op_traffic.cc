#include "device/sim/op_traffic.h"

namespace colossus {
namespace {

CollectiveKind kind_of(const AllReduce&) { return CollectiveKind::kAllReduce; }
CollectiveKind kind_of(const AllGather&) { return CollectiveKind::kAllGather; }
CollectiveKind kind_of(const GatherPieces&) { return CollectiveKind::kAllGather; }
CollectiveKind kind_of(const CollectPieces&) { return CollectiveKind::kAllGather; }
CollectiveKind kind_of(const ReduceScatter&) { return CollectiveKind::kReduceScatter; }
CollectiveKind kind_of(const ExchangePieces&) { return CollectiveKind::kAllToAll; }
CollectiveKind kind_of(const RowsToExperts&) { return CollectiveKind::kAllToAll; }
CollectiveKind kind_of(const RowsFromExperts&) { return CollectiveKind::kAllToAll; }
CollectiveKind kind_of(const Send&) { return CollectiveKind::kSend; }
CollectiveKind kind_of(const Receive&) { return CollectiveKind::kSend; }

}  // namespace

std::optional<CollectiveKind> collective_kind(const Op& op) {
  return std::visit(
      [](const auto& o) -> std::optional<CollectiveKind> {
        if constexpr (Communicates<decltype(o)>) {
          return kind_of(o);
        } else {
          return std::nullopt;
        }
      },
      op);
}

}  // namespace colossus
