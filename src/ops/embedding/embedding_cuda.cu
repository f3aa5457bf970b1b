#include "device/cuda/array_kernels.h"
#include "device/cuda/cuda_kernel.h"
#include "ops/embedding/embedding.h"

namespace colossus {
namespace {

// Row 0 stands in for rows that are not there.
__device__ __forceinline__ int64_t row_in(int64_t num_rows, int64_t row) {
  return row >= 0 && row < num_rows ? row : 0;
}

// Tables are fp32 or, as they may be stored, bf16.
struct Table {
  const std::byte* data = nullptr;
  int64_t num_rows = 0;
  bool is_bf16 = false;
};
Table table_of(const View& view) {
  return {.data = view.data, .num_rows = view.shape[0], .is_bf16 = view.dtype == DType::kBF16};
}

template <int kSize>
__device__ __forceinline__ void load_row(const Table& table, int64_t at, float (&to)[kSize]) {
  if (table.is_bf16)
    gpu::load_floats(reinterpret_cast<const BFloat16*>(table.data) + at, to);
  else
    gpu::load_parameters(reinterpret_cast<const float*>(table.data) + at, to);
}

struct Tables {
  Table tokens, positions;           // the second may be absent
  const int32_t* rows_of_positions;  // may be null: the column
};

// A block for each token: reads its row, writes it once.
template <class T, int kSize>
__global__ void embedding_kernel(Tables tables, const int32_t* tokens, T* y, int64_t num_tokens, int64_t width,
                                 float scale) {
  const int64_t token = blockIdx.x;
  const int64_t row = row_in(tables.tokens.num_rows, tokens[token]) * width;
  int64_t position_row = 0;
  if (tables.positions.data) {
    const int64_t position = tables.rows_of_positions ? tables.rows_of_positions[token] : token % num_tokens;
    position_row = row_in(tables.positions.num_rows, position) * width;
  }
  for (int64_t at = static_cast<int64_t>(threadIdx.x) * kSize; at < width;
       at += static_cast<int64_t>(blockDim.x) * kSize) {
    float values[kSize];
    load_row(tables.tokens, row + at, values);
    for (int i = 0; i < kSize; ++i) values[i] *= scale;
    if (tables.positions.data) {
      float positions[kSize];
      load_row(tables.positions, position_row + at, positions);
      for (int i = 0; i < kSize; ++i) values[i] += positions[i];
    }
    gpu::store_floats(values, y + token * width + at);
  }
}

// The gradient of a table: its rows' tokens are found by a stable counting sort (so that the sums have an order without
// floating-point atomics), then summed over segments of at most kSegmentRows, then over segments.
constexpr int kChunkTokens = 1024;
constexpr int kSegmentRows = 64;

// In the workspace. N tokens, V rows of the table.
struct SortedTokens {
  int32_t* starts;  // (V + 1): of each row's tokens in `sorted`; counts at first
  int32_t* next;    // (V): where the next token of a row goes
  int32_t* ranks;   // (N): how many tokens of the same chunk and row are before; the last of a chunk says so by ~rank
  int32_t* sorted;  // (N): tokens by row, then in order
  float* segments;  // (2 ceil(N / kSegmentRows), C)
};

int64_t padded(int64_t bytes) { return gpu::divide_up(bytes, 64) * 64; }

// Of both tables, one after the other.
int64_t sorted_tokens_bytes(int64_t num_tokens, int64_t num_rows, int64_t width) {
  return padded((num_rows + 1) * 4) + padded(num_rows * 4) + 2 * padded(num_tokens * 4) +
         2 * gpu::divide_up(num_tokens, kSegmentRows) * width * 4;
}
SortedTokens sorted_tokens_in(std::byte* workspace, int64_t num_tokens, int64_t num_rows) {
  SortedTokens sorted{};
  const auto take = [&](int64_t count) {
    auto* place = reinterpret_cast<int32_t*>(workspace);
    workspace += padded(count * 4);
    return place;
  };
  sorted.starts = take(num_rows + 1);
  sorted.next = take(num_rows);
  sorted.ranks = take(num_tokens);
  sorted.sorted = take(num_tokens);
  sorted.segments = reinterpret_cast<float*>(workspace);
  return sorted;
}

// A block for each chunk: every token looks at all others of its chunk.
__global__ void rank_kernel(const int32_t* rows, int32_t* ranks, int32_t* counts, int64_t num_tokens,
                            int64_t num_rows) {
  __shared__ int32_t chunk[kChunkTokens];
  const int64_t token = static_cast<int64_t>(blockIdx.x) * kChunkTokens + threadIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  const int row = token < num_tokens ? static_cast<int>(row_in(num_rows, rows[token])) : -1;
  chunk[thread] = row;
  __syncthreads();
  if (row < 0) return;
  int before = 0, after = 0;
  for (int other = 0; other < kChunkTokens; ++other) {
    const int same = chunk[other] == row ? 1 : 0;
    before += other < thread ? same : 0;
    after += other > thread ? same : 0;
  }
  ranks[token] = after == 0 ? ~before : before;
  if (after == 0) atomicAdd(counts + row, before + 1);
}

// One block: counts become starts.
__global__ void scan_kernel(int32_t* starts, int32_t* next, int64_t num_rows) {
  __shared__ int32_t sums[kChunkTokens];
  const int64_t share = gpu::divide_up(num_rows, kChunkTokens), first = threadIdx.x * share;
  const int64_t last = first + share < num_rows ? first + share : num_rows;
  int32_t sum = 0;
  for (int64_t row = first; row < last; ++row) sum += starts[row];
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (unsigned distance = 1; distance < kChunkTokens; distance *= 2) {
    const int32_t before = threadIdx.x >= distance ? sums[threadIdx.x - distance] : 0;
    __syncthreads();
    sums[threadIdx.x] += before;
    __syncthreads();
  }
  int32_t start = sums[threadIdx.x] - sum;
  for (int64_t row = first; row < last; ++row) {
    const int32_t count = starts[row];
    starts[row] = next[row] = start;
    start += count;
  }
  if (threadIdx.x == kChunkTokens - 1) starts[num_rows] = sums[kChunkTokens - 1];
}

// One block, chunk after chunk: tokens go behind those of their row that came before.
__global__ void place_kernel(const int32_t* rows, const int32_t* ranks, int32_t* next, int32_t* sorted,
                             int64_t num_tokens, int64_t num_rows) {
  for (int64_t begin = 0; begin < num_tokens; begin += kChunkTokens) {
    const int64_t token = begin + threadIdx.x, row = token < num_tokens ? row_in(num_rows, rows[token]) : -1;
    const int32_t rank = row >= 0 ? ranks[token] : 0, before = rank < 0 ? ~rank : rank;
    const int32_t place = row >= 0 ? next[row] + before : 0;
    if (row >= 0) sorted[place] = static_cast<int32_t>(token);
    __syncthreads();
    if (rank < 0) next[row] = place + 1;
    __syncthreads();
  }
}

// A row's tokens as a block that stands at one of them sees them.
struct Run {
  int64_t row, start, end;
};
__device__ __forceinline__ Run run_at(const SortedTokens& s, const int32_t* rows, int64_t place, int64_t num_rows) {
  const int64_t row = row_in(num_rows, rows[s.sorted[place]]);
  return {row, s.starts[row], s.starts[row + 1]};
}
// Two segments at most begin among kSegmentRows places: the first of a run, and a later one of the run before.
__device__ __forceinline__ float* segment_at(const SortedTokens& s, const Run& run, int64_t place, int64_t width) {
  return s.segments + (2 * (place / kSegmentRows) + (place == run.start ? 1 : 0)) * width;
}

// A block for each place; those where no segment begins have nothing to do.
template <class T, int kSize>
__global__ void sum_segments_kernel(SortedTokens s, const int32_t* rows, const T* dy, float* table, int64_t num_rows,
                                    int64_t width, float scale) {
  const int64_t place = blockIdx.x;
  const Run run = run_at(s, rows, place, num_rows);
  if ((place - run.start) % kSegmentRows != 0) return;
  const int64_t last = place + kSegmentRows < run.end ? place + kSegmentRows : run.end;
  const bool whole = run.end - run.start <= kSegmentRows;
  float* into = whole ? table + run.row * width : segment_at(s, run, place, width);
  for (int64_t at = static_cast<int64_t>(threadIdx.x) * kSize; at < width;
       at += static_cast<int64_t>(blockDim.x) * kSize) {
    float sums[kSize] = {};
#pragma unroll 4
    for (int64_t i = place; i < last; ++i) {
      float values[kSize];
      gpu::load_floats(dy + s.sorted[i] * width + at, values);
      for (int j = 0; j < kSize; ++j) sums[j] += values[j];
    }
    if (whole) {
      float before[kSize];
      gpu::load_parameters(into + at, before);
      for (int j = 0; j < kSize; ++j) sums[j] = before[j] + scale * sums[j];
    }
    gpu::store_parameters(sums, into + at);
  }
}

// A block for each place; those where no run of several segments begins have nothing to do.
__global__ void add_segments_kernel(SortedTokens s, const int32_t* rows, float* table, int64_t num_rows, int64_t width,
                                    float scale) {
  const int64_t place = blockIdx.x;
  const Run run = run_at(s, rows, place, num_rows);
  if (place != run.start || run.end - run.start <= kSegmentRows) return;
  for (int64_t at = threadIdx.x; at < width; at += blockDim.x) {
    float sum = 0;
    for (int64_t i = run.start; i < run.end; i += kSegmentRows) sum += segment_at(s, run, i, width)[at];
    table[run.row * width + at] += scale * sum;
  }
}

// Where positions are columns: a thread for each element of the table, samples in order.
template <class T>
__global__ void column_positions_kernel(const T* dy, float* table, int64_t batch, int64_t tokens, int64_t table_rows,
                                        int64_t width) {
  const int64_t column = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x, row = blockIdx.x;
  if (column >= width || row >= table_rows) return;
  float sum = 0;
  for (int64_t b = 0; b < batch; ++b) sum += gpu::float_of(dy[(b * tokens + row) * width + column]);
  table[row * width + column] += sum;
}

// table[rows[i]] += scale * dy[i]
void add_rows(const CudaCall& call, const View& dy, const int32_t* rows, const View& table, float scale) {
  const int64_t num_tokens = dy.shape.num_rows(), width = dy.shape.row_size(), num_rows = table.shape[0];
  const SortedTokens s = sorted_tokens_in(call.workspace, num_tokens, num_rows);
  const auto chunks = static_cast<unsigned>(gpu::divide_up(num_tokens, kChunkTokens));
  gpu::set_zero(call.stream, reinterpret_cast<std::byte*>(s.starts), num_rows * 4);
  gpu::launch({.stream = call.stream, .grid = {chunks}, .block = {kChunkTokens}}, rank_kernel, rows, s.ranks, s.starts,
              num_tokens, num_rows);
  gpu::launch({.stream = call.stream, .block = {kChunkTokens}}, scan_kernel, s.starts, s.next, num_rows);
  gpu::launch({.stream = call.stream, .block = {kChunkTokens}}, place_kernel, rows, s.ranks, s.next, s.sorted,
              num_tokens, num_rows);
  gpu::with_elements(dy.dtype, width, [&]<class T, int kSize>(gpu::Elements<T, kSize>) {
    const gpu::Launch launch{.stream = call.stream,
                             .grid = {static_cast<unsigned>(num_tokens)},
                             .block = {gpu::threads_for_row(width, kSize)}};
    gpu::launch(launch, sum_segments_kernel<T, kSize>, s, rows, dy.as<T>(), table.as<float>(), num_rows, width, scale);
    if (num_tokens > kSegmentRows)
      gpu::launch(launch, add_segments_kernel, s, rows, table.as<float>(), num_rows, width, scale);
  });
}

}  // namespace

template <>
Status prepare_cuda(const Embedding&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const Embedding& op, const CudaCall& call) {
  using E = Embedding;
  const View &table = call.input(E::kTable), &tokens = call.input(E::kTokens), &y = call.output(E::kY);
  Tables tables{.tokens = table_of(table)};
  if (call.has_input(E::kPositionTable)) tables.positions = table_of(call.input(E::kPositionTable));
  if (call.has_input(E::kPositions)) tables.rows_of_positions = call.input(E::kPositions).as<int32_t>();
  const int64_t width = table.shape[1];
  gpu::with_elements(y.dtype, width, [&]<class T, int kSize>(gpu::Elements<T, kSize>) {
    gpu::launch({.stream = call.stream,
                 .grid = {static_cast<unsigned>(tokens.num_elements())},
                 .block = {gpu::threads_for_row(width, kSize)}},
                embedding_kernel<T, kSize>, tables, tokens.as<int32_t>(), y.as<T>(), tokens.shape[1], width,
                static_cast<float>(op.scale));
  });
}

template <>
Status prepare_cuda(const EmbeddingGrad&, CudaPrepare& prepare) {
  using E = EmbeddingGrad;
  const Shape& dy = prepare.shapes.shape(E::kDy);
  prepare.workspace_bytes = sorted_tokens_bytes(dy.num_rows(), prepare.shapes.shape(E::kDtable)[0], dy.row_size());
  if (prepare.shapes.has_input(E::kDpositionTable) && prepare.shapes.has_input(E::kPositions)) {
    const int64_t rows = prepare.shapes.shape(E::kDpositionTable)[0];
    prepare.workspace_bytes =
        std::max(prepare.workspace_bytes, sorted_tokens_bytes(dy.num_rows(), rows, dy.row_size()));
  }
  return ok_status();
}

template <>
void run_cuda(const EmbeddingGrad& op, const CudaCall& call) {
  using E = EmbeddingGrad;
  const View& dy = call.input(E::kDy);
  add_rows(call, dy, call.input(E::kTokens).as<int32_t>(), call.input(E::kDtable), static_cast<float>(op.scale));
  if (!call.has_input(E::kDpositionTable)) return;
  const View& table = call.input(E::kDpositionTable);
  if (call.has_input(E::kPositions)) return add_rows(call, dy, call.input(E::kPositions).as<int32_t>(), table, 1.0F);
  const int64_t batch = dy.shape[0], tokens = dy.shape[1], width = dy.shape[2];
  gpu::with_type(dy.dtype, [&]<class T>(T*) {
    const gpu::Launch launch{
        .stream = call.stream,
        .grid = {static_cast<unsigned>(tokens), static_cast<unsigned>(gpu::divide_up(width, gpu::kArrayThreads))},
        .block = {gpu::kArrayThreads}};
    gpu::launch(launch, column_positions_kernel<T>, dy.as<T>(), table.as<float>(), batch, tokens, table.shape[0],
                width);
  });
}

}  // namespace colossus
