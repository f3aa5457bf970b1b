// Every case on every instruction set this processor has, against sums in double.
#include "device/cpu/gemm/gemm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "base/platform.h"
#include "base/rng.h"
#include "device/cpu/gemm/gemm_block.h"

namespace colossus {
namespace {

using gemm_internal::GemmKernels;

std::vector<GemmKernels> available_kernels() {
  std::vector<GemmKernels> all = {gemm_internal::gemm_kernels<Avx2>()};
  // The path of the dot product without the instruction.
  const auto add_pairs = [&all](GemmKernels kernels, const gemm_internal::TileFunctions& tiles, const char* name) {
    kernels.name = name;
    kernels.bf16 = tiles;
    kernels.pairs_in_a = true;
    all.push_back(kernels);
  };
  add_pairs(all[0], gemm_internal::pair_tiles<Avx2>(), "avx2 in pairs");
  if (isa_level() >= IsaLevel::kAvx512) {
    all.push_back(gemm_internal::gemm_kernels<Avx512>());
    add_pairs(all.back(), gemm_internal::pair_tiles<Avx512>(), "avx512 in pairs");
  }
  if (isa_level() >= IsaLevel::kAvx512Bf16) all.push_back(gemm_internal::active_gemm_kernels());
  return all;
}

struct AlignedBytes {
  explicit AlignedBytes(int64_t num_bytes)
      : data(static_cast<std::byte*>(std::aligned_alloc(64, static_cast<size_t>((num_bytes + 63) / 64 * 64 + 64)))) {}
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> data;
};

// A matrix of random numbers as stored: `rows` x `columns` in an array with unused elements behind each row, which
// spoil every sum they get into (`poison`).
struct Stored {
  Stored(int64_t rows, int64_t columns, DType dtype, uint64_t seed, int64_t gap = 3, bool poison = true)
      : ld(columns + gap),
        dtype(dtype),
        floats(static_cast<size_t>(std::max<int64_t>(0, rows * ld - gap))),
        halves(floats.size()) {
    for (size_t i = 0; i < floats.size(); ++i) {
      floats[i] = random_uniform({.seed = seed, .purpose = RngPurpose::kTest}, i) - 0.5F;
      if (poison && static_cast<int64_t>(i) % ld >= columns) floats[i] = std::nanf("");
      halves[i] = to_bf16(floats[i]);
    }
  }
  float at(int64_t row, int64_t column) const {
    const size_t i = static_cast<size_t>(row * ld + column);
    return dtype == DType::kBF16 ? to_float(halves[i]) : floats[i];
  }
  void* data() { return dtype == DType::kBF16 ? static_cast<void*>(halves.data()) : floats.data(); }
  MatrixRef ref(bool transposed) { return {data(), ld, dtype, transposed}; }

  int64_t ld;
  DType dtype;
  std::vector<float> floats;
  std::vector<BFloat16> halves;
};

struct Case {
  int64_t m = 0, n = 0, k = 0;
  DType a = DType::kF32, b = DType::kF32, compute = DType::kF32, c = DType::kF32;
  bool transpose_a = false, transpose_b = false, packed = false, accumulate = false, bias = false, addend = false;
  float alpha = 1.0F;
  GemmActivation activation = GemmActivation::kNone;

  std::string describe() const {
    return std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k) + " a" + std::string(dtype_name(a)) +
           " b" + std::string(dtype_name(b)) + " c" + std::string(dtype_name(c)) + " compute " +
           std::string(dtype_name(compute)) + (transpose_a ? " ta" : "") + (transpose_b ? " tb" : "") +
           (packed ? " packed" : "") + (accumulate ? " accumulate" : "") + (bias ? " bias" : "") +
           (addend ? " addend" : "") + " activation " + std::to_string(static_cast<int>(activation));
  }
};

double activate(GemmActivation activation, double x) {
  switch (activation) {
    case GemmActivation::kNone: return x;
    case GemmActivation::kGeluTanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case GemmActivation::kRelu2: return x > 0 ? x * x : 0;
    case GemmActivation::kSilu: return x / (1 + std::exp(-x));
  }
  return x;
}

// The operands of a case and what C should be.
struct Problem {
  explicit Problem(const Case& c)
      : spec(c),
        a(c.transpose_a ? c.k : c.m, c.transpose_a ? c.m : c.k, c.a, 1),
        b(c.transpose_b ? c.n : c.k, c.transpose_b ? c.k : c.n, c.b, 2),
        c_before(c.m, c.n, c.c, 3, 5, false),
        c(c_before),
        addend(c.m, c.n, c.c, 4),
        bias(1, c.n, DType::kF32, 5),
        packed(packed_bytes(c.k, c.n, c.compute)) {
    if (c.packed) pack_b_serial(b.ref(c.transpose_b), c.k, c.n, c.compute, packed.data.get());
  }

