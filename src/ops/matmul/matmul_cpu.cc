#include <algorithm>
#include <cstring>

#include "device/cpu/cpu_kernel.h"
#include "device/cpu/elements.h"
#include "device/cpu/gemm/gemm.h"
#include "device/cpu/simd.h"
#include "ops/matmul/matmul.h"
#include "ops/matmul/matmul_simd.h"

namespace colossus {
namespace {

GemmActivation gemm_activation(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kNone: return GemmActivation::kNone;
    case ActivationKind::kGeluTanh: return GemmActivation::kGeluTanh;
    case ActivationKind::kSilu: return GemmActivation::kSilu;
    case ActivationKind::kRelu2: return GemmActivation::kRelu2;
  }
  return GemmActivation::kNone;
}

// Sums over rows are taken over blocks of this many, then over the blocks in order.
constexpr int64_t kBlockRows = 128;
constexpr int64_t kGrainColumns = 64;

int64_t num_blocks(int64_t num_rows) { return (num_rows + kBlockRows - 1) / kBlockRows; }

}  // namespace

template <>
void prepare_cpu(const Matmul& op, CpuPrepare& prepare) {
  prepare.workspace_bytes = prepare.num_threads * gemm_workspace_bytes();
  if (op.transpose_a) return;
  const Shape& b = prepare.shapes.shape(Matmul::kB);
  prepare.pack({.input = Matmul::kB,
                .k = op.transpose_b ? b[1] : b[0],
                .n = op.transpose_b ? b[0] : b[1],
                .transposed = op.transpose_b,
                .dtype = prepare.shapes.input(Matmul::kA).dtype});
}

template <>
void run_cpu(const Matmul& op, const CpuCall& call) {
  const View& a = call.input(Matmul::kA);
  const View& b = call.input(Matmul::kB);
  CHECK(a.dtype != DType::kF64, "matmul: fp64 programs run on reference kernels");
  const bool adds = call.has_input(Matmul::kInto);
  const View& y = adds ? call.input(Matmul::kInto) : call.output(Matmul::kY);
  const int64_t depth = op.transpose_a ? a.shape.num_rows() : a.shape.row_size();
  const std::byte* packed = op.transpose_a ? nullptr : call.packed(0);
  const GemmArgs gemm_args = {
      .m = y.shape.num_rows(),
      .n = y.shape.row_size(),
      .k = depth,
      .a = {.data = a.data, .ld = a.shape.row_size(), .dtype = a.dtype, .transposed = op.transpose_a},
      .packed_b = {.data = packed, .k = depth, .n = y.shape.row_size(), .dtype = a.dtype},
      .b = {.data = b.data, .ld = b.shape.row_size(), .dtype = b.dtype, .transposed = op.transpose_b},
      .compute = a.dtype,
      .c = y.data,
      .ldc = y.shape.row_size(),
      .c_dtype = y.dtype,
      .accumulate = adds,
      .alpha = static_cast<float>(op.alpha),
      .bias = call.has_input(Matmul::kBias) ? call.input(Matmul::kBias).as<float>() : nullptr,
      .activation = gemm_activation(op.activation),
      .addend = call.has_input(Matmul::kAddend) ? call.input(Matmul::kAddend).data : nullptr,
      .ld_addend = y.shape.row_size(),
  };
  gemm(gemm_args, call.pool, call.workspace);
}

template <>
void prepare_cpu(const BiasGrad&, CpuPrepare& prepare) {
  const Shape& dy = prepare.shapes.shape(BiasGrad::kDy);
  prepare.workspace_bytes = num_blocks(dy.num_rows()) * dy.row_size() * 4;
}

template <>
void run_cpu(const BiasGrad&, const CpuCall& call) {
  const View& dy = call.input(BiasGrad::kDy);
  CHECK(dy.dtype != DType::kF64, "bias_grad: fp64 programs run on reference kernels");
  const BiasKernels& kernels = select_isa(bias_kernels<Avx512>(), bias_kernels<Avx2>());
  const int64_t num_rows = dy.shape.num_rows();
  const int64_t width = dy.shape.row_size();
  auto* block_sums = reinterpret_cast<float*>(call.workspace);  // (blocks, N)
  call.pool.parallel_for(num_blocks(num_rows), 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      float* sums = block_sums + block * width;
      const int64_t first = block * kBlockRows;
      const int64_t rows = std::min(num_rows - first, kBlockRows);
      std::memset(sums, 0, static_cast<size_t>(width) * 4);
      if (dy.dtype == DType::kBF16)
        kernels.add_rows_bf16(reinterpret_cast<const uint16_t*>(dy.data) + first * width, width, rows, width, sums);
      else
        kernels.add_rows_f32(dy.as<float>() + first * width, width, rows, width, sums);
    }
  });
  float* dbias = call.input(BiasGrad::kDbias).as<float>();
  call.pool.parallel_for(width, kGrainColumns, [&](int64_t begin, int64_t end) {
    kernels.add_rows_f32(block_sums + begin, width, num_blocks(num_rows), end - begin, dbias + begin);
  });
}

template <>
void prepare_cpu(const AddBias&, CpuPrepare&) {}

template <>
void run_cpu(const AddBias&, const CpuCall& call) {
  const View &x = call.input(AddBias::kX), &y = call.output(AddBias::kY);
  const float* bias = call.input(AddBias::kBias).as<float>();
  const BiasKernels& kernels = select_isa(bias_kernels<Avx512>(), bias_kernels<Avx2>());
  const int64_t width = x.shape.row_size();
  for_row_ranges(call.pool, y, [&]<class T>(int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      if constexpr (sizeof(T) == sizeof(float))
        kernels.add_bias_f32(row_elements<T>(x, row), bias, width, row_elements<T>(y, row));
      else
        kernels.add_bias_bf16(row_elements<T>(x, row), bias, width, row_elements<T>(y, row));
    }
  });
}

}  // namespace colossus
