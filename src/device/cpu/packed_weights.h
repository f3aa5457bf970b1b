// Packed forms of weights, shared by every executable that reads the same memory in the same form, and renewed when the
// memory's version moves on: once per update, not once per microbatch.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <tuple>
#include <vector>

#include "device/cpu/cpu_kernel.h"
#include "device/cpu/cpu_memory.h"
#include "device/cpu/gemm/gemm.h"

namespace colossus {

class PackedWeight {
 public:
  PackedWeight(std::shared_ptr<CpuMemory> source, const View& weight, const WeightPacking& packing, Buffer memory)
      : source_(std::move(source)), weight_(weight), packing_(packing), memory_(std::move(memory)) {}

  const std::byte* data() const { return memory_.data(); }
  int64_t num_bytes() const { return memory_.num_bytes(); }

 private:
  friend Status renew(std::span<const std::shared_ptr<PackedWeight>> weights, ThreadPool& pool);

  bool is_new() const { return packed_version_ == source_->version; }
  bool is_in_memory() const { return !source_->is_stored() || source_->is_filled(); }
  void pack(ThreadPool& pool);
  // Of a weight that is stored elsewhere: rows of the matrices as they are stored, read and packed by one thread, which
  // keeps them in its cache.
  struct Chunks {
    int64_t rows, per_matrix, total;
  };
  Chunks chunks() const;
  Status pack_chunk(const Chunks& chunks, int64_t chunk, std::vector<std::byte>& scratch);
  int64_t stored_rows() const { return packing_.transposed ? packing_.n : packing_.k; }
  int64_t stored_columns() const { return packing_.transposed ? packing_.k : packing_.n; }
  std::byte* packed_matrix(int64_t i) const;
  MatrixRef matrix_at(const std::byte* data) const {
    return {.data = data, .ld = stored_columns(), .dtype = weight_.dtype, .transposed = packing_.transposed};
  }

  std::shared_ptr<CpuMemory> source_;
  View weight_;
  WeightPacking packing_;
  Buffer memory_;
  uint64_t packed_version_ = 0;
};

// Packs those whose weights have changed. Fails where a weight is stored elsewhere and cannot be read.
Status renew(std::span<const std::shared_ptr<PackedWeight>> weights, ThreadPool& pool);

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
