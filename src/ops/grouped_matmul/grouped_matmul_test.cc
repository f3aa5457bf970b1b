#include "ops/grouped_matmul/grouped_matmul.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "ops/elementwise/elementwise.h"
#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

struct Groups {
  std::string name;
  std::vector<int32_t> offsets;
  int64_t num_rows;  // those behind the last offset belong to no expert
};

// Of 0 to 4 rows each.
std::vector<int32_t> many_offsets() {
  std::vector<int32_t> offsets = {0};
  for (int32_t e = 0; e < 40; ++e) offsets.push_back(offsets.back() + e * 3 % 5);
  return offsets;
}

const std::vector<Groups>& all_groups() {
  static const std::vector<Groups> groups = {
      {"one expert, one row", {0, 1}, 1},           {"empty experts first, amid and last", {0, 0, 7, 7, 20, 20}, 20},
      {"very unequal", {0, 1, 140, 141, 143}, 143}, {"rows of no expert", {0, 13, 29}, 40},
      {"no rows at all", {0, 0, 0, 0}, 3},          {"many experts", many_offsets(), 82},
  };
  return groups;
}

auto fill_offsets(const Groups& groups) {
  return [offsets = groups.offsets](const Tensor& tensor, View view) {
    if (tensor.name == "offsets") std::copy(offsets.begin(), offsets.end(), view.as<int32_t>());
  };
}

int64_t num_experts(const Groups& groups) { return static_cast<int64_t>(groups.offsets.size()) - 1; }

TEST(GroupedMatmul, Cases) {
  for (const Groups& groups : all_groups())
    for (const bool transpose_b : {false, true})
      for (const auto& [k, n] : {std::pair<int64_t, int64_t>{1, 1}, {37, 13}, {48, 80}})
        run_op_case({
            .name = fmt::format("{}, k {} n {} transpose_b {}", groups.name, k, n, transpose_b),
            .write =
                [=, k = k, n = n](Builder& b, DType dtype) {
                  const int64_t count = num_experts(groups);
                  const TensorId a = b.input("a", {groups.num_rows, k}, dtype);
                  const TensorId w =
                      b.parameter("w", transpose_b ? Shape{count, n, k} : Shape{count, k, n}, parameter_dtype(dtype));
                  const TensorId offsets = b.input("offsets", {count + 1}, DType::kI32);
                  b.mark_output(b.emit(GroupedMatmul{.transpose_b = transpose_b}, {a, w, offsets}), "y");
                },
            .fill = fill_offsets(groups),
        });
}

TEST(GroupedMatmul, WeightsAsTheyAreStored) {
  for (const Groups& groups : all_groups())
    for (const bool transpose_b : {false, true})
      run_op_case({
          .name = fmt::format("{}, transpose_b {}", groups.name, transpose_b),
          .write =
              [=](Builder& b, DType dtype) {
                const int64_t count = num_experts(groups);
                const TensorId a = b.input("a", {groups.num_rows, 37}, dtype);
                const TensorId w =
                    b.parameter("w", transpose_b ? Shape{count, 19, 37} : Shape{count, 37, 19}, DType::kBF16);
                const TensorId offsets = b.input("offsets", {count + 1}, DType::kI32);
                b.mark_output(b.emit(GroupedMatmul{.transpose_b = transpose_b}, {a, w, offsets}), "y");
              },
          .fill = fill_offsets(groups),
          .check_gradient = false,
      });
}

TEST(GroupedMatmul, Addend) {
  for (const Groups& groups : all_groups())
    for (const auto& [k, n] : {std::pair<int64_t, int64_t>{37, 19}, {40, 24}})
      run_op_case({
          .name = fmt::format("{}, k {} n {}", groups.name, k, n),
          .write =
              [=, k = k, n = n](Builder& b, DType dtype) {
                const int64_t count = num_experts(groups);
                const TensorId a = b.input("a", {groups.num_rows, k}, dtype);
                const TensorId w = b.parameter("w", {count, k, n}, parameter_dtype(dtype));
                const TensorId offsets = b.input("offsets", {count + 1}, DType::kI32);
                const TensorId addend = scaled_addend(b, {groups.num_rows, n}, dtype);
                b.mark_output(b.emit(GroupedMatmul{}, {a, w, offsets, addend}), "y");
              },
          .fill = fill_offsets(groups),
      });
}

