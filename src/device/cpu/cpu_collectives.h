// Collectives of a CPU: a Communicator's end, and loops.
#pragma once

#include "comm/communicator.h"
#include "device/collectives.h"

namespace colossus {

class CpuCollectives final : public Collectives {
 public:
  explicit CpuCollectives(Communicator& end) : end_(end) {}

  Status all_gather(ConstByteSpan mine, ByteSpan all) override { return end_.all_gather(mine, all); }
  Status all_to_all(std::span<const ConstByteSpan> send, std::span<const ByteSpan> receive) override {
    return end_.all_to_all(send, receive);
  }
  Status send(ConstByteSpan bytes, int peer) override { return end_.send(bytes, peer); }
  Status receive(ByteSpan bytes, int peer) override { return end_.receive(bytes, peer); }
  void copy_rows(Rows to, Rows from, int64_t row_bytes, int64_t num_rows) override;
  void add_in_order(DType dtype, const std::byte* terms, int64_t num_terms, int64_t count, std::byte* sum) override;
  Result<ConstByteSpan> on_host(const View& tensor) override { return ConstByteSpan(bytes_of(tensor)); }
  void write(ByteSpan to, ConstByteSpan from_host) override;

 private:
  Communicator& end_;
};

}  // namespace colossus
