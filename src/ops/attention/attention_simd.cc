#include "ops/attention/attention_simd.h"

#include "device/cpu/simd.h"

namespace colossus {
namespace {

constexpr int64_t kTile = kAttentionTile;
constexpr int64_t kGranule = kAttentionGranule;
constexpr float kMasked = -1e38F;  // see kAttentionNothingSeen

// e^x for x <= 0 (up to rounding), 0 below e^-87: no denormals, which slow multiplication down. NaN stays.
F32 exp_of_negative(F32 x) {
  F32 n;
  const F32 p = exp_minus_one_reduced(x, n);
  const F32 e = scale_by_power_of_two(p + F32::broadcast(1.0F), n);
  return select(x <= F32::broadcast(-87.0F), F32::zero(), e);
}

// ---- Small matrix products: c (rows, columns) = or += a (rows, inner) * b (inner, columns). ----

// How single elements of a are reached. Knowing which stride is 1 keeps the addresses in few registers.
struct RowMajor {  // a[row, i] = data[row * stride + i]
  const float* data;
  int64_t stride;
  const float* at(int64_t row, int64_t i) const { return data + row * stride + i; }
  RowMajor from_row(int64_t row) const { return {data + row * stride, stride}; }
};
struct ColumnMajor {  // a[row, i] = data[i * stride + row]
  const float* data;
  int64_t stride;
  const float* at(int64_t row, int64_t i) const { return data + i * stride + row; }
  ColumnMajor from_row(int64_t row) const { return {data + row, stride}; }
};

template <int kRows, int kVectors, bool kAdd, class A>
void multiply_block(A a, const float* b, int64_t b_stride, float* c, int64_t c_stride, int64_t inner) {
  F32 sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) sum[r][j] = kAdd ? F32::load(c + r * c_stride + j * kLanes) : F32::zero();
#pragma GCC unroll 2
  for (int64_t i = 0; i < inner; ++i) {
    F32 column[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) column[j] = F32::load(b + i * b_stride + j * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const F32 x = F32::broadcast(*a.at(r, i));
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[r][j] = fma(x, column[j], sum[r][j]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) sum[r][j].store(c + r * c_stride + j * kLanes);
}

// As many rows as registers hold sums for: 24 of 32 (AVX-512), 12 of 16 (AVX2).
template <int kVectors>
constexpr int kBlockRows = kLanes == 8 ? 12 / kVectors : (kVectors >= 2 ? 24 / kVectors : 12);

template <int kVectors, bool kAdd, class A>
void multiply_columns(A a, const float* b, int64_t b_stride, float* c, int64_t c_stride, int64_t rows, int64_t inner) {
  constexpr int kRows = kBlockRows<kVectors>;
  int64_t r = 0;
  for (; r + kRows <= rows; r += kRows)
    multiply_block<kRows, kVectors, kAdd>(a.from_row(r), b, b_stride, c + r * c_stride, c_stride, inner);
  for (; r + 4 <= rows; r += 4)
    multiply_block<4, kVectors, kAdd>(a.from_row(r), b, b_stride, c + r * c_stride, c_stride, inner);
  for (; r < rows; ++r)
    multiply_block<1, kVectors, kAdd>(a.from_row(r), b, b_stride, c + r * c_stride, c_stride, inner);
}

// columns: a multiple of the granule.
template <bool kAdd, class A>
void multiply(A a, const float* b, int64_t b_stride, float* c, int64_t c_stride, int64_t rows, int64_t columns,
              int64_t inner) {
  int64_t j = 0;
  if constexpr (kLanes == 16) {
    for (; j + 64 <= columns; j += 64) multiply_columns<4, kAdd>(a, b + j, b_stride, c + j, c_stride, rows, inner);
    if (columns - j == 48) multiply_columns<3, kAdd>(a, b + j, b_stride, c + j, c_stride, rows, inner);
    if (columns - j == 32) multiply_columns<2, kAdd>(a, b + j, b_stride, c + j, c_stride, rows, inner);
    if (columns - j == 16) multiply_columns<1, kAdd>(a, b + j, b_stride, c + j, c_stride, rows, inner);
  } else {
    for (; j < columns; j += kGranule) multiply_columns<2, kAdd>(a, b + j, b_stride, c + j, c_stride, rows, inner);
  }
}

// scores (keys, queries) of a run: rows of `keys` times `queries` (padded_dim, 64).
void multiply_run(const AttentionRun& run, const AttentionTile& tile, const float* keys, const float* queries,
                  float* scores) {
  const RowMajor a = {keys + run.key_begin * tile.padded_dim, tile.padded_dim};
  float* c = scores + run.key_begin * kTile + run.column_begin;
  multiply<false>(a, queries + run.column_begin, kTile, c, kTile, run.key_end - run.key_begin,
                  run.column_end - run.column_begin, tile.dim);
}

// into (padded_dim, 64) += rows^T times weights (keys, queries) of a run: o from p and V, dq from ds and K.
void add_to_queries(const AttentionRun& run, const AttentionTile& tile, const float* rows, const float* weights,
                    float* into) {
  const ColumnMajor a = {rows + run.key_begin * tile.padded_dim, tile.padded_dim};
  const float* b = weights + run.key_begin * kTile + run.column_begin;
  multiply<true>(a, b, kTile, into + run.column_begin, kTile, tile.dim, run.column_end - run.column_begin,
                 run.key_end - run.key_begin);
}

// into (64, padded_dim) += weights (keys, queries) of a run times rows (queries, padded_dim): dv and dk.
void add_to_keys(const AttentionRun& run, const AttentionTile& tile, const float* weights, const float* rows,
                 float* into) {
  const RowMajor a = {weights + run.key_begin * kTile + run.column_begin, kTile};
  multiply<true>(a, rows + run.column_begin * tile.padded_dim, tile.padded_dim, into + run.key_begin * tile.padded_dim,
                 tile.padded_dim, run.key_end - run.key_begin, tile.padded_dim, run.column_end - run.column_begin);
}

// ---- The forward tile. ----

F32 visible_or(F32 x, float key, F32 first, F32 last, F32 otherwise) {
  const F32 column = F32::broadcast(key);
  return select(column <= last, select(column >= first, x, otherwise), otherwise);
}

bool covers(const AttentionRun& run, int64_t column) { return run.column_begin <= column && column < run.column_end; }

// Final scores of one vector of queries, in place; returns the maximum with what came before.
F32 finish_scores(const AttentionTile& tile, const AttentionStrip& strip, int64_t column, float* scores, F32 largest) {
  const F32 cap = tile.softcap ? F32::load(strip.after_tanh + column) : F32::zero();
  const F32 first = F32::load(strip.first + column), last = F32::load(strip.last + column);
  const F32 masked = F32::broadcast(kMasked);
  for (int i = 0; i < tile.num_runs; ++i) {
    const AttentionRun& run = tile.runs[i];
    if (!covers(run, column)) continue;
    for (int64_t key = run.key_begin; key < run.key_end; ++key) {
      float* at = scores + key * kTile + column;
      F32 x = F32::load(at);
      if (tile.softcap) x = cap * tanh(x);
      if (run.masked) x = visible_or(x, static_cast<float>(tile.first_key + key), first, last, masked);
      if (tile.softcap || run.masked) x.store(at);
      largest = max(largest, x);
    }
  }
  return largest;
}

F32 exponentiate(const AttentionTile& tile, int64_t column, float* scores, F32 largest, F32 sum) {
  for (int i = 0; i < tile.num_runs; ++i) {
    const AttentionRun& run = tile.runs[i];
    if (!covers(run, column)) continue;
    for (int64_t key = run.key_begin; key < run.key_end; ++key) {
      float* at = scores + key * kTile + column;
      const F32 p = exp_of_negative(F32::load(at) - largest);
      p.store(at);
      sum = sum + p;
    }
  }
  return sum;
}

void fetch(const AttentionAhead& ahead, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end && row < ahead.num_rows; ++row)
    for (int64_t i = 0; i < ahead.row_bytes; i += 64) {
      _mm_prefetch(ahead.k + row * ahead.stride_bytes + i, _MM_HINT_T0);
      _mm_prefetch(ahead.v + row * ahead.stride_bytes + i, _MM_HINT_T0);
    }
}

// multiply_run in pieces, fetching after each as large a part of the rows ahead.
void multiply_run_fetching(const AttentionRun& run, const AttentionTile& tile, const AttentionStrip& strip,
                           const AttentionAhead& ahead, float* scores) {
  constexpr int32_t kKeys = 12;
  AttentionRun piece = run;
  for (int32_t key = run.key_begin; key < run.key_end; key += kKeys) {
    piece.key_begin = key;
    piece.key_end = key + kKeys < run.key_end ? key + kKeys : run.key_end;
    multiply_run(piece, tile, tile.k, strip.q, scores);
    fetch(ahead, ahead.num_rows * piece.key_begin / kTile, ahead.num_rows * piece.key_end / kTile);
  }
}

void forward_tile(const AttentionTile& tile, const AttentionStrip& strip, const AttentionAhead& ahead, float* scores) {
  int64_t begin = kTile, end = 0;
  for (int i = 0; i < tile.num_runs; ++i) {
    multiply_run_fetching(tile.runs[i], tile, strip, ahead, scores);
    begin = tile.runs[i].column_begin < begin ? tile.runs[i].column_begin : begin;
    end = tile.runs[i].column_end > end ? tile.runs[i].column_end : end;
  }
  for (int64_t column = begin; column < end; column += kLanes) {
    const F32 before = F32::load(strip.max + column);
    const F32 largest = finish_scores(tile, strip, column, scores, before);
    const F32 shrink = exp_of_negative(before - largest);
    exponentiate(tile, column, scores, largest, F32::load(strip.sum + column) * shrink).store(strip.sum + column);
    largest.store(strip.max + column);
    // Multiplying by exactly 1 may be left out; a NaN maximum does not compare equal.
    if (reduce_max(select(before == largest, F32::zero(), F32::broadcast(1.0F))) == 0.0F) continue;
    for (int64_t d = 0; d < tile.dim; ++d) {
      float* at = strip.o + d * kTile + column;
      (F32::load(at) * shrink).store(at);
    }
  }
  for (int i = 0; i < tile.num_runs; ++i) add_to_queries(tile.runs[i], tile, tile.v, scores, strip.o);
}

void finish_softmax(const float* max_score, const float* sum, float* factors, float* lse) {
  for (int64_t i = 0; i < kTile; i += kLanes) {
    const F32 total = F32::load(sum + i);
    (F32::broadcast(1.0F) / total).store(factors + i);
    (F32::load(max_score + i) + log(total)).store(lse + i);
  }
}

// ---- The backward tile. ----

// p holds q . k and becomes the probabilities; ds holds grad . v and becomes the gradient of q . k.
template <bool kSoftcap, bool kMaskedRun>
void score_gradients(const AttentionTile& tile, const AttentionStrip& strip, const AttentionRun& run, float* p,
                     float* ds) {
  const F32 one = F32::broadcast(1.0F);
  for (int64_t column = run.column_begin; column < run.column_end; column += kLanes) {
    const F32 lse = F32::load(strip.lse + column), delta = F32::load(strip.delta + column);
    const F32 scale = F32::load(strip.score_scale + column);
    const F32 first = F32::load(strip.first + column), last = F32::load(strip.last + column);
    const F32 cap = kSoftcap ? F32::load(strip.after_tanh + column) : one;
    for (int64_t key = run.key_begin; key < run.key_end; ++key) {
      float* p_at = p + key * kTile + column;
      float* ds_at = ds + key * kTile + column;
      F32 x = F32::load(p_at);
      F32 slope = scale;
      if constexpr (kSoftcap) {
        const F32 t = tanh(x);
        x = cap * t;
        slope = scale * fma(-t, t, one);
      }
      F32 probability = exp_of_negative(x - lse);
      if constexpr (kMaskedRun)
        probability = visible_or(probability, static_cast<float>(tile.first_key + key), first, last, F32::zero());
      probability.store(p_at);
      (probability * (F32::load(ds_at) - delta) * slope).store(ds_at);
    }
  }
}

void grad_tile(const AttentionTile& tile, const AttentionStrip& strip, float* p, float* ds, float* dk, float* dv) {
  for (int i = 0; i < tile.num_runs; ++i) {
    const AttentionRun& run = tile.runs[i];
    multiply_run(run, tile, tile.k, strip.q, p);
    multiply_run(run, tile, tile.v, strip.grad, ds);
    if (tile.softcap) {
      run.masked ? score_gradients<true, true>(tile, strip, run, p, ds)
                 : score_gradients<true, false>(tile, strip, run, p, ds);
    } else {
      run.masked ? score_gradients<false, true>(tile, strip, run, p, ds)
                 : score_gradients<false, false>(tile, strip, run, p, ds);
    }
    if (dv) add_to_keys(run, tile, p, strip.grad_rows, dv);
    if (dk) add_to_keys(run, tile, ds, strip.q_rows, dk);
    if (strip.dq) add_to_queries(run, tile, tile.k, ds, strip.dq);
  }
}

// ---- Moving rows. ----

template <class From>
void load_rows(const From* x, int64_t stride, int64_t dim, int64_t count, int64_t total, float* rows,
               int64_t padded_dim) {
  for (int64_t i = 0; i < total; ++i) {
    float* row = rows + i * padded_dim;
    int64_t d = 0;
    if (i < count) {
      const From* from = x + i * stride;
      for (; d + kLanes <= dim; d += kLanes) F32::load(from + d).store(row + d);
      if (d < dim) {
        F32::load_first(from + d, static_cast<int>(dim - d)).store(row + d);
        d += kLanes;
      }
    }
    for (; d < padded_dim; d += kLanes) F32::zero().store(row + d);
  }
}

template <class To>
void store_rows(const float* rows, int64_t padded_dim, int64_t dim, int64_t count, To* x, int64_t stride) {
  for (int64_t i = 0; i < count; ++i) {
    const float* row = rows + i * padded_dim;
    To* to = x + i * stride;
    int64_t d = 0;
    for (; d + kLanes <= dim; d += kLanes) F32::load(row + d).store(to + d);
    if (d < dim) F32::load(row + d).store_first(to + d, static_cast<int>(dim - d));
  }
}

// A square of kLanes rows, transposed in registers. A template so that only the instructions of the set at hand are
// compiled.
template <class Set>
void transpose_square(Float32<Set>* x) {
  if constexpr (Float32<Set>::kLanes == 16) {
    __m512 a[16], b[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      a[2 * i] = _mm512_unpacklo_ps(x[2 * i].v, x[2 * i + 1].v);
      a[2 * i + 1] = _mm512_unpackhi_ps(x[2 * i].v, x[2 * i + 1].v);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // b[4 * i + j]: element 4 * lane + j of rows 4 * i .. 4 * i + 3
      b[4 * i] = _mm512_shuffle_ps(a[4 * i], a[4 * i + 2], 0x44);
      b[4 * i + 1] = _mm512_shuffle_ps(a[4 * i], a[4 * i + 2], 0xEE);
      b[4 * i + 2] = _mm512_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0x44);
      b[4 * i + 3] = _mm512_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0xEE);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m512 even_low = _mm512_shuffle_f32x4(b[j], b[4 + j], 0x88),
                   odd_low = _mm512_shuffle_f32x4(b[j], b[4 + j], 0xDD);
      const __m512 even_high = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0x88);
      const __m512 odd_high = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0xDD);
      x[j].v = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
      x[8 + j].v = _mm512_shuffle_f32x4(even_low, even_high, 0xDD);
      x[4 + j].v = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
      x[12 + j].v = _mm512_shuffle_f32x4(odd_low, odd_high, 0xDD);
    }
  } else {
    __m256 a[8], b[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      a[2 * i] = _mm256_unpacklo_ps(x[2 * i].v, x[2 * i + 1].v);
      a[2 * i + 1] = _mm256_unpackhi_ps(x[2 * i].v, x[2 * i + 1].v);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      b[4 * i] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0x44);
      b[4 * i + 1] = _mm256_shuffle_ps(a[4 * i], a[4 * i + 2], 0xEE);
      b[4 * i + 2] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0x44);
      b[4 * i + 3] = _mm256_shuffle_ps(a[4 * i + 1], a[4 * i + 3], 0xEE);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      x[j].v = _mm256_permute2f128_ps(b[j], b[4 + j], 0x20);
      x[4 + j].v = _mm256_permute2f128_ps(b[j], b[4 + j], 0x31);
    }
  }
}

