#include "ops/grad_norm/grad_norm.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/exact_sum.h"
#include "base/rng.h"
#include "device/cpu/cpu_kernel.h"
#include "device/cuda/cuda_device.h"
#include "device/tensor_set.h"
#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();

TensorId norm_of(Builder& b, const std::vector<TensorId>& grads, DType dtype) {
  return b.emit(ExactSumValue{.square_root = true, .dtype = dtype}, {b.emit(SumOfSquares{}, grads)});
}

TEST(SumOfSquares, Cases) {
  const std::vector<std::vector<Shape>> cases = {
      {Shape{}}, {{1}, {13}, {37, 41}}, {{4096}, {50001}, {2, 3, 5}, {4097}}, std::vector<Shape>(40, Shape{7})};
  for (const std::vector<Shape>& shapes : cases)
    for (const double scale : {1.0, 1e25})  // squares beyond fp32
      run_op_case({.name = fmt::format("{} tensors of about {}", shapes.size(), scale),
                   .write =
                       [&](Builder& b, DType dtype) {
                         std::vector<TensorId> grads;
                         for (size_t i = 0; i < shapes.size(); ++i)
                           grads.push_back(b.declare(fmt::format("grad.{}", i), {shapes[i], dtype}, Role::kGradient));
                         b.mark_output(norm_of(b, grads, dtype), "norm");
                       },
                   .check_gradient = false,
                   .dtypes = {DType::kF32},
                   .fill_scale = scale});
}

template <class T>
View view_of(std::span<T> values, DType dtype) {
  return {reinterpret_cast<std::byte*>(values.data()), {static_cast<int64_t>(values.size())}, dtype};
}

ExactSum::Words words_of(const std::vector<std::span<float>>& grads, int num_threads) {
  ThreadPool pool(num_threads);
  std::vector<View> inputs;
  for (const std::span<float> grad : grads) inputs.push_back(view_of(grad, DType::kF32));
  ExactSum::Words words;
  const View output = view_of(std::span<int64_t>(words), DType::kI64);
  std::vector<ExactSum> workspace(static_cast<size_t>(num_threads));
  run_cpu(SumOfSquares{}, CpuCall(pool, inputs.data(), static_cast<int>(inputs.size()), &output, 1,
                                  reinterpret_cast<std::byte*>(workspace.data()), nullptr));
  return words;
}

float value_of(ExactSum::Words words, const ExactSumValue& op) {
  ThreadPool pool(1);
  float fast = 0, plain = 0;
  const View input = view_of(std::span<int64_t>(words), DType::kI64);
  const View to_fast = {reinterpret_cast<std::byte*>(&fast), {}, DType::kF32},
             to_plain = {reinterpret_cast<std::byte*>(&plain), {}, DType::kF32};
  run_cpu(op, CpuCall(pool, &input, 1, &to_fast, 1, nullptr, nullptr));
  run_reference(op, CpuCall(pool, &input, 1, &to_plain, 1, nullptr, nullptr));
  EXPECT_TRUE(fast == plain || (std::isnan(fast) && std::isnan(plain)));
  return fast;
}

// What a mesh does: tensors cut at multiples of the block, the pieces on any ranks in any order, words added.
TEST(SumOfSquares, NeitherCutsNorOrderNorThreadsChangeABit) {
  std::vector<std::vector<float>> grads;
  for (const size_t count : {size_t{50001}, size_t{4096}, size_t{7}, size_t{30000}}) {
    grads.emplace_back(count);
    for (size_t i = 0; i < count; ++i)
      grads.back()[i] = random_normal({.seed = count}, i) * std::ldexp(1.0F, static_cast<int>(i / 4096) * 5 - 30);
  }
  const ExactSum::Words want = words_of({grads.begin(), grads.end()}, 1);
  for (const int num_threads : {2, 3, 7}) EXPECT_EQ(words_of({grads.begin(), grads.end()}, num_threads), want);
  EXPECT_EQ(words_of({grads.rbegin(), grads.rend()}, 2), want);
  for (const size_t num_ranks : {size_t{1}, size_t{2}, size_t{5}, size_t{40}}) {
    std::vector<std::vector<std::span<float>>> shards(num_ranks);
    size_t next = 0;
    for (std::vector<float>& grad : grads)
      for (size_t at = 0, blocks = 1; at < grad.size(); ++blocks, ++next) {  // pieces of 1, 2, 3 ... blocks
        const size_t count = std::min(blocks * static_cast<size_t>(kSumOfSquaresBlock), grad.size() - at);
        std::vector<std::span<float>>& shard = shards[next % num_ranks];
        shard.insert(shard.begin(), std::span(grad).subspan(at, count));
        at += count;
      }
    ExactSum::Words sum = {};
    for (const auto& shard : shards) {
      if (shard.empty()) continue;
      const ExactSum::Words words = words_of(shard, 2);
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += words[i];
    }
    EXPECT_EQ(ExactSum(sum).words(), want) << num_ranks << " ranks";
    EXPECT_EQ(value_of(sum, {.square_root = true}), value_of(want, {.square_root = true})) << num_ranks << " ranks";
  }
}

