#include "ops/grouped_matmul/grouped_matmul.h"

#include "device/cuda/cuda_kernel.h"
#include "device/cuda/tile_product.h"
#include "device/cuda/weight.h"
#include "ops/grouped_matmul/group_tiles_cuda.h"
#include "ops/grouped_matmul/plain_tile_cuda.h"

namespace colossus {
namespace {

using gpu::Along;
using gpu::TileOrder;

template <class T>
struct GroupedProductArguments {
  const T *a, *b;
  const int32_t* offsets;
  const T* addend;  // null: none
  T* y;
  int num_rows, num_experts, depth, width;
  TileOrder order;
};

__device__ __forceinline__ int at_most(int x, int limit) { return x < limit ? x : limit; }

// A block for each tile of y that the rows could make, whoever they belong to; those that they do not make end at once
// (at most E + 1 rows of tiles). Floor: 2 S K N operations, and 2 (S K + E K N + S N) bytes; each weight is read again
// for every 16 tiles of an expert's rows.
template <bool kTransposeB>
__global__ void __launch_bounds__(gpu::kTileThreads, 1) product_kernel(GroupedProductArguments<BFloat16> call) {
  const TileOrder::Place place = call.order.place(static_cast<int>(blockIdx.x));
  const GroupTile tile = find_group_tile(call.offsets, call.num_experts, call.num_rows, place.row, gpu::kTileRows);
  if (tile.num_rows == 0) return;
  const bool is_none = tile.expert == call.num_experts;
  const int column = place.column * gpu::kTileColumns;
  const int columns = at_most(call.width - column, gpu::kTileColumns);
  const int64_t depth = call.depth, width = call.width, first_row = tile.first_row;
  const BFloat16* b = call.b + (is_none ? 0 : tile.expert * depth * width);
  gpu::TileSums sums;
  gpu::multiply_tile<Along::kDepth, kTransposeB ? Along::kDepth : Along::kSize>(
      {call.a + first_row * depth, depth, tile.num_rows},
      {b + column * (kTransposeB ? depth : 1), kTransposeB ? depth : width, columns}, is_none ? 0 : call.depth, sums);
  const int64_t at = first_row * width + column;
  gpu::store_tile<BFloat16>(sums,
                            {call.y + at, call.addend ? call.addend + at : nullptr, width, tile.num_rows, columns});
}

template <class T, bool kTransposeB>
__global__ void __launch_bounds__(kPlainThreads) plain_product_kernel(GroupedProductArguments<T> call) {
  const TileOrder::Place place = call.order.place(static_cast<int>(blockIdx.x));
  const GroupTile tile = find_group_tile(call.offsets, call.num_experts, call.num_rows, place.row, kPlainTile);
  if (tile.num_rows == 0) return;
  const bool is_none = tile.expert == call.num_experts;
  const int column = place.column * kPlainTile;
  const int64_t depth = call.depth, width = call.width, first_row = tile.first_row;
  const T* b = call.b + (is_none ? 0 : tile.expert * depth * width);
  const int64_t size_stride = kTransposeB ? depth : 1, at = first_row * width + column;
  multiply_plain_tile<T, T>(
      {call.a + first_row * depth, depth, 1, tile.num_rows},
      {b + column * size_stride, size_stride, kTransposeB ? 1 : width, at_most(call.width - column, kPlainTile)},
      is_none ? 0 : call.depth, call.addend ? call.addend + at : nullptr, call.y + at, width);
}

template <class T>
struct GroupedGradArguments {
  const T *a, *dy;
  const int32_t* offsets;
  float* db;
  int num_rows, num_columns;  // of an expert's matrix
  TileOrder order;
};

// A block for each tile of db_e (blockIdx.y); the depth, an expert's rows, is what it finds. Floor: 2 S K N operations,
// 8 E K N + 2 S (K + N) bytes.
__global__ void __launch_bounds__(gpu::kTileThreads, 1) grad_kernel(GroupedGradArguments<BFloat16> call) {
  const int begin = call.offsets[blockIdx.y], depth = call.offsets[blockIdx.y + 1] - begin;
  if (depth <= 0) return;
  const TileOrder::Place place = call.order.place(static_cast<int>(blockIdx.x));
  const int row = place.row * gpu::kTileRows, column = place.column * gpu::kTileColumns;
  const int64_t num_rows = call.num_rows, num_columns = call.num_columns;
  const int rows = at_most(call.num_rows - row, gpu::kTileRows);
  const int columns = at_most(call.num_columns - column, gpu::kTileColumns);
  gpu::TileSums sums;
  gpu::multiply_tile<Along::kSize, Along::kSize>({call.a + begin * num_rows + row, num_rows, rows},
                                                 {call.dy + begin * num_columns + column, num_columns, columns}, depth,
                                                 sums);
  float* db = call.db + (blockIdx.y * num_rows + row) * num_columns + column;
  gpu::store_tile<float>(sums, {db, db, num_columns, rows, columns});
}

template <class T>
__global__ void __launch_bounds__(kPlainThreads) plain_grad_kernel(GroupedGradArguments<T> call) {
  const int begin = call.offsets[blockIdx.y], depth = call.offsets[blockIdx.y + 1] - begin;
  if (depth <= 0) return;
  const TileOrder::Place place = call.order.place(static_cast<int>(blockIdx.x));
  const int row = place.row * kPlainTile, column = place.column * kPlainTile;
  const int64_t num_rows = call.num_rows, num_columns = call.num_columns;
  float* db = call.db + (blockIdx.y * num_rows + row) * num_columns + column;
  multiply_plain_tile<T, float>(
      {call.a + begin * num_rows + row, 1, num_rows, at_most(call.num_rows - row, kPlainTile)},
      {call.dy + begin * num_columns + column, 1, num_columns, at_most(call.num_columns - column, kPlainTile)}, depth,
      db, db, num_columns);
}

// Whether rows of both lengths begin at multiples of 16 bytes.
bool fits_tensor_cores(DType dtype, int64_t k, int64_t n) { return dtype == DType::kBF16 && k % 8 == 0 && n % 8 == 0; }

// Calls f with a value of the type that the operands have.
template <class F>
void with_type(DType dtype, F&& f) {
  CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "fp64 programs run on the CPU's reference kernels");
  dtype == DType::kF32 ? f(float{}) : f(BFloat16{});
}

TileOrder tiles(int64_t row_tiles, int64_t columns, int64_t tile_columns) {
  return {static_cast<int>(row_tiles), static_cast<int>(gpu::divide_up(columns, tile_columns))};
}

}  // namespace