// Transposes (rows, columns), multiples of kLanes. Factors belong to the output's columns or, kInput, the input's.
template <bool kInputFactors>
void transpose(const float* x, int64_t rows, int64_t columns, const float* factors, float* y) {
  for (int64_t r = 0; r < rows; r += kLanes) {
    for (int64_t c = 0; c < columns; c += kLanes) {
      const F32 factor = F32::load(factors + (kInputFactors ? c : r));
      F32 square[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        square[i] = F32::load(x + (r + i) * columns + c);
        if constexpr (kInputFactors) square[i] = square[i] * factor;
      }
      transpose_square<Isa>(square);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) (kInputFactors ? square[i] : square[i] * factor).store(y + (c + i) * rows + r);
    }
  }
}

void to_columns(const float* rows, int64_t padded_dim, const float* factors, float* columns) {
  transpose<false>(rows, kTile, padded_dim, factors, columns);
}
void to_rows(const float* columns, int64_t padded_dim, const float* factors, float* rows) {
  transpose<true>(columns, padded_dim, kTile, factors, rows);
}

void column_dots(const float* a, const float* b, int64_t dim, float* dots) {
  F32 sum[kTile / kLanes];
#pragma GCC unroll 8
  for (F32& lane_sum : sum) lane_sum = F32::zero();
  for (int64_t d = 0; d < dim; ++d)
#pragma GCC unroll 8
    for (int64_t j = 0; j < kTile / kLanes; ++j)
      sum[j] = fma(F32::load(a + d * kTile + j * kLanes), F32::load(b + d * kTile + j * kLanes), sum[j]);
#pragma GCC unroll 8
  for (int64_t j = 0; j < kTile / kLanes; ++j) sum[j].store(dots + j * kLanes);
}

