#include "device/cpu/array_simd.h"

#include "device/cpu/simd.h"

namespace colossus {
namespace {

F32 same(F32 x) { return x; }

template <F32 (*kFunction)(F32), class From, class To>
void map(const From* x, To* y, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) kFunction(F32::load(x + i)).store(y + i);
  if (const int left = static_cast<int>(count - i)) kFunction(F32::load_first(x + i, left)).store_first(y + i, left);
}

void add(const float* a, const float* b, float* sum, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) (F32::load(a + i) + F32::load(b + i)).store(sum + i);
  if (const int left = static_cast<int>(count - i))
    (F32::load_first(a + i, left) + F32::load_first(b + i, left)).store_first(sum + i, left);
}

float sum(const float* x, int64_t count) {
  F32 total = F32::zero();
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) total = total + F32::load(x + i);
  if (const int left = static_cast<int>(count - i)) total = total + F32::load_first(x + i, left);
  return reduce_add(total);
}

float max_of(const float* x, int64_t count) {
  F32 largest = F32::broadcast(-__builtin_inff());
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) largest = max(largest, F32::load(x + i));
  float result = reduce_max(largest);
  for (; i < count; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

}  // namespace

template <>
const ArrayKernels& array_kernels<Isa>() {
  static constexpr ArrayKernels kernels = {
      .exp = map<exp>,
      .tanh = map<tanh>,
      .sigmoid = map<sigmoid>,
      .log = map<log>,
      .rsqrt = map<rsqrt>,
      .add = add,
      .to_bf16 = map<same>,
      .to_f32 = map<same>,
      .sum = sum,
      .max = max_of,
  };
  return kernels;
}

}  // namespace colossus
