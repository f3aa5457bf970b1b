// Packing of both operands (layouts: gemm_kernels.h). `kWidth` is that of a panel of B or of a tile of A. Included once
// per instruction set; everything is in an unnamed namespace (simd.h says why).
#pragma once

#include "device/cpu/gemm/gemm_kernels.h"
#include "device/cpu/simd.h"

namespace colossus::gemm_internal {
namespace {

// Rows that run across k are short and far apart: the processor does not look ahead by itself.
constexpr int64_t kRowsAhead = 12;

template <class From>
void fetch_ahead(const From* row, int64_t ld) {
  _mm_prefetch(reinterpret_cast<const char*>(row + kRowsAhead * ld), _MM_HINT_T0);
}

template <class From>
F32 load_at_most(const From* p, int64_t count) {
  return count >= kLanes ? F32::load(p) : count > 0 ? F32::load_first(p, static_cast<int>(count)) : F32::zero();
}

template <int kWidth>
void store_zeros(float* line) {
  for (int c = 0; c < kWidth; c += kLanes) F32::zero().store(line + c);
}

// Stored rows are lines.
template <int kWidth, class From, bool kRound>
void floats_across_k(const PackJob& job) {
  float* to = reinterpret_cast<float*>(job.to);
  for (int64_t i = 0; i < job.k; ++i) {
    const From* from = static_cast<const From*>(job.source) + i * job.ld;
    for (int c = 0; c < kWidth; c += kLanes) {
      fetch_ahead(from + c, job.ld);
      F32 x = load_at_most(from + c, job.columns - c);
      if constexpr (kRound) x = round_to_bf16(x);
      x.store(to + i * kWidth + c);
    }
  }
}

// Stored rows are columns of the lines: blocks of kLanes x kLanes are transposed.
template <int kWidth, class From, bool kRound>
void floats_along_k(const PackJob& job) {
  float* to = reinterpret_cast<float*>(job.to);
  for (int c = 0; c < kWidth; c += kLanes) {
    const From* rows = static_cast<const From*>(job.source) + c * job.ld;
    for (int64_t i = 0; i < job.k; i += kLanes) {
      F32 block[kLanes];
      for (int j = 0; j < kLanes; ++j) {
        block[j] = c + j < job.columns ? load_at_most(rows + j * job.ld + i, job.k - i) : F32::zero();
        if constexpr (kRound) block[j] = round_to_bf16(block[j]);
      }
      transpose(block);
      const int64_t lines = job.k - i < kLanes ? job.k - i : kLanes;
      for (int64_t line = 0; line < lines; ++line) block[line].store(to + (i + line) * kWidth + c);
    }
  }
}

template <int kWidth, class From>
void pairs_across_k(const PackJob& job) {
  for (int64_t i = 0; i < job.k; i += 2) {
    const From* from = static_cast<const From*>(job.source) + i * job.ld;
    fetch_ahead(from, job.ld);
    fetch_ahead(from + job.ld, job.ld);
    for (int c = 0; c < kWidth; c += kLanes) {
      const F32 even = load_at_most(from + c, job.columns - c);
      const F32 odd = i + 1 < job.k ? load_at_most(from + job.ld + c, job.columns - c) : F32::zero();
      store_pairs(even, odd, job.to + i / 2 * kWidth + c);
    }
  }
}

// Pairs of a stored row from `from` on, as many as a register has words; zeros behind the first `left` elements.
template <class From>
F32 load_pairs(const From* from, int64_t left) {
  if constexpr (sizeof(From) == 2)
    if (left >= 2 * kLanes) return F32::load(reinterpret_cast<const float*>(from));  // pairs already
  uint16_t halves[2 * kLanes];
  load_at_most(from, left).store(halves);
  load_at_most(from + (left > kLanes ? kLanes : 0), left - kLanes).store(halves + kLanes);
  return F32::load(reinterpret_cast<const float*>(halves));
}

// The pairs of a row lie side by side already: what is transposed are words.
template <int kWidth, class From>
void pairs_along_k(const PackJob& job) {
  for (int c = 0; c < kWidth; c += kLanes) {
    for (int64_t i = 0; i < job.k; i += 2 * kLanes) {
      F32 block[kLanes];
      for (int j = 0; j < kLanes; ++j) {
        const From* from = static_cast<const From*>(job.source) + (c + j) * job.ld + i;
        block[j] = load_pairs(from, c + j < job.columns ? job.k - i : 0);
      }
      transpose(block);
      const int64_t words = (job.k - i + 1) / 2;
      for (int64_t word = 0; word < words && word < kLanes; ++word)
        block[word].store(reinterpret_cast<float*>(job.to) + (i / 2 + word) * kWidth + c);
    }
  }
}

template <int kWidth, class From, bool kRound>
void pack_floats_of(const PackJob& job) {
  if (job.k_contiguous)
    floats_along_k<kWidth, From, kRound>(job);
  else
    floats_across_k<kWidth, From, kRound>(job);
  if (job.even_k && (job.k & 1)) store_zeros<kWidth>(reinterpret_cast<float*>(job.to) + job.k * kWidth);
}

template <int kWidth>
void pack_floats(const PackJob& job) {
  if (job.source_bf16) return pack_floats_of<kWidth, uint16_t, false>(job);
  if (job.round_to_bf16) return pack_floats_of<kWidth, float, true>(job);
  pack_floats_of<kWidth, float, false>(job);
}

template <int kWidth>
void pack_pairs(const PackJob& job) {
  if (job.source_bf16)
    job.k_contiguous ? pairs_along_k<kWidth, uint16_t>(job) : pairs_across_k<kWidth, uint16_t>(job);
  else
    job.k_contiguous ? pairs_along_k<kWidth, float>(job) : pairs_across_k<kWidth, float>(job);
}

}  // namespace
}  // namespace colossus::gemm_internal