// ---- Decoding: one query a head, a cache row at a time, so that memory is read once and in order. ----

template <class From>
F32 dot_lanes(const float* q, const From* k, int64_t dim) {
  F32 sum[2] = {F32::zero(), F32::zero()};
  int64_t d = 0;
  for (; d + 2 * kLanes <= dim; d += 2 * kLanes) {
    sum[0] = fma(F32::load(k + d), F32::load(q + d), sum[0]);
    sum[1] = fma(F32::load(k + d + kLanes), F32::load(q + d + kLanes), sum[1]);
  }
  for (; d + kLanes <= dim; d += kLanes) sum[0] = fma(F32::load(k + d), F32::load(q + d), sum[0]);
  if (const int left = static_cast<int>(dim - d))
    sum[1] = fma(F32::load_first(k + d, left), F32::load_first(q + d, left), sum[1]);
  return sum[0] + sum[1];
}

template <class From>
void decode_scores(const float* q, int64_t num_heads, int64_t group, int64_t dim, int64_t padded_dim, const From* k,
                   int64_t stride, int64_t count, float* scores) {
  for (int64_t key = 0; key < count; ++key) {
    const From* row = k + key * stride;
    for (int64_t head = 0, in_group = 0; head < num_heads; ++head) {
      scores[head * kTile + key] = reduce_add(dot_lanes(q + head * padded_dim, row, dim));
      if (++in_group == group) {
        in_group = 0;
        row += dim;
      }
    }
  }
}

