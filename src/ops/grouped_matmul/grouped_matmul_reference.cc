#include "device/cpu/cpu_kernel.h"
#include "ops/grouped_matmul/grouped_matmul.h"

namespace colossus {
namespace {

double rounded_to(DType dtype, double x) {
  if (dtype == DType::kBF16) return to_float(to_bf16(static_cast<float>(x)));
  return dtype == DType::kF32 ? static_cast<float>(x) : x;
}

}  // namespace

template <>
void run_reference(const GroupedMatmul& op, const ReferenceCall& call) {
  const View& a = call.input(GroupedMatmul::kA);
  const View& b = call.input(GroupedMatmul::kB);
  const View& y = call.output(GroupedMatmul::kY);
  const int32_t* offsets = call.input(GroupedMatmul::kOffsets).as<int32_t>();
  const int64_t num_experts = b.shape[0];
  const int64_t depth = a.shape[1];
  const int64_t num_columns = y.shape[1];
  int64_t expert = 0;
  for (int64_t i = 0; i < a.shape[0]; ++i) {
    while (expert < num_experts && i >= offsets[expert + 1]) ++expert;
    for (int64_t j = 0; j < num_columns; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < depth && expert < num_experts; ++k) {
        const int64_t within = op.transpose_b ? j * depth + k : k * num_columns + j;
        sum += a.get(i * depth + k) * rounded_to(a.dtype, b.get(expert * depth * num_columns + within));
      }
      const int64_t at = i * num_columns + j;
      y.set(at, sum + (call.has_input(GroupedMatmul::kAddend) ? call.input(GroupedMatmul::kAddend).get(at) : 0));
    }
  }
}

template <>
void run_reference(const GroupedMatmulGradWeight&, const ReferenceCall& call) {
  const View& a = call.input(GroupedMatmulGradWeight::kA);
  const View& dy = call.input(GroupedMatmulGradWeight::kDy);
  const View& db = call.input(GroupedMatmulGradWeight::kDb);
  const int32_t* offsets = call.input(GroupedMatmulGradWeight::kOffsets).as<int32_t>();
  const int64_t num_rows = a.shape[1];
  const int64_t num_columns = dy.shape[1];
  for (int64_t expert = 0; expert < db.shape[0]; ++expert)
    for (int64_t k = 0; k < num_rows; ++k)
      for (int64_t j = 0; j < num_columns; ++j) {
        const int64_t at = (expert * num_rows + k) * num_columns + j;
        double sum = db.get(at);
        for (int64_t i = offsets[expert]; i < offsets[expert + 1]; ++i)
          sum += a.get(i * num_rows + k) * dy.get(i * num_columns + j);
        db.set(at, sum);
      }
}

}  // namespace colossus
