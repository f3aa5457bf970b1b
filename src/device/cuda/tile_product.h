// A tile of a matrix product by one block: bf16 operands in, fp32 sums in registers, by the tensor cores. Where the
// operands lie is the caller's, so that products over groups, batches or parts of a matrix share the loop.
//
// Tiles of 128 x 256 are made by 8 warps, 64 x 64 each: for a step of 16 in depth a warp reads 4 KiB of shared memory
// for 32 instructions of the tensor cores, the copies write 12 KiB for all of them, and so shared memory stays behind
// the tensor cores (350 cycles to 410, at the 2500 operations a cycle that mma.sync has been seen to do on Hopper). The
// sums take 128 registers a thread: one block fits on a multiprocessor, with 192 KiB of operands, three slices under
// way.
#pragma once

#include "device/cuda/row_kernels.h"

namespace colossus::gpu {

inline constexpr int kTileRows = 128, kTileColumns = 256, kTileDepth = 64;
inline constexpr int kTileThreads = 256, kTileStages = 4;
inline constexpr int kTileLineBytes = kTileDepth * 2;
inline constexpr int kTileSliceBytes = (kTileRows + kTileColumns) * kTileLineBytes;
inline constexpr int64_t kTileSharedBytes = kTileStages * kTileSliceBytes;

// Of what runs along memory, element behind element, in a row-major matrix: the depth, over which is summed (a stored
// (rows, depth), b stored (columns, depth)), or a's rows (a stored (depth, rows)) and b's columns (b stored (depth,
// columns)).
enum class Along { kDepth, kSize };

struct TileOperand {
  const BFloat16* data;  // of the tile's first row or column, depth 0; 16-byte aligned
  int64_t stride;        // in elements from line to line of memory; a multiple of 8
  int size;  // rows or columns that there are from `data` on; what lies behind counts as 0. With kSize: of 8
};

// Shared memory has an operand's slice in lines of 64 elements, 128 bytes. With kDepth a line is a row (column); with
// kSize it is one depth of 64 rows (columns), the next 64 of which follow 64 lines on. Pieces of 16 bytes are swapped
// within a line by its number (piece ^ line % 8), so that 8 lines of one piece lie in different banks: neither copies
// nor ldmatrix wait for each other. This is also the 128-byte swizzle of wgmma and of the bulk copy engine.
__device__ __forceinline__ int swizzled(int line, int piece) {
  return line * kTileLineBytes + ((piece ^ (line & 7)) << 4);
}

template <Along kAlong, int kSize>
__device__ __forceinline__ void copy_slice(const TileOperand& operand, int begin, int depth, std::byte* shared) {
  const int piece = static_cast<int>(threadIdx.x) % 8, line = static_cast<int>(threadIdx.x) / 8;
  constexpr int kLines = kTileThreads / 8;
  static_assert(kTileDepth == 2 * kLines);
  std::byte* to = shared + swizzled(line, piece);
  if constexpr (kAlong == Along::kDepth) {
    const BFloat16* from = operand.data + line * operand.stride + begin + piece * 8;
    const bool is_deep = begin + piece * 8 < depth;
#pragma unroll
    for (int i = 0; i < kSize / kLines; ++i) {
      const bool there = is_deep && line + i * kLines < operand.size;
      copy_async_16(to + i * kLines * kTileLineBytes, there ? from + i * kLines * operand.stride : operand.data, there);
    }
  } else {
    const BFloat16* from = operand.data + (begin + line) * operand.stride + piece * 8;
#pragma unroll
    for (int i = 0; i < kSize / kLines; ++i) {
      const int at = i % 2 * kLines, panel = i / 2 * kTileDepth;
      const bool there = begin + line + at < depth && panel + piece * 8 < operand.size;
      copy_async_16(to + i * kLines * kTileLineBytes, there ? from + at * operand.stride + panel : operand.data, there);
    }
  }
}

// Where a lane reads the operands of its warp's multiplications, 16 rows (columns) by 16 depths each. Those of a and of
// b differ in which of the four 8 x 8 matrices comes second: the one further down, or the one deeper.
template <Along kAlong, bool kIsA>
class FragmentReader {
 public:
  __device__ __forceinline__ explicit FragmentReader(int origin) {
    const int matrix = lane() / 8, line = lane() % 8;
    const int further = kIsA ? matrix % 2 : matrix / 2, deeper = kIsA ? matrix / 2 : matrix % 2;
    const int line_half = kAlong == Along::kDepth ? further : deeper;
    const int piece_half = kAlong == Along::kDepth ? deeper : further;
    line_bytes_ = (origin + line_half * 8 + line) * kTileLineBytes;
    piece_bytes_ = (piece_half ^ line) << 4;
  }
  // Of the `i`th 16 of the warp's 64, and the `k`th 16 of the slice's depth.
  __device__ __forceinline__ void load(const std::byte* slice, int i, int k, unsigned (&fragment)[4]) const {
    const int line = kAlong == Along::kDepth ? i : k, piece = kAlong == Along::kDepth ? k : i;
    load_matrices<kAlong == Along::kSize>(
        fragment, slice + line_bytes_ + line * 16 * kTileLineBytes + (piece_bytes_ ^ (piece << 5)));
  }

