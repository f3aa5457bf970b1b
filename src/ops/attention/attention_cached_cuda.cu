#include "ops/attention/attention_cuda.h"

namespace colossus {
namespace {

// A thread for each pack of a new row.
template <class T, class C, int kSize>
__global__ void append_kernel(const T* k, const T* v, C* k_cache, C* v_cache, const int* held, int64_t width,
                              int64_t length, int64_t capacity, int64_t num_packs) {
  const int64_t pack = gpu::array_index();
  if (pack >= num_packs) return;
  const int64_t from = pack * kSize, row = from / width, sequence = row / length;
  const int64_t column = held[sequence] + row % length;
  // Contents that break the contract are written nowhere.
  if (column < 0 || column >= capacity) return;
  const int64_t to = (sequence * capacity + column) * width + from % width;
  float values[kSize];
  gpu::load_floats(k + from, values);
  gpu::store_floats(values, k_cache + to);
  gpu::load_floats(v + from, values);
  gpu::store_floats(values, v_cache + to);
}

void append_rows(const CudaCall& call) {
  using A = AttentionCached;
  const View &k = call.input(A::kK), &v = call.input(A::kV);
  const View &k_cache = call.input(A::kKCache), &v_cache = call.input(A::kVCache);
  const int64_t width = k.shape[2];
  const auto append = [&]<class T, class C, int kSize>(T, C, gpu::Elements<T, kSize>) {
    const int64_t num_packs = k.num_elements() / kSize;
    gpu::launch(gpu::array_launch(call.stream, num_packs), append_kernel<T, C, kSize>, k.as<T>(), v.as<T>(),
                k_cache.as<C>(), v_cache.as<C>(), call.input(A::kLengths).as<int32_t>(), width, k.shape[1],
                k_cache.shape[1], num_packs);
  };
  const bool narrow = k_cache.dtype == DType::kBF16;
  if (k.dtype == DType::kBF16) {
    if (narrow && width % 8 == 0)
      append(BFloat16{}, BFloat16{}, gpu::Elements<BFloat16, 8>{});
    else if (narrow)
      append(BFloat16{}, BFloat16{}, gpu::Elements<BFloat16, 1>{});
    else
      append(BFloat16{}, float{}, gpu::Elements<BFloat16, 1>{});
  } else if (narrow) {
    append(float{}, BFloat16{}, gpu::Elements<float, 1>{});
  } else {
    append(float{}, float{}, gpu::Elements<float, 1>{});
  }
}

}  // namespace

template <>
Status prepare_cuda(const AttentionCached& op, CudaPrepare&) {
  return check_plain_attention(op);
}

template <>
void run_cuda(const AttentionCached& op, const CudaCall& call) {
  using A = AttentionCached;
  const View &q = call.input(A::kQ), &k_cache = call.input(A::kKCache);
  ScoreRule rule(op, q.shape, k_cache.shape);
  rule.held = call.input(A::kLengths).as<int32_t>();
  append_rows(call);
  const AttentionViews views = {
      .q = &q, .k = &k_cache, .v = &call.input(A::kVCache), .o = &call.output(A::kO), .lse = nullptr};
  run_plain_attention(call.stream, rule, q.shape[0], views);
}

}  // namespace colossus
