// Packing of both operands (layouts: gemm_kernels.h). Included once per instruction set; everything is in an unnamed
// namespace (simd.h says why).
#pragma once

#include "device/cpu/gemm/gemm_kernels.h"
#include "device/cpu/simd.h"

namespace colossus::gemm_internal {
namespace {

// Rows are short and far apart, so the processor does not look ahead by itself: fetch what lies under `p` some rows on.
template <class From>
void fetch_rows_ahead(const From* p, int64_t ld, int64_t rows) {
  _mm_prefetch(reinterpret_cast<const char*>(p + rows * ld), _MM_HINT_T0);
}
constexpr int64_t kLongRowsAhead = 2;    // rows of a tile of A: up to 1.5 KB each
constexpr int64_t kShortRowsAhead = 12;  // the columns of a panel or tile in one k: a line or two

template <class From>
F32 load_at_most(const From* p, int64_t count) {
  return count >= kLanes ? F32::load(p) : count > 0 ? F32::load_first(p, static_cast<int>(count)) : F32::zero();
}

// k elements of each row, in a row; an odd k is followed by a zero.
template <class From, class To, bool kRound>
void copy_rows(const PackAJob& job) {
  for (int r = 0; r < job.rows; ++r) {
    const From* from = static_cast<const From*>(job.source) + r * job.ld;
    To* to = reinterpret_cast<To*>(job.tile + int64_t{r} * kRowWords);
    for (int64_t i = 0; i < job.k; i += kLanes) {
      fetch_rows_ahead(from + i, job.ld, kLongRowsAhead);
      F32 x = load_at_most(from + i, job.k - i);
      if constexpr (kRound) x = round_to_bf16(x);
      if (i + kLanes <= job.k)
        x.store(to + i);
      else
        x.store_first(to + i, static_cast<int>(job.k - i + (job.k & 1)));
    }
  }
}

// bf16 pairs from bf16: a copy of bytes.
void copy_half_rows(const PackAJob& job) {
  for (int r = 0; r < job.rows; ++r) {
    const uint16_t* from = static_cast<const uint16_t*>(job.source) + r * job.ld;
    uint32_t* to = job.tile + int64_t{r} * kRowWords;
    int64_t i = 0;
    for (; i + 32 <= job.k; i += 32) {
      const __m256i* source = reinterpret_cast<const __m256i*>(from + i);
      __m256i* target = reinterpret_cast<__m256i*>(to + i / 2);
      fetch_rows_ahead(from + i, job.ld, kLongRowsAhead);
      _mm256_storeu_si256(target, _mm256_loadu_si256(source));
      _mm256_storeu_si256(target + 1, _mm256_loadu_si256(source + 1));
    }
    for (; i + 2 <= job.k; i += 2) to[i / 2] = from[i] | uint32_t{from[i + 1]} << 16;
    if (i < job.k) to[i / 2] = from[i];
  }
}

// `rows` neighbours of every k, each k on its own line; an odd k is followed by a line of zeros.
template <class From, bool kRound>
void copy_columns(const PackAJob& job) {
  float* to = reinterpret_cast<float*>(job.tile);
  const From* from = static_cast<const From*>(job.source);
  for (int64_t i = 0; i < job.k; ++i) {
    fetch_rows_ahead(from + i * job.ld, job.ld, kShortRowsAhead);
    for (int r = 0; r < job.rows; r += kLanes) {
      F32 x = load_at_most(from + i * job.ld + r, job.rows - r);
      if constexpr (kRound) x = round_to_bf16(x);
      x.store(to + i * kTileColumn + r);
    }
  }
  if (job.k & 1)
    for (int r = 0; r < kTileColumn; r += kLanes) F32::zero().store(to + job.k * kTileColumn + r);
}

template <class From>
void pair_columns(const PackAJob& job) {
  const From* from = static_cast<const From*>(job.source);
  for (int64_t i = 0; i < job.k; i += 2) {
    fetch_rows_ahead(from + i * job.ld, job.ld, kShortRowsAhead);
    fetch_rows_ahead(from + i * job.ld, job.ld, kShortRowsAhead + 1);
    for (int r = 0; r < job.rows; r += kLanes) {
      const F32 even = load_at_most(from + i * job.ld + r, job.rows - r);
      const F32 odd = i + 1 < job.k ? load_at_most(from + (i + 1) * job.ld + r, job.rows - r) : F32::zero();
      store_pairs(even, odd, job.tile + i / 2 * kTileColumn + r);
    }
  }
}

void pack_a_f32_by_rows(const PackAJob& job) {
  if (job.source_bf16)
    copy_rows<uint16_t, float, false>(job);
  else if (job.round_to_bf16)
    copy_rows<float, float, true>(job);
  else
    copy_rows<float, float, false>(job);
}

void pack_a_f32_by_columns(const PackAJob& job) {
  if (job.source_bf16)
    copy_columns<uint16_t, false>(job);
  else if (job.round_to_bf16)
    copy_columns<float, true>(job);
  else
    copy_columns<float, false>(job);
}

void pack_a_pairs_by_rows(const PackAJob& job) {
  if (job.source_bf16)
    copy_half_rows(job);
  else
    copy_rows<float, uint16_t, false>(job);
}

void pack_a_pairs_by_columns(const PackAJob& job) {
  if (job.source_bf16)
    pair_columns<uint16_t>(job);
  else
    pair_columns<float>(job);
}

template <class From, bool kRound>
void panel_of_rows(const PackBJob& job) {
  float* to = reinterpret_cast<float*>(job.panel);
  for (int64_t i = 0; i < job.k; ++i) {
    const From* from = static_cast<const From*>(job.source) + i * job.ld;
    fetch_rows_ahead(from, job.ld, kShortRowsAhead);
    fetch_rows_ahead(from + kPanelColumns / 2, job.ld, kShortRowsAhead);
    for (int c = 0; c < kPanelColumns; c += kLanes) {
      F32 x = load_at_most(from + c, job.columns - c);
      if constexpr (kRound) x = round_to_bf16(x);
      x.store(to + i * kPanelColumns + c);
    }
  }
}

template <class From, bool kRound>
void panel_of_columns(const PackBJob& job) {
  float* to = reinterpret_cast<float*>(job.panel);
  for (int c = 0; c < kPanelColumns; c += kLanes) {
    for (int64_t i = 0; i < job.k; i += kLanes) {
      F32 block[kLanes];
      for (int j = 0; j < kLanes; ++j) {
        const From* from = static_cast<const From*>(job.source) + (c + j) * job.ld + i;
        block[j] = c + j < job.columns ? load_at_most(from, job.k - i) : F32::zero();
        if constexpr (kRound) block[j] = round_to_bf16(block[j]);
      }
      transpose(block);
      const int64_t lines = job.k - i < kLanes ? job.k - i : kLanes;
      for (int64_t line = 0; line < lines; ++line) block[line].store(to + (i + line) * kPanelColumns + c);
    }
  }
}

template <class From>
void pair_panel_of_rows(const PackBJob& job) {
  for (int64_t i = 0; i < job.k; i += 2) {
    const From* from = static_cast<const From*>(job.source) + i * job.ld;
    fetch_rows_ahead(from, job.ld, kShortRowsAhead);
    fetch_rows_ahead(from, job.ld, kShortRowsAhead + 1);
    for (int c = 0; c < kPanelColumns; c += kLanes) {
      const F32 even = load_at_most(from + c, job.columns - c);
      const F32 odd = i + 1 < job.k ? load_at_most(from + job.ld + c, job.columns - c) : F32::zero();
      store_pairs(even, odd, job.panel + i / 2 * kPanelColumns + c);
    }
  }
}

// The pairs of a row lie side by side already: what is transposed are words.
template <class From>
void pair_panel_of_columns(const PackBJob& job) {
  for (int c = 0; c < kPanelColumns; c += kLanes) {
    for (int64_t i = 0; i < job.k; i += 2 * kLanes) {
      F32 block[kLanes];
      for (int j = 0; j < kLanes; ++j) {
        const From* from = static_cast<const From*>(job.source) + (c + j) * job.ld + i;
        uint16_t halves[2 * kLanes];
        const int64_t left = c + j < job.columns ? job.k - i : 0;
        load_at_most(from, left).store(halves);
        load_at_most(from + (left > kLanes ? kLanes : 0), left - kLanes).store(halves + kLanes);
        block[j] = F32::load(reinterpret_cast<const float*>(halves));
      }
      transpose(block);
      const int64_t words = (job.k - i + 1) / 2;
      for (int64_t word = 0; word < words && word < kLanes; ++word)
        block[word].store(reinterpret_cast<float*>(job.panel) + (i / 2 + word) * kPanelColumns + c);
    }
  }
}

void pack_b_f32(const PackBJob& job) {
  if (job.source_bf16)
    return job.transposed ? panel_of_columns<uint16_t, false>(job) : panel_of_rows<uint16_t, false>(job);
  if (job.round_to_bf16) return job.transposed ? panel_of_columns<float, true>(job) : panel_of_rows<float, true>(job);
  return job.transposed ? panel_of_columns<float, false>(job) : panel_of_rows<float, false>(job);
}

void pack_b_pairs(const PackBJob& job) {
  if (job.source_bf16) return job.transposed ? pair_panel_of_columns<uint16_t>(job) : pair_panel_of_rows<uint16_t>(job);
  return job.transposed ? pair_panel_of_columns<float>(job) : pair_panel_of_rows<float>(job);
}

}  // namespace
}  // namespace colossus::gemm_internal
