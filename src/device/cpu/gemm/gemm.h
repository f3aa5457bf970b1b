// Matrix multiplication on the CPU, for every operation that needs one.
//
//   C (M, N) = activation(alpha * A (M, K) B (K, N) + bias) + addend        or C += the same
//
// Operands are fp32 or bf16; products are summed in fp32. Where B is bf16 (or `compute` says so), A is rounded to bf16
// too. Each element of C is one sum along k in order: its bits depend neither on the number of threads, nor on how C is
// cut, nor on its other rows and columns; they do depend on the instruction set. Nothing here allocates or locks.
//
// Weights are packed once (pack_b) and used by many calls; an unpacked B is packed block by block on the way.
// The tile and blocking follow Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "device/cpu/gemm/gemm_kernels.h"
#include "tensor/dtype.h"

namespace colossus {

// A matrix in memory, row-major. `transposed`: what is stored is the transpose of the operand.
struct MatrixRef {
  const void* data = nullptr;
  int64_t ld = 0;  // elements between rows as stored
  DType dtype = DType::kF32;
  bool transposed = false;
};

// B (K, N) as the kernels read it: panels of 32 columns, each contiguous along k; bf16 in pairs of k. The layout is the
// same for every instruction set. `data` is aligned to 64 bytes.
struct PackedMatrix {
  const std::byte* data = nullptr;
  int64_t k = 0;
  int64_t n = 0;
  DType dtype = DType::kF32;
};

int64_t packed_bytes(int64_t k, int64_t n, DType dtype);

// Packs `b`, an operand (K, N), to fp32 or bf16 (rounding to nearest even) into packed_bytes(k, n, dtype) at `packed`.
void pack_b(const MatrixRef& b, int64_t k, int64_t n, DType dtype, std::byte* packed, ThreadPool& pool);
void pack_b_serial(const MatrixRef& b, int64_t k, int64_t n, DType dtype, std::byte* packed);

// The part of the packed form that comes of rows [first, first + count) of what is stored, which `rows` has; on this
// thread. Both numbers are multiples of pack_rows(), but for the end. Parts may be packed side by side.
int64_t pack_rows(bool transposed);
void pack_b_part(const MatrixRef& rows, int64_t first, int64_t count, int64_t k, int64_t n, DType dtype,
                 std::byte* packed);

struct GemmArgs {
  int64_t m = 0;  // any of the three may be 0; with k = 0 the product is zero and the rest is applied
  int64_t n = 0;
  int64_t k = 0;
  MatrixRef a = {};
  PackedMatrix packed_b = {};   // B, if its data is set; or else
  MatrixRef b = {};             // B in rows, with
  DType compute = DType::kF32;  // kBF16: both operands are rounded to bf16

  void* c = nullptr;
  int64_t ldc = 0;
  DType c_dtype = DType::kF32;  // fp32 or bf16
  bool accumulate = false;      // C += ; only for fp32 C

  float alpha = 1.0F;
  const float* bias = nullptr;  // (N), or null
  GemmActivation activation = GemmActivation::kNone;
  const void* addend = nullptr;  // (M, N) of C's type, or null; may be C itself
  int64_t ld_addend = 0;
};

// Scratch memory for one thread, aligned to 64 bytes; the same for every problem.
int64_t gemm_workspace_bytes();

// `workspace`: gemm_workspace_bytes() for each thread of the pool, one after the other.
void gemm(const GemmArgs& args, ThreadPool& pool, std::byte* workspace);

// On the calling thread alone, so also inside a part of the pool's work.
void gemm_serial(const GemmArgs& args, std::byte* workspace);

// Independent problems of any sizes, spread over the pool by their number of multiplications.
void gemm_grouped(std::span<const GemmArgs> problems, ThreadPool& pool, std::byte* workspace);

}  // namespace colossus
