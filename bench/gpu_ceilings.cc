// What a GPU can do at most, for the shares that other numbers are of: one JSON line with the rate of a large copy
// (bytes read and written) and of large products on random numbers. The best of several, each long beside its launch.
//   gpu_ceilings [--bytes 4294967296] [--size 8192]
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <vector>

#include "base/rng.h"
#include "device/cuda/gemm.h"
#include "device/cuda/gpu.h"
#include "tensor/dtype.h"

namespace colossus {
namespace {

constexpr int kRepeats = 10;

// Seconds of the fastest of several runs of `work`.
template <class F>
Result<double> fastest(gpu::Stream stream, F&& work) {
  ASSIGN_OR_RETURN(const gpu::Event begin, gpu::make_event(true));
  ASSIGN_OR_RETURN(const gpu::Event end, gpu::make_event(true));
  double best = 1e30;
  for (int i = 0; i < kRepeats + 2; ++i) {
    gpu::record(stream, begin);
    work();
    gpu::record(stream, end);
    RETURN_IF_ERROR(gpu::synchronize(end));
    if (i >= 2) best = std::min(best, gpu::elapsed_seconds(begin, end));
  }
  gpu::destroy(begin);
  gpu::destroy(end);
  return best;
}

// Random normal numbers in bf16: products of zeros can run faster than real ones.
Result<std::byte*> random_matrix(gpu::Stream stream, int64_t count) {
  constexpr int64_t kDistinct = 1 << 20;
  ASSIGN_OR_RETURN(std::byte * host, gpu::allocate_pinned(kDistinct * 2));
  for (int64_t i = 0; i < kDistinct; ++i)
    reinterpret_cast<BFloat16*>(host)[i] =
        to_bf16(static_cast<float>(random_normal({.seed = 5, .purpose = RngPurpose::kTest}, static_cast<uint64_t>(i))));
  ASSIGN_OR_RETURN(std::byte * matrix, gpu::allocate(count * 2));
  for (int64_t at = 0; at < count; at += kDistinct)
    gpu::copy_to_device(stream, matrix + at * 2, host, std::min(kDistinct, count - at) * 2);
  RETURN_IF_ERROR(gpu::synchronize(stream));
  gpu::release_pinned(host);
  return matrix;
}

Status measure(int64_t num_bytes, int64_t size) {
  ASSIGN_OR_RETURN(const gpu::Properties properties, gpu::open(0));
  ASSIGN_OR_RETURN(const gpu::Stream stream, gpu::make_stream());
  ASSIGN_OR_RETURN(std::byte* const from, gpu::allocate(num_bytes));
  ASSIGN_OR_RETURN(std::byte* const to, gpu::allocate(num_bytes));
  gpu::set_zero(stream, from, num_bytes);
  ASSIGN_OR_RETURN(const double copy, fastest(stream, [&] { gpu::copy_on_device(stream, to, from, num_bytes); }));
  gpu::release(from);
  gpu::release(to);
  ASSIGN_OR_RETURN(const auto gemms, gpu::Gemms::make());
  ASSIGN_OR_RETURN(const int product,
                   gemms->prepare({.m = size, .n = size, .k = size, .operands = DType::kBF16, .result = DType::kBF16}));
  ASSIGN_OR_RETURN(std::byte* const a, random_matrix(stream, size * size));
  ASSIGN_OR_RETURN(std::byte* const b, random_matrix(stream, size * size));
  ASSIGN_OR_RETURN(std::byte* const d, gpu::allocate(size * size * 2));
  ASSIGN_OR_RETURN(const double seconds,
                   fastest(stream, [&] { gemms->run(stream, product, {.a = a, .b = b, .d = d}); }));
  RETURN_IF_ERROR(gemms->status());
  const double n = static_cast<double>(size);
  std::printf("{\"copy_gb_per_s\": %.1f, \"bf16_tflops\": %.1f}\n", 2e-9 * static_cast<double>(num_bytes) / copy,
              2e-12 * n * n * n / seconds);
  return ok_status();
}

}  // namespace
}  // namespace colossus

int main(int argc, char** argv) {
  CLI::App app("What this GPU can do");
  int64_t num_bytes = int64_t{4} << 30, size = 8192;
  app.add_option("--bytes", num_bytes);
  app.add_option("--size", size);
  CLI11_PARSE(app, argc, argv);
  const colossus::Status status = colossus::measure(num_bytes, size);
  if (!status.ok()) std::fprintf(stderr, "gpu_ceilings: %s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
