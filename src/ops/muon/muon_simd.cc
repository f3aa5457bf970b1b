#include "ops/muon/muon_simd.h"

#include "device/cpu/row_loops_simd.h"
#include "device/cpu/simd.h"

namespace colossus {
namespace {

void momentum_step(const float* grad, float scale, float momentum, float* buffer, float* u, int64_t count) {
  const F32 factor = F32::broadcast(scale), mu = F32::broadcast(momentum);
  for_each_vector(count, [&](auto lanes, int64_t i) {
    const F32 g = factor * lanes.load(grad + i);
    const F32 m = fma(mu, lanes.load(buffer + i), g);
    lanes.store(m, buffer + i);
    lanes.store(fma(mu, m, g), u + i);
  });
}

void scale_array(const float* x, float factor, float* y, int64_t count) {
  const F32 f = F32::broadcast(factor);
  for_each_vector(count, [&](auto lanes, int64_t i) { lanes.store(f * lanes.load(x + i), y + i); });
}

void update(const float* o, float step, float kept, float* param, int64_t count) {
  const F32 move = F32::broadcast(-step), keep = F32::broadcast(kept);
  for_each_vector(count, [&](auto lanes, int64_t i) {
    lanes.store(fma(move, lanes.load(o + i), keep * lanes.load(param + i)), param + i);
  });
}

}  // namespace

template <>
const MuonKernels& muon_kernels<Isa>() {
  static constexpr MuonKernels kernels = {.momentum = momentum_step, .scale = scale_array, .update = update};
  return kernels;
}

}  // namespace colossus
