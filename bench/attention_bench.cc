// Speed of attention on this machine's cores: GFLOP/s of the work causal attention needs (pairs of a query and a key it
// sees; 2 matrix products forward, 5 backward), and their share of what the cores can do in registers.
#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "base/clock.h"
#include "device/cpu/cpu_kernel.h"
#include "device/cpu/peak.h"
#include "ops/attention/attention.h"

namespace colossus {
namespace {

struct BenchCase {
  int64_t batch, positions, heads, kv_heads, dim;
};

// A tensor of its own, filled with random normal numbers.
class OwnedTensor {
 public:
  OwnedTensor(Shape shape, DType dtype) : memory_(static_cast<size_t>(shape.num_elements() * dtype_bytes(dtype)) + 64) {
    void* aligned = memory_.data();
    size_t space = memory_.size();
    std::align(64, memory_.size() - 64, aligned, space);
    view_ = {static_cast<std::byte*>(aligned), std::move(shape), dtype};
  }
  OwnedTensor(const OwnedTensor&) = delete;
  const View& view() const { return view_; }
  void fill(uint32_t seed) {
    uint32_t state = seed;
    for (int64_t i = 0; i < view_.num_elements(); ++i) {
      double sum = -6;
      for (int n = 0; n < 12; ++n)
        sum += static_cast<double>((state = state * 1664525U + 1013904223U) >> 8) / (1 << 24);
      view_.set(i, sum);
    }
  }

