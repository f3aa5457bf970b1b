#include <algorithm>
#include <cmath>
#include <vector>

#include "device/cpu/cpu_kernel.h"
#include "ops/muon/muon.h"

namespace colossus {
namespace {

struct Matrix {
  int64_t rows, cols;
  std::vector<double> values;

  Matrix(int64_t num_rows, int64_t num_cols)
      : rows(num_rows), cols(num_cols), values(static_cast<size_t>(num_rows * num_cols)) {}
  double& at(int64_t r, int64_t c) { return values[static_cast<size_t>(r * cols + c)]; }
  double at(int64_t r, int64_t c) const { return values[static_cast<size_t>(r * cols + c)]; }
};

Matrix product(const Matrix& a, const Matrix& b) {
  Matrix c(a.rows, b.cols);
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t k = 0; k < a.cols; ++k)
      for (int64_t j = 0; j < b.cols; ++j) c.at(i, j) += a.at(i, k) * b.at(k, j);
  return c;
}

Matrix transposed(const Matrix& a) {
  Matrix b(a.cols, a.rows);
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t j = 0; j < a.cols; ++j) b.at(j, i) = a.at(i, j);
  return b;
}

// Brings all singular values near 1 (between about 0.7 and 1.2).
Matrix newton_schulz(Matrix x, int64_t iterations) {
  constexpr double a = 3.4445, b = -4.7750, c = 2.0315;
  double sum = 0;
  for (const double value : x.values) sum += value * value;
  for (double& value : x.values) value /= std::sqrt(sum) + 1e-7;
  for (int64_t i = 0; i < iterations; ++i) {
    const Matrix gram = product(x, transposed(x)), square = product(gram, gram);
    Matrix polynomial(gram.rows, gram.cols);
    for (size_t j = 0; j < gram.values.size(); ++j) polynomial.values[j] = b * gram.values[j] + c * square.values[j];
    const Matrix move = product(polynomial, x);
    for (size_t j = 0; j < x.values.size(); ++j) x.values[j] = a * x.values[j] + move.values[j];
  }
  return x;
}

}  // namespace

template <>
void run_reference(const MuonMomentum& op, const ReferenceCall& call) {
  const double scale = call.input(MuonMomentum::kScale).get(0);
  const View &grad = call.input(MuonMomentum::kGrad), &buffer = call.input(MuonMomentum::kMomentumBuffer),
             &direction = call.output(MuonMomentum::kDirection);
  for (int64_t i = 0; i < grad.num_elements(); ++i) {
    if (std::isnan(scale)) {
      direction.set(i, 0);
      continue;
    }
    const double g = scale * grad.get(i), m = op.momentum * buffer.get(i) + g;
    buffer.set(i, m);
    direction.set(i, g + op.momentum * m);
  }
}

template <>
void run_reference(const Muon& op, const ReferenceCall& call) {
  const double scale = call.input(Muon::kScale).get(0), lr = call.input(Muon::kLr).get(0);
  if (std::isnan(scale)) return;
  const View &param = call.input(Muon::kParam), &direction = call.input(Muon::kDirection);
  const int64_t rows = direction.shape[-2], cols = direction.shape[-1], size = rows * cols;
  const int64_t part_rows = param.shape[-2], part_cols = param.shape[-1];
  const int64_t first_row = op.of_columns ? 0 : op.part * part_rows,
                first_col = op.of_columns ? op.part * part_cols : 0;
  const double shape_scale = std::sqrt(std::max(1.0, static_cast<double>(cols) / static_cast<double>(rows)));
  for (int64_t matrix = 0; matrix < direction.num_elements() / size; ++matrix) {
    Matrix u(rows, cols);
    for (int64_t i = 0; i < size; ++i) u.values[static_cast<size_t>(i)] = direction.get(matrix * size + i);
    const Matrix o = newton_schulz(std::move(u), op.iterations);
    for (int64_t r = 0; r < part_rows; ++r)
      for (int64_t c = 0; c < part_cols; ++c) {
        const int64_t i = (matrix * part_rows + r) * part_cols + c;
        const double value = param.get(i);
        param.set(i, value - lr * (shape_scale * o.at(first_row + r, first_col + c) + op.weight_decay * value));
      }
  }
}

}  // namespace colossus
