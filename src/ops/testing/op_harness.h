// Runs a case of an operation through everything an operation promises (docs/adding_an_op.md). Cases are data:
//
//   TEST(RmsNorm, Cases) {
//     for (int64_t width : {1, 37, 128})
//       run_op_case({
//           .name = fmt::format("width {}", width),
//           .write = [=](Builder& b, DType dtype) {
//             const TensorId x = b.input("x", {3, 5, width}, dtype);
//             const TensorId scale = b.parameter("scale", {width}, parameter_dtype(dtype));
//             b.mark_output(b.emit(RmsNorm{}, {x, scale}), "y");
//           },
//       });
//   }
//
// For activations of f32 and bf16: the fast kernels agree with the reference kernels on every output, every tensor
// written in place and (through differentiate, with a random gradient for each float output) every gradient; a second
// run and runs with 1, 2 and 3 threads give the same bits; the kernels for GPUs agree with the reference and with
// themselves (device/cuda: on machines without a GPU, on one that is played). For f64: the gradients of the reference
// kernels agree with central differences. The instruction set is the process's: COLOSSUS_ISA=avx2 runs the same cases
// on the lower one.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "program/builder.h"
#include "tensor/view.h"

namespace colossus {

// How far a fast kernel may be from the reference (which computes in fp64 and rounds what it stores), by the dtype of
// the case's activations. Repeated in docs/numerics.md.
struct Tolerance {
  double element;  // of |fast - reference| <= element * (|reference| + rms(reference)), for each element
  double rms;      // of rms(fast - reference) <= rms * rms(reference), for each tensor
};
constexpr Tolerance tolerance_of(DType activations) {
  return activations == DType::kBF16 ? Tolerance{.element = 3e-2, .rms = 6e-3}  // an ulp is 8e-3 or 4e-3
                                     : Tolerance{.element = 2e-5, .rms = 5e-6};
}
// Of analytic and numerical gradients in fp64, as Tolerance::element.
inline constexpr double kNumericalGradientTolerance = 1e-6;

// Of parameters, statistics and scalars where activations are `activations`.
constexpr DType parameter_dtype(DType activations) { return statistics_dtype(activations); }

// The gradient of an addend is that of y, which a program cannot give out twice: hence the scale before it.
inline TensorId scaled_addend(Builder& b, const Shape& shape, DType dtype) {
  return b.emit(Scale{.factor = 0.5}, {b.input("addend", shape, dtype)});
}

struct OpCase {
  std::string name;
  // Declares inputs and parameters (in any role outside the arena), emits operations, marks outputs.
  std::function<void(Builder&, DType activations)> write;
  // Called for every tensor outside the arena after its default fill (floats: random normal numbers, integers: zero) to
  // overwrite what that does not suit. Called with the same tensor it must do the same each time.
  std::function<void(const Tensor&, View)> fill = nullptr;
  // false: an operation without an adjoint.
  bool check_gradient = true;
  // Names of float inputs and outputs that have no gradient.
  std::vector<std::string> without_gradient = {};
  std::vector<DType> dtypes = {DType::kF32, DType::kBF16};
  // Of the default random fill: the standard deviation.
  double fill_scale = 1;
  // Where large terms cancel in a result: their size, which bounds what can be asked of it. Added to rms(reference).
  double cancelling_terms = 0;
  // Multiplies tolerance_of(); say why where it is not 1.
  double tolerance_scale = 1;
};

void run_op_case(const OpCase& op_case);

// The message of the program the case fails to write; a test failure and "" if it does not fail.
std::string write_error(const std::function<void(Builder&)>& write);

}  // namespace colossus