// Blocks are added in the same order on all devices: a run on GPUs has the norm of a run without.
TEST(SumOfSquares, GpusHaveTheWordsOfCpus) {
  std::vector<std::vector<float>> grads;
  for (const size_t count : {size_t{50001}, size_t{4096}, size_t{0}, size_t{7}, size_t{8192 + 4 * 31}, size_t{32}}) {
    grads.emplace_back(count);
    for (size_t i = 0; i < count; ++i)
      grads.back()[i] = random_normal({.seed = count}, i) * std::ldexp(1.0F, static_cast<int>(i % 97) / 4);
  }
  for (size_t i = 0; i < 70; ++i) grads.push_back({0.1F * static_cast<float>(i)});  // more than a launch takes
  Builder b("sum of squares");
  std::vector<TensorId> ids;
  for (size_t i = 0; i < grads.size(); ++i)
    ids.push_back(
        b.declare(fmt::format("grad.{}", i), {{static_cast<int64_t>(grads[i].size())}, DType::kF32}, Role::kGradient));
  b.mark_output(b.emit(SumOfSquares{}, ids), "sum");
  const Program program = std::move(b.finish()).value();
  const std::unique_ptr<Device> gpu = make_cuda_device().value();
  auto executable = gpu->compile(program);
  ASSERT_TRUE(executable.ok()) << executable.status().message();
  TensorSet tensors;
  ASSERT_TRUE(tensors.add_all(*gpu, program).ok());
  tensors.bind_to(**executable);
  for (size_t i = 0; i < grads.size(); ++i)
    gpu->write(*tensors.at(fmt::format("grad.{}", i)).memory, 0, std::as_bytes(std::span(grads[i])));
  ASSERT_TRUE((*executable)->run().ok());
  ExactSum::Words words;
  (*executable)->read_output(program.find("sum"), std::as_writable_bytes(std::span(words)));
  EXPECT_EQ(words, words_of({grads.begin(), grads.end()}, 2));
}

TEST(SumOfSquares, OneBadElementShows) {
  for (const size_t at : {size_t{0}, size_t{31}, size_t{20000}, size_t{39999}}) {
    std::vector<float> values(40000, 0.5F);
    EXPECT_EQ(value_of(words_of({values}, 2), {.square_root = true}), 100);
    for (const float bad : {kNan, -kInfinity}) {
      values[at] = bad;
      EXPECT_TRUE(std::isnan(value_of(words_of({values}, 2), {.square_root = true}))) << at;
    }
  }
}

// In an fp64 program squares lie anywhere: tiny ones are dropped, not taken for faults.
TEST(SumOfSquares, OfDoubles) {
  ThreadPool pool(1);
  std::vector<double> values = {3, 1e-60, 4, 1e-200};
  double norm = 0;
  ExactSum::Words words;
  const View grad = view_of(std::span(values), DType::kF64), sum = view_of(std::span<int64_t>(words), DType::kI64);
  const View value = {reinterpret_cast<std::byte*>(&norm), {}, DType::kF64};
  run_reference(SumOfSquares{}, CpuCall(pool, &grad, 1, &sum, 1, nullptr, nullptr));
  run_reference(ExactSumValue{.square_root = true, .dtype = DType::kF64},
                CpuCall(pool, &sum, 1, &value, 1, nullptr, nullptr));
  EXPECT_EQ(norm, 5);
}

