#include "ops/matmul/matmul.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>

#include "ops/elementwise/elementwise.h"
#include "ops/testing/op_harness.h"
#include "program/passes.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

struct Sizes {
  int64_t m, n, k;
};
constexpr Sizes kSizes[] = {{1, 1, 1}, {1, 65, 37}, {7, 13, 37}, {13, 31, 5}, {34, 48, 64}, {61, 97, 130}};

std::string name_of(const Sizes& size) { return fmt::format("({}, {}, {})", size.m, size.n, size.k); }

TEST(Matmul, Weights) {
  for (const Sizes& size : kSizes)
    for (const bool transpose_b : {false, true})
      run_op_case({
          .name = fmt::format("{} transpose_b {}", name_of(size), transpose_b),
          .write =
              [=](Builder& b, DType dtype) {
                const TensorId x = b.input("x", {1, size.m, size.k}, dtype);
                const Shape shape = transpose_b ? Shape{size.n, size.k} : Shape{size.k, size.n};
                const TensorId w = b.parameter("w", shape, parameter_dtype(dtype));
                b.mark_output(b.emit(Matmul{.transpose_b = transpose_b, .alpha = 0.7, .dtype = dtype}, {x, w}), "y");
              },
      });
}

TEST(Matmul, BiasAndAddend) {
  for (const Sizes& size : kSizes)
    for (const bool with_addend : {false, true})
      run_op_case({
          .name = fmt::format("{} addend {}", name_of(size), with_addend),
          .write =
              [=](Builder& b, DType dtype) {
                const TensorId x = b.input("x", {size.m, size.k}, dtype);
                const TensorId w = b.parameter("w", {size.k, size.n}, parameter_dtype(dtype));
                const TensorId bias = b.parameter("bias", {size.n}, parameter_dtype(dtype));
                const TensorId addend = with_addend ? scaled_addend(b, {size.m, size.n}, dtype) : TensorId{};
                b.mark_output(b.emit(Matmul{.alpha = -1.5, .dtype = dtype}, {x, w, bias, addend}), "y");
              },
      });
}

TEST(Matmul, WeightsAsTheyAreStored) {
  for (const Sizes& size : kSizes)
    for (const bool transpose_b : {false, true})
      run_op_case({
          .name = fmt::format("{} transpose_b {}", name_of(size), transpose_b),
          .write =
              [=](Builder& b, DType dtype) {
                const TensorId x = b.input("x", {size.m, size.k}, dtype);
                const Shape shape = transpose_b ? Shape{size.n, size.k} : Shape{size.k, size.n};
                const TensorId w = b.parameter("w", shape, DType::kBF16);
                b.mark_output(b.emit(Matmul{.transpose_b = transpose_b, .dtype = dtype}, {x, w}), "y");
              },
          .check_gradient = false,
      });
}

TEST(AddBias, Cases) {
  for (const Shape& shape : {Shape{1, 1, 1}, Shape{3, 5, 13}, Shape{7, 1}, Shape{2, 19, 131}, Shape{300, 64}})
    run_op_case({
        .name = shape.to_string(),
        .write =
            [&](Builder& b, DType dtype) {
              const TensorId x = b.input("x", shape, dtype);
              b.mark_output(b.emit(AddBias{}, {x, b.parameter("bias", {shape[-1]}, parameter_dtype(dtype))}), "y");
            },
    });
}

TEST(AddBias, ErrorsNameTheOperand) {
  EXPECT_THAT(write_error([](Builder& b) {
                b.emit(AddBias{}, {b.input("x", {2, 3}, DType::kF32), b.parameter("bias", {2})});
              }),
              HasSubstr("add_bias.bias: got [2] f32; needed [3]"));
}

TEST(Matmul, Activations) {
  for (const ActivationKind kind : {ActivationKind::kGeluTanh, ActivationKind::kSilu, ActivationKind::kRelu2})
    for (const Sizes& size : {Sizes{7, 13, 37}, Sizes{34, 48, 64}})
      run_op_case({
          .name = fmt::format("{} {}", name_of(size), activation_name(kind)),
          .write =
              [=](Builder& b, DType dtype) {
                const TensorId x = b.input("x", {size.m, size.k}, dtype);
                const TensorId w = b.parameter("w", {size.k, size.n}, parameter_dtype(dtype));
                const TensorId bias = b.parameter("bias", {size.n}, parameter_dtype(dtype));
                const TensorId addend = b.input("addend", {size.m, size.n}, dtype);
                b.mark_output(b.emit(Matmul{.activation = kind, .dtype = dtype}, {x, w, bias, addend}), "y");
              },
          .check_gradient = false,
          .fill_scale = 0.5,
      });
}

// Neither factor is a parameter, in each orientation; the gradients are ordinary products.
TEST(Matmul, TwoActivations) {
  for (const bool transpose_a : {false, true})
    for (const bool transpose_b : {false, true}) {
      if (transpose_a && transpose_b) continue;
      run_op_case({
          .name = fmt::format("transpose {} {}", transpose_a, transpose_b),
          .write =
              [=](Builder& b, DType dtype) {
                const TensorId left = b.input("left", transpose_a ? Shape{3, 7, 19} : Shape{3, 7, 11}, dtype);
                const TensorId right = b.input("right",
                                               transpose_a   ? Shape{21, 5}
                                               : transpose_b ? Shape{5, 11}
                                                             : Shape{11, 5},
                                               dtype);
                b.mark_output(
                    b.emit(Matmul{.transpose_a = transpose_a, .transpose_b = transpose_b, .alpha = 2, .dtype = dtype},
                           {left, right}),
                    "y");
              },
      });
    }
}

