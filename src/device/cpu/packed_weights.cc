#include "device/cpu/packed_weights.h"

#include "device/cpu/gemm/gemm.h"

namespace colossus {

int64_t packed_weight_bytes(const WeightPacking& packing) {
  return packing.count * packed_bytes(packing.k, packing.n, packing.dtype);
}

Result<std::shared_ptr<PackedWeight>> PackedWeights::get(const std::shared_ptr<CpuMemory>& source, const View& weight,
                                                         const WeightPacking& packing) {
  std::weak_ptr<PackedWeight>& entry =
      by_key_[{weight.data, packing.k, packing.n, packing.count, packing.transposed, packing.dtype}];
  if (auto packed = entry.lock()) return packed;
  ASSIGN_OR_RETURN(Buffer memory, Buffer::allocate(packed_weight_bytes(packing)));
  auto packed = std::make_shared<PackedWeight>(source, weight, packing, std::move(memory));
  entry = packed;
  return packed;
}

void PackedWeight::renew(ThreadPool& pool) {
  if (packed_version_ == source_->version) return;
  const int64_t matrix_bytes = packing_.k * packing_.n * dtype_bytes(weight_.dtype);
  const int64_t step = packed_bytes(packing_.k, packing_.n, packing_.dtype);
  for (int64_t i = 0; i < packing_.count; ++i) {
    const MatrixRef source{.data = weight_.data + i * matrix_bytes,
                           .ld = packing_.transposed ? packing_.k : packing_.n,
                           .dtype = weight_.dtype,
                           .transposed = packing_.transposed};
    pack_b(source, packing_.k, packing_.n, packing_.dtype, memory_.data() + i * step, pool);
  }
  packed_version_ = source_->version;
}

}  // namespace colossus