void decode_softmax(float* scores, int64_t num_heads, int64_t padded_dim, int64_t count, float scale, float after_tanh,
                    float* o, float* max_score, float* sum) {
  const F32 cap = F32::broadcast(after_tanh), scales = F32::broadcast(scale);
  const int64_t padded_count = (count + kGranule - 1) / kGranule * kGranule;
  for (int64_t head = 0; head < num_heads; ++head) {
    float* row = scores + head * kTile;
    for (int64_t i = count; i < padded_count; ++i) row[i] = 0;
    F32 largest = F32::broadcast(max_score[head]);
    for (int64_t i = 0; i < padded_count; i += kLanes) {
      F32 x = scales * F32::load(row + i);
      if (after_tanh != 0) x = cap * tanh(x);
      x.store(row + i);
    }
    for (int64_t i = count; i < padded_count; ++i) row[i] = kMasked;
    for (int64_t i = 0; i < padded_count; i += kLanes) largest = max(largest, F32::load(row + i));
    const F32 new_max = F32::broadcast(reduce_max(largest));
    F32 total = F32::zero();
    for (int64_t i = 0; i < padded_count; i += kLanes) {
      const F32 p = exp_of_negative(F32::load(row + i) - new_max);
      p.store(row + i);
      total = total + p;
    }
    const F32 shrink = exp_of_negative(F32::broadcast(max_score[head]) - new_max);
    for (int64_t d = 0; d < padded_dim; d += kLanes)
      (F32::load(o + head * padded_dim + d) * shrink).store(o + head * padded_dim + d);
    (F32::load_first(sum + head, 1) * shrink + F32::broadcast(reduce_add(total))).store_first(sum + head, 1);
    new_max.store_first(max_score + head, 1);
  }
}