 private:
  int line_bytes_, piece_bytes_;
};

// A thread's share of the sums of its warp's 64 x 64, as multiply_16x8x16 has them.
struct TileSums {
  float of[4][8][4];
};
__device__ __forceinline__ int tile_warp_row() { return static_cast<int>(threadIdx.x) / 32 % 2 * 64; }
__device__ __forceinline__ int tile_warp_column() { return static_cast<int>(threadIdx.x) / 64 * 64; }

struct TileFragments {
  unsigned a[4][4], b[4][4];
};
__device__ __forceinline__ void multiply_fragments(const TileFragments& fragments, TileSums& sums) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const unsigned b[2] = {fragments.b[j / 2][j % 2 * 2], fragments.b[j / 2][j % 2 * 2 + 1]};
      multiply_16x8x16(sums.of[i][j], fragments.a[i], b);
    }
}

// sums = a b over `depth` (any, 0 too; of 8 where an operand lies along it). All threads of the block; dynamic shared
// memory of kTileSharedBytes. A warp reads the operands of its next 16 depths before it multiplies; a slice's place is
// filled anew behind the barrier at which all have read the slice's last.
template <Along kA, Along kB>
__device__ __forceinline__ void multiply_tile(const TileOperand& a, const TileOperand& b, int depth, TileSums& sums) {
  auto* shared = dynamic_shared<std::byte>();
  const int num_slices = (depth + kTileDepth - 1) / kTileDepth;
  const auto copy = [&](int slice, int stage) {
    std::byte* to = shared + stage * kTileSliceBytes;
    if (slice < num_slices) {
      copy_slice<kA, kTileRows>(a, slice * kTileDepth, depth, to);
      copy_slice<kB, kTileColumns>(b, slice * kTileDepth, depth, to + kTileRows * kTileLineBytes);
    }
    close_copy_group();
  };
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j)
      for (int k = 0; k < 4; ++k) sums.of[i][j][k] = 0;
  if (num_slices == 0) return;
  // A warp beyond the operands copies for the others.
  const bool multiplies = tile_warp_row() < a.size && tile_warp_column() < b.size;
  const FragmentReader<kA, true> reader_a(tile_warp_row());
  const FragmentReader<kB, false> reader_b(tile_warp_column());
  TileFragments fragments[2];
  const auto load = [&](int stage, int k, TileFragments& to) {
    if (!multiplies) return;
    const std::byte* slice = shared + stage * kTileSliceBytes;
#pragma unroll
    for (int i = 0; i < 4; ++i) reader_a.load(slice, i, k, to.a[i]);
#pragma unroll
    for (int j = 0; j < 4; ++j) reader_b.load(slice + kTileRows * kTileLineBytes, j, k, to.b[j]);
  };
