// Ranks of a CPU: a Communicator's end, and loops.
#pragma once

#include "comm/communicator.h"
#include "device/ranks.h"

namespace colossus {

class CpuRanks final : public Ranks {
 public:
  explicit CpuRanks(Communicator& end) : end_(end) {}

  Status all_gather(ConstBytes mine, Bytes all) override { return end_.all_gather(mine, all); }
  Status all_to_all(std::span<const ConstBytes> send, std::span<const Bytes> receive) override {
    return end_.all_to_all(send, receive);
  }
  Status send(ConstBytes bytes, int peer) override { return end_.send(bytes, peer); }
  Status receive(Bytes bytes, int peer) override { return end_.receive(bytes, peer); }
  void copy_rows(Rows to, Rows from, int64_t row_bytes, int64_t num_rows) override;
  void add_in_order(DType dtype, const std::byte* terms, int64_t num_terms, int64_t count, std::byte* sum) override;
  Result<ConstBytes> on_host(const View& tensor) override { return ConstBytes(bytes_of(tensor)); }
  void write(Bytes to, ConstBytes from_host) override;

 private:
  Communicator& end_;
};

}  // namespace colossus
