// Matrix multiplications of training and decoding, as a share of what this machine can do in registers (or, where the
// weights stream from memory, of what it can read). Peaks are measured right around each of several rounds, since other
// programs may share the machine; printed is the round with the median share, and the range of shares.
//
//   gemm_bench [threads] [f32|bf16] [filter]
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/platform.h"
#include "base/thread_pool.h"
#include "device/cpu/gemm/gemm.h"
#include "device/cpu/peak.h"
#include "tensor/buffer.h"

namespace colossus {
namespace {

struct BenchShape {
  const char* name;
  int64_t m, n, k;
  enum Kind { kForward, kInputGrad, kWeightGrad, kDecode, kAttention } kind;
};

constexpr BenchShape kShapes[] = {
    {"tiny qkv", 768, 384, 128, BenchShape::kForward},
    {"tiny mlp down", 768, 128, 512, BenchShape::kForward},
    {"small square", 768, 128, 128, BenchShape::kForward},
    {"tiny weight grad", 128, 128, 768, BenchShape::kWeightGrad},
    {"narrow weight grad", 128, 128, 16384, BenchShape::kWeightGrad},
    {"baby qkv", 16384, 1152, 384, BenchShape::kForward},
    {"baby out", 16384, 384, 384, BenchShape::kForward},
    {"baby mlp up", 16384, 1536, 384, BenchShape::kForward},
    {"baby mlp down", 16384, 384, 1536, BenchShape::kForward},
    {"baby mlp up grad", 16384, 384, 1536, BenchShape::kInputGrad},
    {"baby weight grad", 384, 1536, 16384, BenchShape::kWeightGrad},
    {"gpt2 mlp up", 4096, 3072, 768, BenchShape::kForward},
    {"gpt2 mlp down", 4096, 768, 3072, BenchShape::kForward},
    {"gpt2 weight grad", 768, 3072, 4096, BenchShape::kWeightGrad},
    {"gpt2 head", 1024, 50304, 768, BenchShape::kForward},
    {"large square", 2048, 2048, 2048, BenchShape::kForward},
    {"wide", 1024, 4096, 4096, BenchShape::kForward},
    {"attention scores", 256, 256, 64, BenchShape::kAttention},
    {"decode head", 1, 50304, 768, BenchShape::kDecode},
    {"decode mlp", 1, 16384, 4096, BenchShape::kDecode},
    {"decode mlp, 4 rows", 4, 16384, 4096, BenchShape::kDecode},
};

// Memory for the bench; too little of it is the end.
std::byte* take(int64_t num_bytes, std::vector<Buffer>& owner) {
  Result<Buffer> buffer = Buffer::allocate(num_bytes + 64);
  if (!buffer.ok()) {
    fmt::print(stderr, "{}\n", buffer.status().message());
    std::exit(1);
  }
  owner.push_back(std::move(buffer).value());
  return owner.back().data();
}

std::byte* random_matrix(int64_t count, DType dtype, std::vector<Buffer>& owner) {
  std::byte* data = take(count * dtype_bytes(dtype), owner);
  uint32_t state = 12345;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525U + 1013904223U;
    const float x = static_cast<float>(state >> 8) / 16777216.0F - 0.5F;
    if (dtype == DType::kBF16)
      reinterpret_cast<BFloat16*>(data)[i] = to_bf16(x);
    else
      reinterpret_cast<float*>(data)[i] = x;
  }
  return data;
}

constexpr int kRounds = 5;
constexpr double kRoundSeconds = 0.12;

struct Round {
  double rate = 0;   // FLOP/s or bytes/s
  double share = 0;  // of the peak
};

template <class F>
double best_seconds(const F& once) {
  double best = 1e9;
  for (double until = monotonic_seconds() + kRoundSeconds; monotonic_seconds() < until;) {
    const double start = monotonic_seconds();
    once();
    best = std::min(best, monotonic_seconds() - start);
  }
  return best;
}

void run_shape(const BenchShape& shape, DType dtype, ThreadPool& pool) {
  std::vector<Buffer> owner;
  const bool weight_grad = shape.kind == BenchShape::kWeightGrad;
  const bool attention = shape.kind == BenchShape::kAttention;
  const bool input_grad = shape.kind == BenchShape::kInputGrad;
  GemmArgs args = {.m = shape.m, .n = shape.n, .k = shape.k};
  args.a = {random_matrix(shape.m * shape.k, dtype, owner), weight_grad ? shape.m : shape.k, dtype, weight_grad};
  const bool stored_transposed = attention || input_grad;
  args.b = {random_matrix(shape.n * shape.k, dtype, owner), stored_transposed ? shape.k : shape.n, dtype,
            stored_transposed};
  args.compute = dtype;
  args.c_dtype = weight_grad ? DType::kF32 : dtype;
  args.c = take(shape.m * shape.n * 4, owner);
  args.ldc = shape.n;
  args.accumulate = weight_grad;
  double pack_seconds = 0;
  if (!weight_grad && !attention) {
    std::byte* packed = take(packed_bytes(shape.k, shape.n, dtype), owner);
    for (int i = 0; i < 3; ++i) {
      const double start = monotonic_seconds();
      pack_b(args.b, shape.k, shape.n, dtype, packed, pool);
      pack_seconds = monotonic_seconds() - start;
    }
    args.packed_b = {packed, shape.k, shape.n, dtype};
  }
  std::byte* workspace = take(gemm_workspace_bytes() * pool.num_threads(), owner);

  const int num_threads = attention ? 1 : pool.num_threads();
  const double flops = 2.0 * static_cast<double>(shape.m * shape.n) * static_cast<double>(shape.k);
  const bool decode = shape.kind == BenchShape::kDecode;
  const auto measure_peak = [&] {
    return decode ? measure_read_bandwidth(num_threads) : measure_peak_flops(num_threads, dtype);
  };
  const auto once = [&] { attention ? gemm_serial(args, workspace) : gemm(args, pool, workspace); };
  once();
  const double work = decode ? static_cast<double>(packed_bytes(shape.k, shape.n, dtype)) : flops;
  // The clock and the neighbours change within seconds: each round is compared with the peaks right around it.
  std::vector<Round> rounds;
  double before = measure_peak();
  for (int i = 0; i < kRounds; ++i) {
    const double rate = work / best_seconds(once);
    const double after = measure_peak();
    rounds.push_back({rate, 2 * rate / (before + after)});
    before = after;
  }
  std::sort(rounds.begin(), rounds.end(), [](const Round& a, const Round& b) { return a.share < b.share; });
  const Round& median = rounds[kRounds / 2];
  fmt::print("{:20} {:>6} x {:>6} x {:>6}  {:>8.1f} {}  {:>5.1f} % of the peak ({:.1f} to {:.1f} %){}\n", shape.name,
             shape.m, shape.n, shape.k, median.rate / 1e9, decode ? "GB/s   " : "GFLOP/s", 100 * median.share,
             100 * rounds.front().share, 100 * rounds.back().share,
             pack_seconds > 0 ? fmt::format("   pack {:.2f} x", pack_seconds * median.rate / work) : "");
  std::fflush(stdout);
}

int bench_main(int argc, char** argv) {
  const int num_threads = argc > 1 ? std::max(1, std::atoi(argv[1])) : num_usable_cores();
  const DType dtype = argc > 2 && std::strcmp(argv[2], "bf16") == 0 ? DType::kBF16 : DType::kF32;
  const std::string filter = argc > 3 ? argv[3] : "";
  ThreadPool pool(num_threads, true);
  fmt::print("{} on {}, {} threads, {}; M x N x K\n", isa_level_name(isa_level()), cpu_model_name(), num_threads,
             dtype_name(dtype));
  for (const BenchShape& shape : kShapes)
    if (std::string(shape.name).find(filter) != std::string::npos) run_shape(shape, dtype, pool);
  return 0;
}

}  // namespace
}  // namespace colossus

int main(int argc, char** argv) { return colossus::bench_main(argc, argv); }
