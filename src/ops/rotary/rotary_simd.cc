#include "ops/rotary/rotary_simd.h"

#include "device/cpu/row_loops_simd.h"

namespace colossus {
namespace {

// x = n pi/2 + r, |r| <= pi/4 and a little. pi/2 is taken in two pieces of 24 bits: the first product and difference
// are exact in an fma (both terms are multiples of 2^-23 and the difference is under 2), so r has only the error of the
// second.
F32 reduce(F32 x, F32& n) {
  n = round(x * F32::broadcast(0.636619772F));
  const F32 r = fma(n, F32::broadcast(-0x1.921fb6p+0F), x);
  return fma(n, F32::broadcast(0x1.777a5cp-25F), r);
}

// Taylor series: the terms left out are under 3e-9 on the interval.
F32 sine_near_zero(F32 r, F32 z) {
  F32 p = F32::broadcast(1.0F / 362880);
  p = fma(p, z, F32::broadcast(-1.0F / 5040));
  p = fma(p, z, F32::broadcast(1.0F / 120));
  p = fma(p, z, F32::broadcast(-1.0F / 6));
  return fma(p * z, r, r);
}
F32 cosine_near_zero(F32 z) {
  F32 p = F32::broadcast(-1.0F / 3628800);
  p = fma(p, z, F32::broadcast(1.0F / 40320));
  p = fma(p, z, F32::broadcast(-1.0F / 720));
  p = fma(p, z, F32::broadcast(1.0F / 24));
  p = fma(p, z, F32::broadcast(-0.5F));
  return fma(p, z, F32::broadcast(1.0F));
}

void sine_and_cosine(F32 x, F32& sine, F32& cosine) {
  F32 n;
  const F32 r = reduce(x, n), z = r * r;
  const F32 s = sine_near_zero(r, z), c = cosine_near_zero(z);
  // n mod 4 as -2 ... 2: quarter turns, exact in floats.
  const F32 quarter = fma(round(n * F32::broadcast(0.25F)), F32::broadcast(-4.0F), n);
  const F32::Mask swap = abs(quarter) == F32::broadcast(1.0F);
  const F32::Mask opposite = abs(quarter) == F32::broadcast(2.0F);
  const F32 a = select(swap, c, s), b = select(swap, s, c);
  // sine: s, c, -s, -c and cosine: c, -s, -c, s for 0, 1, 2, -1 quarter turns.
  const F32::Mask negative_sine = quarter == F32::broadcast(-1.0F), negative_cosine = quarter == F32::broadcast(1.0F);
  sine = select(opposite, -a, select(negative_sine, -a, a));
  cosine = select(opposite, -b, select(negative_cosine, -b, b));
}

void angles(float position, const float* frequencies, int64_t count, float* cosines, float* sines) {
  const F32 p = F32::broadcast(position);
  for_each_vector(count, [=](auto lanes, int64_t i) {
    F32 s, c;
    sine_and_cosine(p * lanes.load(frequencies + i), s, c);
    lanes.store(c, cosines + i);
    lanes.store(s, sines + i);
  });
}

template <class T>
void turn(const T* x, const float* cosines, const float* sines, int64_t num_heads, int64_t half, T* y) {
  for (int64_t head = 0; head < num_heads; ++head, x += 2 * half, y += 2 * half)
    for_each_vector(half, [=](auto lanes, int64_t i) {
      const F32 a = lanes.load(x + i), b = lanes.load(x + half + i);
      const F32 c = lanes.load(cosines + i), s = lanes.load(sines + i);
      lanes.store(fma(a, c, -(b * s)), y + i);
      lanes.store(fma(b, c, a * s), y + half + i);
    });
}

template <class T>
constexpr RotaryKernels<T> kKernels = {.angles = angles, .turn = turn<T>};

}  // namespace

template <>
const RotaryKernels<float>& rotary_kernels<Isa, float>() {
  return kKernels<float>;
}
template <>
const RotaryKernels<uint16_t>& rotary_kernels<Isa, uint16_t>() {
  return kKernels<uint16_t>;
}

}  // namespace colossus
