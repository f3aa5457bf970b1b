// Packed forms of weights, shared by every executable that reads the same memory in the same form, and renewed when the
// memory's version moves on: once per update, not once per microbatch.
#pragma once

#include <map>
#include <memory>
#include <tuple>

#include "base/thread_pool.h"
#include "device/cpu/cpu_kernel.h"
#include "device/device.h"
#include "tensor/buffer.h"

namespace colossus {

class CpuMemory final : public DeviceMemory {
 public:
  explicit CpuMemory(Buffer memory) : buffer(std::move(memory)) {}
  int64_t num_bytes() const override { return buffer.num_bytes(); }

  Buffer buffer;
  uint64_t version = 1;  // moves on when the contents change
};

class PackedWeight {
 public:
  PackedWeight(std::shared_ptr<CpuMemory> source, const View& weight, const WeightPacking& packing, Buffer memory)
      : source_(std::move(source)), weight_(weight), packing_(packing), memory_(std::move(memory)) {}

  void renew(ThreadPool& pool);  // does nothing when the weight has not changed
  const std::byte* data() const { return memory_.data(); }
  int64_t num_bytes() const { return memory_.num_bytes(); }

 private:
  std::shared_ptr<CpuMemory> source_;
  View weight_;
  WeightPacking packing_;
  Buffer memory_;
  uint64_t packed_version_ = 0;
};

int64_t packed_weight_bytes(const WeightPacking& packing);

class PackedWeights {
 public:
  Result<std::shared_ptr<PackedWeight>> get(const std::shared_ptr<CpuMemory>& source, const View& weight,
                                            const WeightPacking& packing);

 private:
  using Key = std::tuple<const std::byte*, int64_t, int64_t, int64_t, bool, DType>;
  std::map<Key, std::weak_ptr<PackedWeight>> by_key_;
};

}  // namespace colossus