template <class From>
void decode_values(const float* scores, int64_t num_heads, int64_t group, int64_t dim, int64_t padded_dim,
                   const From* v, int64_t stride, int64_t count, float* o) {
  for (int64_t key = 0; key < count; ++key) {
    const From* row = v + key * stride;
    for (int64_t head = 0, in_group = 0; head < num_heads; ++head) {
      const F32 p = F32::broadcast(scores[head * kTile + key]);
      float* sum = o + head * padded_dim;
      int64_t d = 0;
      for (; d + kLanes <= dim; d += kLanes) fma(p, F32::load(row + d), F32::load(sum + d)).store(sum + d);
      if (const int left = static_cast<int>(dim - d))
        fma(p, F32::load_first(row + d, left), F32::load(sum + d)).store(sum + d);
      if (++in_group == group) {
        in_group = 0;
        row += dim;
      }
    }
  }
}

}  // namespace

template <>
const AttentionKernels& attention_kernels<Isa>() {
  static constexpr AttentionKernels kernels = {
      .load_f32 = load_rows<float>,
      .load_bf16 = load_rows<uint16_t>,
      .store_f32 = store_rows<float>,
      .store_bf16 = store_rows<uint16_t>,
      .to_columns = to_columns,
      .to_rows = to_rows,
      .column_dots = column_dots,
      .finish_softmax = finish_softmax,
      .forward_tile = forward_tile,
      .grad_tile = grad_tile,
      .decode_scores_f32 = decode_scores<float>,
      .decode_scores_bf16 = decode_scores<uint16_t>,
      .decode_softmax = decode_softmax,
      .decode_values_f32 = decode_values<float>,
      .decode_values_bf16 = decode_values<uint16_t>,
  };
  return kernels;
}

}  // namespace colossus