  GemmArgs args() {
    GemmArgs args = {.m = spec.m, .n = spec.n, .k = spec.k};
    args.a = a.ref(spec.transpose_a);
    args.b = b.ref(spec.transpose_b);
    args.compute = spec.compute;
    args.c = c.data();
    args.ldc = c.ld;
    args.c_dtype = spec.c;
    args.accumulate = spec.accumulate;
    args.alpha = spec.alpha;
    args.activation = spec.activation;
    if (spec.packed) args.packed_b = {packed.data.get(), spec.k, spec.n, spec.compute};
    if (spec.bias) args.bias = bias.floats.data();
    if (spec.addend) {
      args.addend = addend.data();
      args.ld_addend = addend.ld;
    }
    return args;
  }

  double want(int64_t row, int64_t column) const {
    const auto rounded = [this](float x) -> double { return spec.compute == DType::kBF16 ? to_float(to_bf16(x)) : x; };
    double sum = 0;
    for (int64_t i = 0; i < spec.k; ++i)
      sum += rounded(spec.transpose_a ? a.at(i, row) : a.at(row, i)) *
             rounded(spec.transpose_b ? b.at(column, i) : b.at(i, column));
    sum *= static_cast<double>(spec.alpha);
    if (spec.bias) sum += bias.at(0, column);
    sum = activate(spec.activation, sum);
    if (spec.addend) sum += addend.at(row, column);
    if (spec.accumulate) sum += c_before.at(row, column);
    return sum;
  }

