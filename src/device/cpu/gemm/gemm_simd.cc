// The register tiles and the epilogue of matrix multiplication for AVX2 and AVX-512.
#include "device/cpu/gemm/gemm_kernels.h"
#include "device/cpu/gemm/gemm_pack.h"
#include "device/cpu/gemm/gemm_tile.h"
#include "device/cpu/simd.h"

namespace colossus::gemm_internal {
namespace {

F32 float_of(const uint32_t* word) { return F32::broadcast(*reinterpret_cast<const float*>(word)); }

struct FloatStep {
  using Vector = F32;
  static constexpr int kVectorLanes = kLanes;
  static constexpr int kRowsMax = kLanes == 16 ? 14 : 6;  // as many as the registers hold
  static constexpr int kWordsOfA = 1;

  static F32 zero() { return F32::zero(); }
  static F32 load(const float* p) { return F32::load(p); }
  static void store(float* p, F32 x) { x.store(p); }
  static F32 add(F32 x, F32 y) { return x + y; }

  template <int kRows, class A>
  [[gnu::always_inline]] static void step(F32 (&acc)[kRows][kTileVectors], const A& a, int64_t word,
                                          const uint32_t* b) {
    const F32 b0 = F32::load(reinterpret_cast<const float*>(b));
    const F32 b1 = F32::load(reinterpret_cast<const float*>(b) + kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const F32 x = float_of(a.at(r, word));
      acc[r][0] = fma(x, b0, acc[r][0]);
      acc[r][1] = fma(x, b1, acc[r][1]);
    }
  }
};

// B in pairs of bf16, widened here; A in floats. The even k is added first.
struct WideningStep : FloatStep {
  static constexpr int kRowsMax = kLanes == 16 ? 12 : 4;
  static constexpr int kWordsOfA = 2;

  template <int kRows, class A>
  [[gnu::always_inline]] static void step(F32 (&acc)[kRows][kTileVectors], const A& a, int64_t word,
                                          const uint32_t* b) {
    F32 even[2], odd[2];
    widen_pairs(b, even[0], odd[0]);
    widen_pairs(b + kLanes, even[1], odd[1]);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const F32 x = float_of(a.at(r, word));
      acc[r][0] = fma(x, even[0], acc[r][0]);
      acc[r][1] = fma(x, even[1], acc[r][1]);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const F32 y = float_of(a.at(r, word + 1));
      acc[r][0] = fma(y, odd[0], acc[r][0]);
      acc[r][1] = fma(y, odd[1], acc[r][1]);
    }
  }
};

// A and B in pairs: the dot-product instruction played with two multiplications.
struct PairStep : FloatStep {
  template <int kRows, class A>
  [[gnu::always_inline]] static void step(F32 (&acc)[kRows][kTileVectors], const A& a, int64_t word,
                                          const uint32_t* b) {
    F32 even[2], odd[2];
    widen_pairs(b, even[0], odd[0]);
    widen_pairs(b + kLanes, even[1], odd[1]);
    for (int r = 0; r < kRows; ++r) {
      uint32_t pair[kLanes];
      for (uint32_t& lane : pair) lane = *a.at(r, word);
      F32 x, y;
      widen_pairs(pair, x, y);
      for (int v = 0; v < 2; ++v) acc[r][v] = fma(y, odd[v], fma(x, even[v], acc[r][v]));
    }
  }
};

F32 activate(GemmActivation activation, F32 x) {
  switch (activation) {
    case GemmActivation::kNone: break;
    case GemmActivation::kGeluTanh: {
      // Hendrycks and Gimpel, "Gaussian Error Linear Units", the tanh form.
      const F32 inner = F32::broadcast(0.797884561F) * fma(F32::broadcast(0.044715F) * x, x * x, x);
      return F32::broadcast(0.5F) * x * (F32::broadcast(1.0F) + tanh(inner));
    }
    case GemmActivation::kRelu2: {
      const F32 positive = max(F32::zero(), x);
      return positive * positive;
    }
    case GemmActivation::kSilu: return x * sigmoid(x);
  }
  return x;
}

template <class C>
void finish_rows(const FinishJob& job) {
  for (int r = 0; r < job.rows; ++r) {
    const float* tile = job.tile + r * kPanelColumns;
    C* c = static_cast<C*>(job.c) + r * job.ldc;
    const C* addend = job.addend ? static_cast<const C*>(job.addend) + r * job.ld_addend : nullptr;
    for (int column = 0; column < job.columns; column += kLanes) {
      const int left = job.columns - column;
      const bool whole = left >= kLanes;
      F32 x = F32::load(tile + column) * F32::broadcast(job.alpha);
      if (job.bias) x = x + (whole ? F32::load(job.bias + column) : F32::load_first(job.bias + column, left));
      if (job.activation != GemmActivation::kNone) x = activate(job.activation, x);
      if (addend) x = x + (whole ? F32::load(addend + column) : F32::load_first(addend + column, left));
      if (job.accumulate) x = x + (whole ? F32::load(c + column) : F32::load_first(c + column, left));
      if (whole)
        x.store(c + column);
      else
        x.store_first(c + column, left);
    }
  }
}

void finish(const FinishJob& job) {
  if (job.c_bf16)
    finish_rows<uint16_t>(job);
  else
    finish_rows<float>(job);
}

}  // namespace

template <>
const GemmKernels& gemm_kernels<Isa>() {
  static constexpr GemmKernels kernels = {
      .name = kLanes == 16 ? "avx512" : "avx2",
      .pairs_in_a = false,
      .f32 = tile_functions<FloatStep>(),
      .bf16 = tile_functions<WideningStep>(),
      .pack_a_f32 = pack_floats<kTileColumn>,
      .pack_a_pairs = pack_pairs<kTileColumn>,
      .pack_b_f32 = pack_floats<kPanelColumns>,
      .pack_b_pairs = pack_pairs<kPanelColumns>,
      .finish = finish,
  };
  return kernels;
}

template <>
const TileFunctions& pair_tiles<Isa>() {
  static constexpr TileFunctions functions = tile_functions<PairStep>();
  return functions;
}

}  // namespace colossus::gemm_internal