 private:
  std::vector<std::byte> memory_;
  View view_;
};

struct Buffers {
  std::vector<std::byte> memory;
  std::byte* aligned(int64_t bytes) {
    memory.resize(static_cast<size_t>(bytes) + 64);
    return memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  }
};

// One thread is timed by the processor time it got, which others on the machine hardly change; several by the clock.
double now(const ThreadPool& pool) {
  if (pool.num_threads() > 1) return monotonic_seconds();
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Seconds of the fastest run, as the peak is that of the fastest run.
template <class Run>
double seconds_of(const ThreadPool& pool, Run run) {
  double best = 1e9;
  int num_runs = 0;
  run();
  const double begin = now(pool);
  while (num_runs++ < 5 || now(pool) - begin < 0.5) {
    const double start = now(pool);
    run();
    best = std::min(best, now(pool) - start);
  }
  return best;
}

void bench(const BenchCase& c, DType dtype, double softcap, ThreadPool& pool, double peak) {
  const Shape wide = {c.batch, c.positions, c.heads * c.dim}, narrow = {c.batch, c.positions, c.kv_heads * c.dim};
  OwnedTensor q(wide, dtype), k(narrow, dtype), v(narrow, dtype), o(wide, dtype), grad(wide, dtype);
  OwnedTensor dq(wide, dtype), dk(narrow, dtype), dv(narrow, dtype), lse({c.batch, c.heads, c.positions}, DType::kF32);
  uint32_t seed = 1;
  for (OwnedTensor* tensor : {&q, &k, &v, &grad}) tensor->fill(seed++);
  const Attention op = {
      {.num_heads = c.heads, .num_kv_heads = c.kv_heads, .head_dim = c.dim, .scale = 0.125, .softcap = softcap}};
  const AttentionGrad grad_op = {op};
  const auto type = [](const OwnedTensor& t) { return std::optional<TensorType>({t.view().shape, t.view().dtype}); };
  CpuPrepare prepare(OpShapes({type(q), type(k), type(v)}, {type(o), type(lse)}), pool.num_threads());
  prepare_cpu(op, prepare);
  CpuPrepare grad_prepare(
      OpShapes({type(grad), type(q), type(k), type(v), type(o), type(lse)}, {type(dq), type(dk), type(dv)}),
      pool.num_threads());
  prepare_cpu(grad_op, grad_prepare);
  Buffers buffers;
  std::byte* workspace = buffers.aligned(std::max(prepare.workspace_bytes, grad_prepare.workspace_bytes));
  const View inputs[] = {q.view(), k.view(), v.view()}, outputs[] = {o.view(), lse.view()};
  const View grad_inputs[] = {grad.view(), q.view(), k.view(), v.view(), o.view(), lse.view()};
  const View grad_outputs[] = {dq.view(), dk.view(), dv.view()};
  const CpuCall call(pool, inputs, 3, outputs, 2, workspace, nullptr);
  const CpuCall grad_call(pool, grad_inputs, 6, grad_outputs, 3, workspace, nullptr);
  const double forward = cost(op, prepare.shapes).flops / seconds_of(pool, [&] { run_cpu(op, call); });
  const double backward =
      cost(grad_op, grad_prepare.shapes).flops / seconds_of(pool, [&] { run_cpu(grad_op, grad_call); });
  fmt::print(
      "B={:<3} T={:<5} H={:<3} K={:<3} D={:<4} {:<4} softcap {:<3} forward {:6.1f} GFLOP/s {:4.0f} %   backward "
      "{:6.1f} GFLOP/s {:4.0f} %\n",
      c.batch, c.positions, c.heads, c.kv_heads, c.dim, dtype_name(dtype), softcap, forward / 1e9, 100 * forward / peak,
      backward / 1e9, 100 * backward / peak);
}

// One token against a full cache: bytes of keys and values a second.
void bench_decode(const BenchCase& c, DType dtype, ThreadPool& pool, double bandwidth) {
  const Shape wide = {c.batch, 1, c.heads * c.dim}, narrow = {c.batch, 1, c.kv_heads * c.dim};
  const Shape cache = {c.batch, c.positions, c.kv_heads * c.dim};
  OwnedTensor q(wide, dtype), k(narrow, dtype), v(narrow, dtype), o(wide, dtype), k_cache(cache, dtype),
      v_cache(cache, dtype);
  OwnedTensor held({c.batch}, DType::kI32);
  uint32_t seed = 1;
  for (OwnedTensor* tensor : {&q, &k, &v, &k_cache, &v_cache}) tensor->fill(seed++);
  for (int64_t b = 0; b < c.batch; ++b) held.view().set(b, static_cast<double>(c.positions - 1));
  const AttentionCached op = {{.num_heads = c.heads, .num_kv_heads = c.kv_heads, .head_dim = c.dim, .scale = 0.125}};
  const View inputs[] = {q.view(), k.view(), v.view(), k_cache.view(), v_cache.view(), held.view()},
             outputs[] = {o.view()};
  std::vector<std::optional<TensorType>> types;
  for (const View& view : inputs) types.push_back(TensorType{view.shape, view.dtype});
  CpuPrepare prepare(OpShapes(types, {TensorType{wide, dtype}}), pool.num_threads());
  prepare_cpu(op, prepare);
  Buffers buffers;
  const CpuCall call(pool, inputs, 6, outputs, 1, buffers.aligned(prepare.workspace_bytes), nullptr);
  const double rate = static_cast<double>(k_cache.view().num_bytes() + v_cache.view().num_bytes()) /
                      seconds_of(pool, [&] { run_cpu(op, call); });
  fmt::print("decode B={:<3} cache={:<5} H={:<3} K={:<3} D={:<4} {:<4} {:6.2f} GB/s {:4.0f} % of read bandwidth\n",
             c.batch, c.positions, c.heads, c.kv_heads, c.dim, dtype_name(dtype), rate / 1e9, 100 * rate / bandwidth);
}

}  // namespace
}  // namespace colossus

// attention_bench [threads]
int main(int argc, char** argv) {
  using namespace colossus;
  ThreadPool pool(argc > 1 ? std::max(1, std::atoi(argv[1])) : static_cast<int>(std::thread::hardware_concurrency()));
  const double peak = measure_peak_flops(pool.num_threads(), DType::kF32);
  fmt::print("{} threads, peak {:.1f} GFLOP/s fp32\n", pool.num_threads(), peak / 1e9);
  const BenchCase cases[] = {
      {64, 256, 6, 6, 64}, {4, 1024, 12, 12, 64}, {12, 64, 4, 4, 32}, {8, 512, 8, 4, 64}, {1, 2048, 8, 8, 128}};
  for (const BenchCase& c : cases) bench(c, DType::kF32, 0, pool, peak);
  for (const BenchCase& c : cases) bench(c, DType::kBF16, 0, pool, peak);
  bench(cases[1], DType::kF32, 30, pool, peak);
  const double bandwidth = measure_read_bandwidth(pool.num_threads());
  fmt::print("read bandwidth {:.1f} GB/s\n", bandwidth / 1e9);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    bench_decode({1, 4096, 12, 12, 64}, dtype, pool, bandwidth);
    bench_decode({8, 4096, 8, 8, 128}, dtype, pool, bandwidth);
    bench_decode({8, 4096, 48, 8, 128}, dtype, pool, bandwidth);
  }
  return 0;
}
