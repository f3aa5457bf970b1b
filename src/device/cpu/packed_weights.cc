#include "device/cpu/packed_weights.h"

#include <algorithm>

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

std::byte* PackedWeight::packed_matrix(int64_t i) const {
  return memory_.data() + i * packed_bytes(packing_.k, packing_.n, packing_.dtype);
}

void PackedWeight::pack(ThreadPool& pool) {
  const int64_t matrix_bytes = packing_.k * packing_.n * dtype_bytes(weight_.dtype);
  for (int64_t i = 0; i < packing_.count; ++i)
    pack_b(matrix_at(weight_.data + i * matrix_bytes), packing_.k, packing_.n, packing_.dtype, packed_matrix(i), pool);
}

PackedWeight::Chunks PackedWeight::chunks() const {
  const int64_t row_bytes = std::max<int64_t>(1, stored_columns() * dtype_bytes(weight_.dtype));
  const int64_t unit = pack_rows(packing_.transposed);
  const int64_t rows = std::max(unit, source_->stored().chunk_bytes / row_bytes / unit * unit);
  const int64_t per_matrix = (stored_rows() + rows - 1) / rows;
  return {.rows = rows, .per_matrix = per_matrix, .total = packing_.count * per_matrix};
}

Status PackedWeight::pack_chunk(const Chunks& chunks, int64_t chunk, std::vector<std::byte>& scratch) {
  const int64_t row_bytes = stored_columns() * dtype_bytes(weight_.dtype);
  const int64_t matrix = chunk / chunks.per_matrix, first = chunk % chunks.per_matrix * chunks.rows;
  const int64_t count = std::min(chunks.rows, stored_rows() - first);
  const auto num_bytes = static_cast<size_t>(count * row_bytes);
  if (scratch.size() < num_bytes) scratch.resize(num_bytes);
  const int64_t offset = weight_.data - source_->buffer.data() + (matrix * stored_rows() + first) * row_bytes;
  RETURN_IF_ERROR(source_->stored().read(offset, std::span(scratch).first(num_bytes)));
  pack_b_part(matrix_at(scratch.data()), first, count, packing_.k, packing_.n, packing_.dtype, packed_matrix(matrix));
  return ok_status();
}

Status renew(std::span<const std::shared_ptr<PackedWeight>> weights, ThreadPool& pool) {
  struct Reading {
    PackedWeight* weight;
    PackedWeight::Chunks chunks;
    int64_t first_job;
  };
  std::vector<Reading> readings;
  int64_t num_jobs = 0;
  for (const auto& weight : weights) {
    if (weight->is_new()) continue;
    if (weight->is_in_memory()) {
      weight->pack(pool);
      weight->packed_version_ = weight->source_->version;
      continue;
    }
    readings.push_back({weight.get(), weight->chunks(), num_jobs});
    num_jobs += readings.back().chunks.total;
  }
  if (readings.empty()) return ok_status();
  std::vector<std::vector<std::byte>> scratch(static_cast<size_t>(pool.num_threads()));
  RETURN_IF_ERROR(for_each_job(pool, num_jobs, [&](int part, int64_t job) {
    const auto behind = std::ranges::upper_bound(readings, job, {}, &Reading::first_job);
    const Reading& reading = *std::prev(behind);
    return reading.weight->pack_chunk(reading.chunks, job - reading.first_job, scratch[static_cast<size_t>(part)]);
  }));
  for (const Reading& reading : readings) reading.weight->packed_version_ = reading.weight->source_->version;
  return ok_status();
}

}  // namespace colossus
