#include <new>

#include "device/cpu/cpu_kernel.h"
#include "device/cpu/gemm/gemm.h"
#include "ops/grouped_matmul/grouped_matmul.h"

namespace colossus {
namespace {

// Workspace: the problems, one for each expert and one for the rows that belong to none; then the threads' scratch.
int64_t problems_bytes(int64_t num_experts) {
  return ((num_experts + 1) * static_cast<int64_t>(sizeof(GemmArgs)) + 63) / 64 * 64;
}

int64_t workspace_bytes(int64_t num_experts, int num_threads) {
  return problems_bytes(num_experts) + num_threads * gemm_workspace_bytes();
}

const std::byte* at_element(const View& x, int64_t element) { return x.data + element * dtype_bytes(x.dtype); }

// offsets (E + 1) ascend from 0 to at most `num_rows`: what the kernels index with is checked, whoever wrote it.
const int32_t* checked_offsets(const View& offsets, int64_t num_rows) {
  const int32_t* values = offsets.as<int32_t>();
  CHECK(values[0] == 0, "grouped_matmul.offsets: must begin with 0");
  for (int64_t e = 0; e + 1 < offsets.num_elements(); ++e)
    CHECK(values[e] <= values[e + 1], "grouped_matmul.offsets: must ascend");
  CHECK(values[offsets.num_elements() - 1] <= num_rows, "grouped_matmul.offsets: must end within the rows of a");
  return values;
}

}  // namespace

template <>
void prepare_cpu(const GroupedMatmul& op, CpuPrepare& prepare) {
  const Shape& b = prepare.shapes.shape(GroupedMatmul::kB);
  prepare.workspace_bytes = workspace_bytes(b[0], prepare.num_threads);
  prepare.pack({.input = GroupedMatmul::kB,
                .k = op.transpose_b ? b[2] : b[1],
                .n = op.transpose_b ? b[1] : b[2],
                .count = b[0],
                .transposed = op.transpose_b,
                .dtype = prepare.shapes.input(GroupedMatmul::kA).dtype});
}

template <>
void run_cpu(const GroupedMatmul& op, const CpuCall& call) {
  const View& a = call.input(GroupedMatmul::kA);
  const View& b = call.input(GroupedMatmul::kB);
  const View& y = call.output(GroupedMatmul::kY);
  CHECK(a.dtype != DType::kF64, "grouped_matmul: fp64 programs run on reference kernels");
  const int64_t num_rows = a.shape[0];
  const int64_t depth = a.shape[1];
  const int64_t width = y.shape[1];
  const int64_t num_experts = b.shape[0];
  const int32_t* offsets = checked_offsets(call.input(GroupedMatmul::kOffsets), num_rows);
  auto* problems = reinterpret_cast<GemmArgs*>(call.workspace);
  for (int64_t e = 0; e <= num_experts; ++e) {
    const bool none = e == num_experts;  // rows of no expert: a product over nothing
    const int64_t begin = offsets[e];
    const std::byte* packed =
        none || !call.packed(0) ? nullptr : call.packed(0) + e * packed_bytes(depth, width, a.dtype);
    const std::byte* weights = none ? nullptr : at_element(b, e * depth * width);
    new (problems + e) GemmArgs{
        .m = (none ? num_rows : offsets[e + 1]) - begin,
        .n = width,
        .k = none ? 0 : depth,
        .a = {.data = at_element(a, begin * depth), .ld = depth, .dtype = a.dtype},
        .packed_b = {.data = packed, .k = depth, .n = width, .dtype = a.dtype},
        .b = {.data = weights, .ld = b.shape[2], .dtype = b.dtype, .transposed = op.transpose_b},
        .compute = a.dtype,
        .c = const_cast<std::byte*>(at_element(y, begin * width)),
        .ldc = width,
        .c_dtype = y.dtype,
        .addend = call.has_input(GroupedMatmul::kAddend) ? at_element(call.input(GroupedMatmul::kAddend), begin * width)
                                                         : nullptr,
        .ld_addend = width,
    };
  }
  gemm_grouped({problems, static_cast<size_t>(num_experts + 1)}, call.pool,
               call.workspace + problems_bytes(num_experts));
}

template <>
void prepare_cpu(const GroupedMatmulGradWeight&, CpuPrepare& prepare) {
  prepare.workspace_bytes = workspace_bytes(prepare.shapes.shape(GroupedMatmulGradWeight::kDb)[0], prepare.num_threads);
}

template <>
void run_cpu(const GroupedMatmulGradWeight&, const CpuCall& call) {
  using G = GroupedMatmulGradWeight;
  const View& a = call.input(G::kA);
  const View& dy = call.input(G::kDy);
  const View& db = call.input(G::kDb);
  CHECK(a.dtype != DType::kF64, "grouped_matmul_grad_weight: fp64 programs run on reference kernels");
  const int64_t num_experts = db.shape[0];
  const int64_t rows = a.shape[1];
  const int64_t columns = dy.shape[1];
  const int32_t* offsets = checked_offsets(call.input(G::kOffsets), a.shape[0]);
  auto* problems = reinterpret_cast<GemmArgs*>(call.workspace);
  for (int64_t e = 0; e < num_experts; ++e) {
    const int64_t begin = offsets[e];
    const int64_t count = offsets[e + 1] - begin;
    new (problems + e) GemmArgs{
        .m = count > 0 ? rows : 0,  // nothing to add for an expert without rows
        .n = columns,
        .k = count,
        .a = {.data = at_element(a, begin * rows), .ld = rows, .dtype = a.dtype, .transposed = true},
        .packed_b = {},
        .b = {.data = at_element(dy, begin * columns), .ld = columns, .dtype = dy.dtype},
        .compute = a.dtype,
        .c = db.as<float>() + e * rows * columns,
        .ldc = columns,
        .accumulate = true,
    };
  }
  gemm_grouped({problems, static_cast<size_t>(num_experts)}, call.pool, call.workspace + problems_bytes(num_experts));
}

}  // namespace colossus