  void expect_right(const std::string& name) const {
    const double tolerance =
        (spec.c == DType::kBF16 ? 1.0 / 256 : 0) + 1e-6 * std::sqrt(static_cast<double>(spec.k) + 1);
    // Every element of small results, a scattering of large ones.
    const int64_t step = std::max<int64_t>(1, spec.m * spec.n * spec.k / 400'000);
    for (int64_t i = 0; i < spec.m * spec.n; i += step) {
      const int64_t row = i / spec.n, column = i % spec.n;
      const double expected = want(row, column);
      ASSERT_NEAR(c.at(row, column), expected, tolerance * (1 + std::abs(expected)))
          << name << " " << spec.describe() << " at " << row << ", " << column;
    }
    for (int64_t row = 0; row + 1 < spec.m; ++row)  // what lies between the rows is not ours
      for (int64_t column = spec.n; column < c.ld; ++column)
        ASSERT_EQ(c.at(row, column), c_before.at(row, column)) << name << " " << spec.describe();
  }

  Case spec;
  Stored a, b, c_before, c, addend, bias;
  AlignedBytes packed;
};

void check_on_every_instruction_set(const Case& spec) {
  AlignedBytes workspace(gemm_workspace_bytes());
  for (const GemmKernels& kernels : available_kernels()) {
    Problem problem(spec);
    const GemmArgs args = problem.args();
    gemm_internal::multiply_rectangle(kernels, args, {0, spec.m, 0, gemm_internal::num_panels(spec.n)},
                                      workspace.data.get());
    problem.expect_right(kernels.name);
    if (testing::Test::HasFatalFailure()) return;
  }
}

// Every way to store the operands, at sizes that leave odd ends everywhere.
TEST(Gemm, EveryLayoutAndTypeAtOddSizes) {
  const int64_t sizes[][3] = {{1, 1, 1}, {14, 32, 2}, {17, 33, 13}, {29, 70, 61}, {5, 97, 35}};
  for (const auto& [m, n, k] : sizes) {
    for (int bits = 0; bits < 128; ++bits) {
      const auto bit = [bits](int i) { return (bits >> i & 1) != 0; };
      check_on_every_instruction_set({.m = m,
                                      .n = n,
                                      .k = k,
                                      .a = bit(0) ? DType::kBF16 : DType::kF32,
                                      .b = bit(1) ? DType::kBF16 : DType::kF32,
                                      .compute = bit(2) ? DType::kBF16 : DType::kF32,
                                      .c = bit(3) ? DType::kBF16 : DType::kF32,
                                      .transpose_a = bit(4),
                                      .transpose_b = bit(5),
                                      .packed = bit(6)});
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Gemm, EveryNumberOfRows) {
  for (int64_t m = 1; m <= 30; ++m)
    for (DType compute : {DType::kF32, DType::kBF16})
      for (bool transpose_a : {false, true}) {
        check_on_every_instruction_set(
            {.m = m, .n = 40, .k = 9, .compute = compute, .transpose_a = transpose_a, .packed = true});
        if (HasFatalFailure()) return;
      }
}

// Several blocks along each side: 384 or 768 of k, 224 rows, 256 columns.
TEST(Gemm, SeveralBlocks) {
  for (DType compute : {DType::kF32, DType::kBF16})
    for (bool transpose_a : {false, true})
      for (bool packed : {false, true}) {
        check_on_every_instruction_set({.m = 241,
                                        .n = 273,
                                        .k = 801,
                                        .a = compute,
                                        .b = compute,
                                        .compute = compute,
                                        .c = transpose_a == packed ? DType::kF32 : DType::kBF16,
                                        .transpose_a = transpose_a,
                                        .packed = packed});
        if (HasFatalFailure()) return;
      }
}

// So many columns that a row-major A is packed instead of read in place; with one block of k and with several.
TEST(Gemm, ManyColumns) {
  for (int64_t k : {17, 401}) check_on_every_instruction_set({.m = 241, .n = 800, .k = k, .packed = true});
}

TEST(Gemm, Epilogues) {
  for (int64_t k : {int64_t{0}, int64_t{7}, int64_t{800}})
    for (int bits = 0; bits < 32; ++bits) {
      const auto bit = [bits](int i) { return (bits >> i & 1) != 0; };
      for (auto activation :
           {GemmActivation::kNone, GemmActivation::kGeluTanh, GemmActivation::kRelu2, GemmActivation::kSilu}) {
        if (bit(0) && bit(3)) continue;  // only fp32 results accumulate
        check_on_every_instruction_set({.m = 19,
                                        .n = 75,
                                        .k = k,
                                        .c = bit(0) ? DType::kBF16 : DType::kF32,
                                        .packed = bit(4),
                                        .accumulate = bit(3),
                                        .bias = bit(1),
                                        .addend = bit(2),
                                        .alpha = bit(1) ? 0.25F : 1.0F,
                                        .activation = activation});
        if (HasFatalFailure()) return;
      }
    }
}

TEST(Gemm, EmptyProblemsTouchNothing) {
  for (const auto& [m, n] : {std::pair<int64_t, int64_t>{0, 5}, {5, 0}})
    check_on_every_instruction_set({.m = m, .n = n, .k = 4});
}

std::vector<float> run_with_threads(const Case& spec, int num_threads) {
  Problem problem(spec);
  ThreadPool pool(num_threads);
  AlignedBytes workspace(gemm_workspace_bytes() * num_threads);
  if (spec.packed)
    pack_b(problem.b.ref(spec.transpose_b), spec.k, spec.n, spec.compute, problem.packed.data.get(), pool);
  gemm(problem.args(), pool, workspace.data.get());
  problem.expect_right("threads");
  std::vector<float> result;
  for (int64_t i = 0; i < spec.m * spec.n; ++i) result.push_back(problem.c.at(i / spec.n, i % spec.n));
  return result;
}

// Parts come in any order, by themselves: rows with other addresses.
TEST(Gemm, PackingByPartsIsPackingAtOnce) {
  for (const auto& [k, n] : {std::pair<int64_t, int64_t>{1, 1}, {7, 33}, {64, 31}, {131, 197}, {16, 640}, {96, 32}})
    for (const bool transposed : {false, true})
      for (const DType from : {DType::kF32, DType::kBF16})
        for (const DType to : {DType::kF32, DType::kBF16}) {
          Stored b(transposed ? n : k, transposed ? k : n, from, 7);
          const auto size = static_cast<size_t>(packed_bytes(k, n, to));
          AlignedBytes whole(packed_bytes(k, n, to)), parts(packed_bytes(k, n, to));
          std::fill_n(parts.data.get(), size, std::byte{0xee});
          pack_b_serial(b.ref(transposed), k, n, to, whole.data.get());
          const int64_t rows = transposed ? n : k, step = 2 * pack_rows(transposed);
          for (int64_t first = (rows - 1) / step * step; first >= 0; first -= step) {
            MatrixRef part = b.ref(transposed);
            part.data = static_cast<const std::byte*>(part.data) + first * b.ld * dtype_bytes(from);
            pack_b_part(part, first, std::min(step, rows - first), k, n, to, parts.data.get());
          }
          EXPECT_TRUE(std::equal(whole.data.get(), whole.data.get() + size, parts.data.get()))
              << k << " x " << n << (transposed ? " transposed " : " ") << dtype_name(from) << " " << dtype_name(to);
        }
}

TEST(Gemm, BitsDoNotDependOnThreads) {
  const Case cases[] = {
      {.m = 128, .n = 128, .k = 2000, .transpose_a = true},  // a narrow layer's weight gradient
      {.m = 300, .n = 200, .k = 150, .packed = true},
      {.m = 1, .n = 3000, .k = 500, .a = DType::kBF16, .b = DType::kBF16, .compute = DType::kBF16, .packed = true},
      {.m = 3000, .n = 20, .k = 100, .compute = DType::kBF16, .c = DType::kBF16},
  };
  for (const Case& spec : cases) {
    const std::vector<float> one = run_with_threads(spec, 1);
    EXPECT_EQ(one, run_with_threads(spec, 1)) << spec.describe();
    for (int num_threads : {2, 3, 5})
      EXPECT_EQ(one, run_with_threads(spec, num_threads)) << spec.describe() << num_threads;
  }
}

// A row's result does not depend on the rows that are computed with it: one token decodes as it trained.
TEST(Gemm, BitsDoNotDependOnOtherRows) {
  const Case all = {.m = 100, .n = 90, .k = 1000, .packed = true};
  Problem whole(all), parts(all);
  AlignedBytes workspace(gemm_workspace_bytes());
  gemm_serial(whole.args(), workspace.data.get());
  for (int64_t row = 0; row < all.m;) {
    GemmArgs args = parts.args();
    args.m = std::min<int64_t>(1 + row % 5, all.m - row);
    args.a.data = static_cast<float*>(parts.a.data()) + row * parts.a.ld;
    args.c = static_cast<float*>(parts.c.data()) + row * parts.c.ld;
    gemm_serial(args, workspace.data.get());
    row += args.m;
  }
  EXPECT_EQ(whole.c.floats, parts.c.floats);
}

TEST(Gemm, GroupsOfAnySizes) {
  std::vector<Case> cases;
  for (int64_t rows : {17, 0, 300, 1, 64})
    cases.push_back({.m = rows, .n = 130, .k = 40, .compute = DType::kBF16, .c = DType::kBF16, .packed = true});
  for (int64_t tokens : {0, 5, 700})
    cases.push_back({.m = 40, .n = 100, .k = tokens, .transpose_a = true, .accumulate = true});
  std::vector<std::vector<float>> one;
  for (int num_threads : {1, 2, 3, 7}) {
    std::vector<std::unique_ptr<Problem>> problems;
    std::vector<GemmArgs> args;
    for (const Case& spec : cases) {
      problems.push_back(std::make_unique<Problem>(spec));
      args.push_back(problems.back()->args());
    }
    ThreadPool pool(num_threads);
    AlignedBytes workspace(gemm_workspace_bytes() * num_threads);
    gemm_grouped(args, pool, workspace.data.get());
    for (size_t i = 0; i < cases.size(); ++i) {
      problems[i]->expect_right("group of " + std::to_string(num_threads) + " threads");
      std::vector<float> bits;
      for (int64_t j = 0; j < cases[i].m * cases[i].n; ++j)
        bits.push_back(problems[i]->c.at(j / cases[i].n, j % cases[i].n));
      if (num_threads == 1)
        one.push_back(bits);
      else
        EXPECT_EQ(one[i], bits) << cases[i].describe() << " with " << num_threads;
    }
  }
}

}  // namespace
}  // namespace colossus