template <>
Status prepare_cuda(const GroupedMatmul&, CudaPrepare& prepare) {
  prepare.workspace_bytes = prepare_weight(prepare, GroupedMatmul::kB, prepare.shapes.input(GroupedMatmul::kA).dtype);
  return ok_status();
}

template <>
void run_cuda(const GroupedMatmul& op, const CudaCall& call) {
  using G = GroupedMatmul;
  const View &a = call.input(G::kA), &b = call.input(G::kB), &y = call.output(G::kY);
  const int64_t num_rows = a.shape[0], num_experts = b.shape[0], depth = a.shape[1], width = y.shape[1];
  const std::byte* weights = weight_as(call, G::kB, a.dtype, call.workspace);
  const auto run = [&]<class T>(void (*kernel)(GroupedProductArguments<T>), int tile_rows, int tile_columns,
                                const gpu::Launch& block) {
    const GroupedProductArguments<T> arguments{
        .a = a.as<T>(),
        .b = reinterpret_cast<const T*>(weights),
        .offsets = call.input(G::kOffsets).as<int32_t>(),
        .addend = call.has_input(G::kAddend) ? call.input(G::kAddend).as<T>() : nullptr,
        .y = y.as<T>(),
        .num_rows = static_cast<int>(num_rows),
        .num_experts = static_cast<int>(num_experts),
        .depth = static_cast<int>(depth),
        .width = static_cast<int>(width),
        .order = tiles(most_group_tiles(num_rows, num_experts, tile_rows), width, tile_columns),
    };
    gpu::Launch launch = block;
    launch.grid = {arguments.order.num_tiles()};
    gpu::launch(launch, kernel, arguments);
  };
  if (fits_tensor_cores(a.dtype, depth, width))
    return run(op.transpose_b ? product_kernel<true> : product_kernel<false>, gpu::kTileRows, gpu::kTileColumns,
               {.stream = call.stream, .block = {gpu::kTileThreads}, .shared_bytes = gpu::kTileSharedBytes});
  with_type(a.dtype, [&]<class T>(T) {
    run(op.transpose_b ? plain_product_kernel<T, true> : plain_product_kernel<T, false>, kPlainTile, kPlainTile,
        {.stream = call.stream, .block = {kPlainThreads}});
  });
}

template <>
Status prepare_cuda(const GroupedMatmulGradWeight&, CudaPrepare&) {
  return ok_status();
}

template <>
void run_cuda(const GroupedMatmulGradWeight&, const CudaCall& call) {
  using G = GroupedMatmulGradWeight;
  const View &a = call.input(G::kA), &dy = call.input(G::kDy), &db = call.input(G::kDb);
  const int64_t rows = a.shape[1], columns = dy.shape[1];
  const auto run = [&]<class T>(void (*kernel)(GroupedGradArguments<T>), int tile_rows, int tile_columns,
                                const gpu::Launch& block) {
    const GroupedGradArguments<T> arguments{
        .a = a.as<T>(),
        .dy = dy.as<T>(),
        .offsets = call.input(G::kOffsets).as<int32_t>(),
        .db = db.as<float>(),
        .num_rows = static_cast<int>(rows),
        .num_columns = static_cast<int>(columns),
        .order = tiles(gpu::divide_up(rows, tile_rows), columns, tile_columns),
    };
    gpu::Launch launch = block;
    launch.grid = {arguments.order.num_tiles(), static_cast<unsigned>(db.shape[0])};
    gpu::launch(launch, kernel, arguments);
  };
  if (fits_tensor_cores(a.dtype, rows, columns))
    return run(grad_kernel, gpu::kTileRows, gpu::kTileColumns,
               {.stream = call.stream, .block = {gpu::kTileThreads}, .shared_bytes = gpu::kTileSharedBytes});
  with_type(a.dtype, [&]<class T>(T) {
    run(plain_grad_kernel<T>, kPlainTile, kPlainTile, {.stream = call.stream, .block = {kPlainThreads}});
  });
}

}  // namespace colossus
