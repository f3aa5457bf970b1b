#include <cmath>
#include <numbers>
#include <vector>

#include "device/cpu/cpu_kernel.h"
#include "ops/matmul/matmul.h"

namespace colossus {
namespace {

double activate(ActivationKind kind, double x) {
  switch (kind) {
    case ActivationKind::kNone: return x;
    case ActivationKind::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case ActivationKind::kSilu: return x / (1 + std::exp(-x));
    case ActivationKind::kRelu2: return x > 0 ? x * x : 0;
  }
  return x;
}

double rounded_to(DType dtype, double x) {
  if (dtype == DType::kBF16) return to_float(to_bf16(static_cast<float>(x)));
  return dtype == DType::kF32 ? static_cast<float>(x) : x;
}

// A matrix as doubles; `transpose` gives the transposed one.
std::vector<double> read(const View& x, bool transpose, DType rounded) {
  const int64_t rows = x.shape.num_rows();
  const int64_t columns = x.shape.row_size();
  std::vector<double> values(static_cast<size_t>(rows * columns));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      values[static_cast<size_t>(transpose ? j * rows + i : i * columns + j)] =
          rounded_to(rounded, x.get(i * columns + j));
  return values;
}

}  // namespace

template <>
void run_reference(const Matmul& op, const ReferenceCall& call) {
  const View& left = call.input(Matmul::kA);
  const View& right = call.input(Matmul::kB);
  const std::vector<double> a = read(left, op.transpose_a, left.dtype);    // (M, K)
  const std::vector<double> b = read(right, !op.transpose_b, left.dtype);  // (N, K)
  const int64_t num_rows = op.transpose_a ? left.shape.row_size() : left.shape.num_rows();
  const int64_t depth = op.transpose_a ? left.shape.num_rows() : left.shape.row_size();
  const int64_t num_columns = op.transpose_b ? right.shape.num_rows() : right.shape.row_size();
  const bool adds = call.has_input(Matmul::kInto);
  const View& y = adds ? call.input(Matmul::kInto) : call.output(Matmul::kY);
  for (int64_t i = 0; i < num_rows; ++i)
    for (int64_t j = 0; j < num_columns; ++j) {
      double sum = 0;
      for (int64_t k = 0; k < depth; ++k)
        sum += a[static_cast<size_t>(i * depth + k)] * b[static_cast<size_t>(j * depth + k)];
      const int64_t at = i * num_columns + j;
      double value = op.alpha * sum;
      if (call.has_input(Matmul::kBias)) value += call.input(Matmul::kBias).get(j);
      value = activate(op.activation, value);
      if (call.has_input(Matmul::kAddend)) value += call.input(Matmul::kAddend).get(at);
      y.set(at, adds ? y.get(at) + value : value);
    }
}

template <>
void run_reference(const BiasGrad&, const ReferenceCall& call) {
  const View& dy = call.input(BiasGrad::kDy);
  const View& dbias = call.input(BiasGrad::kDbias);
  for (int64_t j = 0; j < dy.shape.row_size(); ++j) {
    double sum = dbias.get(j);
    for (int64_t i = 0; i < dy.shape.num_rows(); ++i) sum += dy.get(i * dy.shape.row_size() + j);
    dbias.set(j, sum);
  }
}

template <>
void run_reference(const AddBias&, const ReferenceCall& call) {
  const View &x = call.input(AddBias::kX), &bias = call.input(AddBias::kBias);
  for (int64_t i = 0; i < x.num_elements(); ++i)
    call.output(AddBias::kY).set(i, x.get(i) + bias.get(i % bias.num_elements()));
}

}  // namespace colossus
