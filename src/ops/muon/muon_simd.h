#pragma once

#include <stdint.h>

namespace colossus {

struct MuonKernels {
  // g = scale * grad; buffer = momentum * buffer + g; u = g + momentum * buffer.
  void (*momentum)(const float* grad, float scale, float momentum, float* buffer, float* u, int64_t count);
  // y = factor * x; x and y may be the same.
  void (*scale)(const float* x, float factor, float* y, int64_t count);
  // param = kept * param - step * o.
  void (*update)(const float* o, float step, float kept, float* param, int64_t count);
};

template <class Isa>
const MuonKernels& muon_kernels();

}  // namespace colossus