#pragma unroll
  for (int slice = 0; slice < kTileStages - 1; ++slice) copy(slice, slice);
  wait_for_copies<kTileStages - 2>();
  __syncthreads();
  load(0, 0, fragments[0]);
  int stage = 0;
  for (int slice = 0; slice < num_slices; ++slice) {
    const int next = stage + 1 == kTileStages ? 0 : stage + 1;
#pragma unroll
    for (int k = 0; k < kTileDepth / 16; ++k) {
      const bool is_last = k == kTileDepth / 16 - 1;
      if (is_last) {
        wait_for_copies<kTileStages - 2>();
        __syncthreads();
      }
      if (!is_last || slice + 1 < num_slices)
        load(is_last ? next : stage, (k + 1) % (kTileDepth / 16), fragments[(k + 1) % 2]);
      if (k == 0) copy(slice + kTileStages - 1, stage == 0 ? kTileStages - 1 : stage - 1);
      if (multiplies) multiply_fragments(fragments[k % 2], sums);
    }
    stage = next;
  }
}

template <class T>
struct TileResult {
  T* data;          // of the tile's first row and column; may be the addend
  const T* addend;  // null: none
  int64_t stride;   // in elements, of both: a multiple of 16 bytes, as are the columns
  int rows, columns;
};

// data = sums + addend, by whole lines: the sums go through shared memory. What is read is under way kAtOnce times a
// thread before anything is written.
template <class T>
__device__ __forceinline__ void store_tile(const TileSums& sums, const TileResult<T>& result) {
  constexpr int kStride = kTileColumns + 8;  // 8 rows of a warp's pairs in different banks
  static_assert(kTileRows * kStride * 4 <= kTileSharedBytes);
  constexpr int kPack = kPackSize<T>, kAtOnce = 8;
  auto* shared = dynamic_shared<float>();
  wait_for_copies<0>();
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int row = tile_warp_row() + i * 16 + lane() / 4, column = tile_warp_column() + j * 8 + lane() % 4 * 2;
      const float(&of)[4] = sums.of[i][j];
      *reinterpret_cast<Pack<float, 2>*>(shared + row * kStride + column) = {of[0], of[1]};
      *reinterpret_cast<Pack<float, 2>*>(shared + (row + 8) * kStride + column) = {of[2], of[3]};
    }
  __syncthreads();
  constexpr int kPacks = kTileColumns / kPack, kRowsAtOnce = kTileThreads / kPacks;
  const int column = static_cast<int>(threadIdx.x) % kPacks * kPack;
  if (column >= result.columns) return;
  for (int first = static_cast<int>(threadIdx.x) / kPacks; first < result.rows; first += kRowsAtOnce * kAtOnce) {
    Pack<T, kPack> addends[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int row = first + i * kRowsAtOnce;
      if (result.addend && row < result.rows)
        addends[i] = *reinterpret_cast<const Pack<T, kPack>*>(result.addend + row * result.stride + column);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int row = first + i * kRowsAtOnce;
      if (row >= result.rows) break;
      float values[kPack];
      load_parameters(shared + row * kStride + column, values);
      if (result.addend)
        for (int c = 0; c < kPack; ++c) values[c] += float_of(addends[i].elements[c]);
      store_floats(values, result.data + row * result.stride + column);
    }
  }
}

// The order of a matrix's tiles: blocks that run together share operands in the second cache, so they go down 16 tiles
// of rows (2048 rows) before they go on to the next columns.
struct TileOrder {
  int row_tiles, column_tiles;

  struct Place {
    int row, column;
  };
  __device__ __forceinline__ Place place(int block) const {
    constexpr int kHeight = 16;
    const int band = block / (kHeight * column_tiles), within = block % (kHeight * column_tiles);
    const int left = row_tiles - band * kHeight, height = left < kHeight ? left : kHeight;
    return {band * kHeight + within % height, within / height};
  }
  unsigned num_tiles() const { return static_cast<unsigned>(row_tiles) * static_cast<unsigned>(column_tiles); }
};

}  // namespace colossus::gpu
