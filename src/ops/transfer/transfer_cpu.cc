#include "device/cpu/cpu_kernel.h"
#include "ops/transfer/transfer.h"

namespace colossus {
namespace {

constexpr int kSender = 0, kReceiver = 1;

std::span<std::byte> bytes_of(const View& view) { return {view.data, static_cast<size_t>(view.num_bytes())}; }

}  // namespace

template <>
void prepare_cpu(const Send&, CpuPrepare&) {}

template <>
Status communicate(const Send&, const CpuCall& call, Communicator& ranks) {
  return ranks.send(bytes_of(call.input(Send::kX)), kReceiver);
}

template <>
void prepare_cpu(const Receive&, CpuPrepare&) {}

template <>
Status communicate(const Receive&, const CpuCall& call, Communicator& ranks) {
  return ranks.receive(bytes_of(call.output(Receive::kX)), kSender);
}

}  // namespace colossus