// Several tiles of a GPU in each direction, ends within tiles, and more of the depth than it holds at once. Written
// with their gradients, since numerical ones would take seconds.
TEST(GroupedMatmul, LargeProducts) {
  const Groups groups{"few and many rows", {0, 5, 294}, 296};
  const int64_t k = 392, n = 264;
  for (const bool transpose_b : {false, true})
    run_op_case({
        .name = fmt::format("transpose_b {}", transpose_b),
        .write =
            [=](Builder& b, DType dtype) {
              const TensorId a = b.input("a", {groups.num_rows, k}, dtype);
              const TensorId w =
                  b.parameter("w", transpose_b ? Shape{2, n, k} : Shape{2, k, n}, parameter_dtype(dtype));
              const TensorId offsets = b.input("offsets", {3}, DType::kI32);
              const TensorId addend = transpose_b ? b.input("addend", {groups.num_rows, n}, dtype) : TensorId{};
              b.mark_output(b.emit(GroupedMatmul{.transpose_b = transpose_b}, {a, w, offsets, addend}), "y");
            },
        .fill = fill_offsets(groups),
        .check_gradient = false,
        .dtypes = {DType::kBF16},
    });
  run_op_case({
      .name = "gradient of the weights",
      .write =
          [=](Builder& b, DType dtype) {
            const TensorId a = b.input("a", {groups.num_rows, k}, dtype);
            const TensorId dy = b.input("dy", {groups.num_rows, n}, dtype);
            const TensorId offsets = b.input("offsets", {3}, DType::kI32);
            const TensorId db = b.declare("db", {{2, k, n}, parameter_dtype(dtype)}, Role::kGradient);
            b.emit(GroupedMatmulGradWeight{}, {a, dy, offsets, db});
          },
      .fill = fill_offsets(groups),
      .check_gradient = false,
      .dtypes = {DType::kBF16},
  });
}

TEST(GroupedMatmul, WeightsThatAreNoParameter) {
  const Groups& groups = all_groups().front();
  run_op_case({
      .name = groups.name,
      .write =
          [=](Builder& b, DType dtype) {
            const TensorId a = b.input("a", {groups.num_rows, 16}, dtype);
            const TensorId w = b.input("w", {1, 16, 8}, parameter_dtype(dtype));
            const TensorId offsets = b.input("offsets", {2}, DType::kI32);
            b.mark_output(b.emit(GroupedMatmul{}, {a, w, offsets, b.input("addend", {groups.num_rows, 8}, dtype)}),
                          "y");
          },
      .fill = fill_offsets(groups),
      .check_gradient = false,
  });
}

TEST(GroupedMatmul, ErrorsNameTheOperand) {
  const auto error = [](const Shape& weight, int64_t num_offsets) {
    return write_error([=](Builder& b) {
      b.emit(GroupedMatmul{}, {b.input("a", {10, 16}, DType::kF32), b.parameter("w", weight),
                               b.input("offsets", {num_offsets}, DType::kI32)});
    });
  };
  EXPECT_THAT(error({4, 8, 16}, 5), HasSubstr("grouped_matmul.b: got [4, 8, 16] f32; needed size 16 in dimension 1"));
  EXPECT_THAT(error({4, 16, 8}, 4),
              HasSubstr("grouped_matmul.offsets: got [4] i32; needed [5]: one more than there are experts"));
  EXPECT_THAT(error({16, 8}, 5), HasSubstr("grouped_matmul.b: got [16, 8] f32; needed 3 dimensions"));
}

}  // namespace
}  // namespace colossus