TEST(ExactSumValue, Cases) {
  for (const bool square_root : {false, true})
    for (const double scale : {1.0, 0.125, 3.5})
      run_op_case({.name = fmt::format("scale {}, square_root {}", scale, square_root),
                   .write =
                       [&](Builder& b, DType dtype) {
                         const TensorId sum = b.input("sum", {ExactSum::kWords}, DType::kI64);
                         b.mark_output(
                             b.emit(ExactSumValue{.scale = scale, .square_root = square_root, .dtype = dtype}, {sum}),
                             "value");
                       },
                   .fill =
                       [](const Tensor&, View view) {
                         ExactSum sum;
                         for (const double term : {2.0, 0x1p-200, 0x1p200, -0x1p200}) sum.add(term);
                         std::ranges::copy(sum.words(), view.as<int64_t>());
                       },
                   .check_gradient = false,
                   .dtypes = {DType::kF32}});
}

TEST(ExactSumValue, ScalesThenTakesTheRoot) {
  ExactSum sum;
  sum.add(18);
  EXPECT_EQ(value_of(sum.words(), {}), 18);
  EXPECT_EQ(value_of(sum.words(), {.scale = 0.5}), 9);
  EXPECT_EQ(value_of(sum.words(), {.scale = 0.5, .square_root = true}), 3);
  ExactSum::Words twice = sum.words();
  for (int64_t& word : twice) word *= 2;
  EXPECT_EQ(value_of(twice, {}), 36);
  sum.add(static_cast<double>(kInfinity));
  EXPECT_TRUE(std::isnan(value_of(sum.words(), {})));
}

TEST(ClipScale, Cases) {
  for (const double max_norm : {0.0, 0.5, 100.0})
    for (const bool with_loss : {false, true})
      run_op_case({.name = fmt::format("max_norm {}{}", max_norm, with_loss ? ", loss" : ""),
                   .write =
                       [&](Builder& b, DType dtype) {
                         const TensorId norm = b.input("norm", {}, dtype);
                         const TensorId loss = with_loss ? b.input("loss", {}, dtype) : TensorId{};
                         b.mark_output(b.emit(ClipScale{.max_norm = max_norm}, {norm, loss}), "scale");
                       },
                   .fill = [](const Tensor&, View view) { view.set(0, 2.5); },
                   .check_gradient = false,
                   .dtypes = {DType::kF32}});
}

TEST(ClipScale, NotFiniteBecomesNan) {
  struct {
    float norm, loss;
  } const cases[] = {{kNan, 1}, {kInfinity, 1}, {1, kNan}, {1, -kInfinity}};
  ThreadPool pool(1);
  for (auto c : cases)
    for (const double max_norm : {0.0, 1.0}) {
      float fast = 0, plain = 0;
      const View inputs[] = {{reinterpret_cast<std::byte*>(&c.norm), {}, DType::kF32},
                             {reinterpret_cast<std::byte*>(&c.loss), {}, DType::kF32}};
      const View to_fast = {reinterpret_cast<std::byte*>(&fast), {}, DType::kF32},
                 to_plain = {reinterpret_cast<std::byte*>(&plain), {}, DType::kF32};
      run_cpu(ClipScale{max_norm}, CpuCall(pool, inputs, 2, &to_fast, 1, nullptr, nullptr));
      run_reference(ClipScale{max_norm}, CpuCall(pool, inputs, 2, &to_plain, 1, nullptr, nullptr));
      EXPECT_TRUE(std::isnan(fast) && std::isnan(plain)) << c.norm << " " << c.loss << " " << max_norm;
    }
}

TEST(GradNorm, ErrorsNameOpAndOperand) {
  using testing::HasSubstr;
  EXPECT_THAT(write_error([](Builder& b) { b.emit(SumOfSquares{}, {b.input("g", {3}, DType::kBF16)}); }),
              HasSubstr("sum_of_squares.grads: got [3] bf16; needed f32"));
  EXPECT_THAT(write_error([](Builder& b) { b.emit(ExactSumValue{}, {b.input("sum", {2}, DType::kI64)}); }),
              HasSubstr("exact_sum_value.sum: got [2] i64; needed [21]: the words of an exact sum"));
  EXPECT_THAT(write_error([](Builder& b) {
                b.emit(ExactSumValue{.dtype = DType::kI64}, {b.input("sum", {ExactSum::kWords}, DType::kI64)});
              }),
              HasSubstr("exact_sum_value.dtype: got i64; needed f32"));
  EXPECT_THAT(write_error([](Builder& b) { b.emit(ClipScale{}, {b.input("norm", {2}, DType::kF32)}); }),
              HasSubstr("clip_scale.norm: got [2] f32; needed []"));
}

}  // namespace
}  // namespace colossus
