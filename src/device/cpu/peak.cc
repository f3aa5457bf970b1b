#include "device/cpu/peak.h"

#include <algorithm>
#include <atomic>

#include "base/clock.h"
#include "base/platform.h"
#include "base/thread_pool.h"
#include "device/cpu/peak_simd.h"
#include "device/cpu/simd.h"
#include "tensor/buffer.h"

namespace colossus {
namespace {

constexpr int kFlopsRuns = 12;
constexpr double kFlopsRunSeconds = 4e-3;
constexpr int kReadRuns = 4;
constexpr int64_t kReadBytes = int64_t{256} << 20;

}  // namespace

double measure_peak_flops(int num_threads, DType dtype) {
  const bool dot = dtype == DType::kBF16 && isa_level() >= IsaLevel::kAvx512Bf16;
  const PeakKernels& kernels =
      dot ? dot_product_peak_kernels() : select_isa(peak_kernels<Avx512>(), peak_kernels<Avx2>());
  ThreadPool pool(num_threads);
  std::atomic<float> sink = 0;  // keeps the loops
  int64_t iterations = 10'000;
  double best = 0;
  for (int run = 0; run < kFlopsRuns; ++run) {
    const double start = monotonic_seconds();
    pool.run([&](int) { sink.store(kernels.multiply_add(iterations), std::memory_order_relaxed); });
    const double seconds = std::max(1e-9, monotonic_seconds() - start);
    best = std::max(best, static_cast<double>(kernels.flops_per_iteration * iterations * num_threads) / seconds);
    iterations = std::clamp<int64_t>(static_cast<int64_t>(static_cast<double>(iterations) * kFlopsRunSeconds / seconds),
                                     1000, 100 * iterations);
  }
  return best;
}

double measure_read_bandwidth(int num_threads) {
  Result<Buffer> buffer = Buffer::allocate(kReadBytes);
  if (!buffer.ok()) return 0;
  const PeakKernels& kernels = select_isa(peak_kernels<Avx512>(), peak_kernels<Avx2>());
  ThreadPool pool(num_threads);
  float* data = reinterpret_cast<float*>(buffer.value().data());
  const int64_t count = kReadBytes / static_cast<int64_t>(sizeof(float));
  // Untouched pages would all be the kernel's one page of zeros, which sits in the cache.
  pool.parallel_for(count, 1024, [&](int64_t begin, int64_t end) { std::fill(data + begin, data + end, 1.0F); });
  std::atomic<float> sink = 0;
  double best = 0;
  for (int run = 0; run < kReadRuns; ++run) {
    const double start = monotonic_seconds();
    pool.parallel_for(count, 1024, [&](int64_t begin, int64_t end) {
      sink.store(kernels.read(data + begin, end - begin), std::memory_order_relaxed);
    });
    best = std::max(best, static_cast<double>(kReadBytes) / std::max(1e-9, monotonic_seconds() - start));
  }
  return best;
}

}  // namespace colossus