// A router's logits: fp32 from any activations.
TEST(Matmul, OtherOutputType) {
  run_op_case({
      .name = "f32 output",
      .write =
          [](Builder& b, DType dtype) {
            const TensorId x = b.input("x", {13, 37}, dtype);
            const TensorId w = b.parameter("w", {8, 37}, parameter_dtype(dtype));
            b.mark_output(b.emit(Matmul{.transpose_b = true, .dtype = parameter_dtype(dtype)}, {x, w}), "y");
          },
  });
}

TEST(Matmul, Into) {
  for (const bool transpose_a : {false, true})
    run_op_case({
        .name = fmt::format("transpose_a {}", transpose_a),
        .write =
            [=](Builder& b, DType dtype) {
              const TensorId left = b.input("left", transpose_a ? Shape{130, 37} : Shape{37, 130}, dtype);
              const TensorId right = b.input("right", {130, 29}, dtype);
              const TensorId into = b.declare("into", {{37, 29}, parameter_dtype(dtype)}, Role::kGradient);
              b.emit(Matmul{.transpose_a = transpose_a, .alpha = 0.5, .dtype = dtype}, {left, right, {}, {}, into});
            },
        .check_gradient = false,
    });
}

TEST(BiasGrad, Cases) {
  for (const int64_t rows : {1, 127, 129, 700})
    for (const int64_t columns : {1, 37, 128, 300})
      run_op_case({
          .name = fmt::format("({}, {})", rows, columns),
          .write =
              [=](Builder& b, DType dtype) {
                const TensorId dy = b.input("dy", {rows, columns}, dtype);
                b.emit(BiasGrad{}, {dy, b.declare("dbias", {{columns}, parameter_dtype(dtype)}, Role::kGradient)});
              },
          // Of one sign: a sum that nearly cancels says little relative to its own size.
          .fill =
              [](const Tensor&, View view) {
                for (int64_t i = 0; i < view.num_elements(); ++i) view.set(i, std::abs(view.get(i)));
              },
          .check_gradient = false,
      });
}

TEST(Matmul, ErrorsNameTheOperand) {
  const auto with_weight = [](const Shape& weight, Matmul op) {
    return write_error([=](Builder& b) {
      b.emit(op, {b.input("x", {2, 512}, DType::kF32), b.parameter("w", weight)});
    });
  };
  EXPECT_THAT(with_weight({768, 64}, {}),
              HasSubstr("matmul.b: got [768, 64] f32; needed size 512 in dimension 0: the columns of a"));
  EXPECT_THAT(with_weight({512, 64}, {.transpose_b = true}), HasSubstr("needed size 512 in dimension 1"));
  EXPECT_THAT(with_weight({3, 64}, {.transpose_a = true}),
              HasSubstr("matmul.b: got [3, 64] f32; needed 2 rows, as a has"));
  EXPECT_THAT(with_weight({512, 64}, {.dtype = DType::kF64}), HasSubstr("matmul.dtype: got f64"));
  EXPECT_THAT(with_weight({512, 64}, {.transpose_a = true, .transpose_b = true}), HasSubstr("matmul.transpose_b"));
  const auto with_bias = [](int64_t size) {
    return write_error([=](Builder& b) {
      b.emit(Matmul{}, {b.input("x", {2, 4}, DType::kF32), b.parameter("w", {4, 3}), b.parameter("bias", {size})});
    });
  };
  EXPECT_THAT(with_bias(4), HasSubstr("matmul.bias: got [4] f32; needed [3]: the columns of the product"));
}

TEST(Matmul, AFusedActivationHasNoAdjoint) {
  Builder b("test");
  const TensorId x = b.input("x", {2, 4}, DType::kF32);
  const TensorId y = b.emit(Matmul{.activation = ActivationKind::kSilu}, {x, b.parameter("w", {4, 3})});
  const GradientSeed seeds[] = {{y, b.input("dy", {2, 3}, DType::kF32)}};
  const auto derivative = differentiate(std::move(b.finish()).value(), seeds);
  ASSERT_FALSE(derivative.ok());
  EXPECT_THAT(derivative.status().message(), HasSubstr("matmul.activation: got silu; needed none"));
}

TEST(Matmul, Cost) {
  Builder b("test");
  b.emit(Matmul{.dtype = DType::kBF16}, {b.input("x", {2, 3, 5}, DType::kBF16), b.parameter("w", {5, 7})});
  const Program program = std::move(b.finish()).value();
  const Cost cost = total_cost(program);
  EXPECT_EQ(cost.flops, 2 * 6 * 5 * 7);
  EXPECT_EQ(cost.bytes_read, 6 * 5 * 2 + 5 * 7 * 4);
  EXPECT_EQ(cost.bytes_written, 6 * 7 * 2);
}

}  // namespace
}  // namespace colossus
