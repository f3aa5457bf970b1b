#include <algorithm>

#include "device/cpu/cpu_kernel.h"
#include "device/cpu/elements.h"
#include "device/cpu/simd.h"
#include "ops/embedding/embedding.h"
#include "ops/embedding/embedding_simd.h"

namespace colossus {
namespace {

// The table's row, or row 0 for one that is not there.
std::byte* row_bytes(const View& table, int64_t row) {
  return table.data + (row >= 0 && row < table.shape[0] ? row : 0) * table.shape[1] * dtype_bytes(table.dtype);
}
float* table_row(const View& table, int64_t row) {
  DCHECK(table.dtype == DType::kF32);
  return reinterpret_cast<float*>(row_bytes(table, row));
}

template <class T>
const EmbeddingKernels<T>& kernels() {
  return select_isa(embedding_kernels<Avx512, T>(), embedding_kernels<Avx2, T>());
}

}  // namespace

template <>
void prepare_cpu(const Embedding&, CpuPrepare&) {}

template <>
void run_cpu(const Embedding& op, const CpuCall& call) {
  using E = Embedding;
  const View &table = call.input(E::kTable), &y = call.output(E::kY);
  const int32_t* tokens = call.input(E::kTokens).as<int32_t>();
  const int32_t* positions = call.has_input(E::kPositions) ? call.input(E::kPositions).as<int32_t>() : nullptr;
  const View* position_table = call.has_input(E::kPositionTable) ? &call.input(E::kPositionTable) : nullptr;
  const int64_t T_tokens = y.shape[1], C = y.shape[2];
  const bool narrow = table.dtype == DType::kBF16;
  const bool narrow_positions = position_table && position_table->dtype == DType::kBF16;
  for_row_ranges(call.pool, y, [&]<class T>(int64_t begin, int64_t end) {
    const auto lookup = kernels<T>().lookup[narrow][narrow_positions];
    for (int64_t i = begin; i < end; ++i) {
      const std::byte* position_row =
          position_table ? row_bytes(*position_table, positions ? positions[i] : i % T_tokens) : nullptr;
      lookup(row_bytes(table, tokens[i]), static_cast<float>(op.scale), position_row, row_elements<T>(y, i), C);
    }
  });
}

template <>
void prepare_cpu(const EmbeddingGrad&, CpuPrepare&) {}

// Each thread takes some of the columns and goes through all tokens in order: no row is shared, only rows of tokens
// that occur are touched, and an element's sum has one order for any number of threads. Sorting the tokens instead
// would let a frequent one (a space, of 65 symbols) fall to a single thread.
template <>
void run_cpu(const EmbeddingGrad& op, const CpuCall& call) {
  using E = EmbeddingGrad;
  constexpr int64_t kColumnGrain = 16;  // a cache line of the table
  const View &dy = call.input(E::kDy), &dtable = call.input(E::kDtable);
  const int32_t* tokens = call.input(E::kTokens).as<int32_t>();
  const int32_t* positions = call.has_input(E::kPositions) ? call.input(E::kPositions).as<int32_t>() : nullptr;
  const View* dpositions = call.has_input(E::kDpositionTable) ? &call.input(E::kDpositionTable) : nullptr;
  const int64_t rows = dy.shape.num_rows(), T_tokens = dy.shape[1], C = dy.shape[2];
  visit_elements(dy.dtype, [&]<class T>() {
    call.pool.parallel_for(C, kColumnGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < rows; ++i) {
        const T* from = elements<T>(dy) + i * C + begin;
        kernels<T>().accumulate(from, static_cast<float>(op.scale), table_row(dtable, tokens[i]) + begin, end - begin);
        if (!dpositions) continue;
        float* row = table_row(*dpositions, positions ? positions[i] : i % T_tokens);
        kernels<T>().accumulate(from, 1, row + begin, end - begin);
      }
    });
  });
}

}  // namespace colossus
