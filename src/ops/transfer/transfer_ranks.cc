#include "device/collectives.h"
#include "ops/transfer/transfer.h"

namespace colossus {
namespace {

constexpr int kSender = 0, kReceiver = 1;

}  // namespace

template <>
int64_t ranks_workspace_bytes(const Send&, const OpShapes&) {
  return 0;
}

template <>
Status communicate(const Send&, const RankCall& call, Collectives& ranks) {
  return ranks.send(bytes_of(call.input(Send::kX)), kReceiver);
}

template <>
int64_t ranks_workspace_bytes(const Receive&, const OpShapes&) {
  return 0;
}

template <>
Status communicate(const Receive&, const RankCall& call, Collectives& ranks) {
  return ranks.receive(bytes_of(call.output(Receive::kX)), kSender);
}

}  // namespace colossus
