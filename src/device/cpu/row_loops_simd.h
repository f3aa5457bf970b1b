// Loops over a row of numbers, written once for whole vectors and the tail. Only for *_simd.cc (see device/cpu/simd.h).
// A step is called with `lanes` (WholeVector or Tail), through which it loads and stores, and the index of its first
// element: lanes.store(lanes.load(x + i) * f, y + i).
#pragma once

#include "device/cpu/simd.h"

namespace colossus {
namespace {  // a copy for each instruction set

struct WholeVector {
  template <class T>
  F32 load(const T* p) const {
    return F32::load(p);
  }
  template <class T>
  void store(F32 v, T* p) const {
    v.store(p);
  }
  F32 first_or_zero(F32 v) const { return v; }
};

// The last `count` elements, fewer than kLanes; the lanes behind them load zeros.
struct Tail {
  int count;
  template <class T>
  F32 load(const T* p) const {
    return F32::load_first(p, count);
  }
  template <class T>
  void store(F32 v, T* p) const {
    v.store_first(p, count);
  }
  // v with zeros in the lanes behind the row's end.
  F32 first_or_zero(F32 v) const {
    float whole[kLanes];
    v.store(whole);
    return F32::load_first(whole, count);
  }
};

template <class Step>
inline void for_each_vector(int64_t count, Step step) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) step(WholeVector{}, i);
  if (i < count) step(Tail{static_cast<int>(count - i)}, i);
}

// step(lanes, i, sum) returns sum plus its terms, which must be 0 where all loaded elements are. Four sums side by side
// hide the latency of the addition; their order depends on count only.
template <class Step>
inline float sum_over_row(int64_t count, Step step) {
  F32 a = F32::zero(), b = a, c = a, d = a;
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    a = step(WholeVector{}, i, a);
    b = step(WholeVector{}, i + kLanes, b);
    c = step(WholeVector{}, i + 2 * kLanes, c);
    d = step(WholeVector{}, i + 3 * kLanes, d);
  }
  for (; i + kLanes <= count; i += kLanes) a = step(WholeVector{}, i, a);
  if (i < count) b = step(Tail{static_cast<int>(count - i)}, i, b);
  return reduce_add((a + b) + (c + d));
}

// What a store to an array of T keeps of a value.
template <class T>
inline F32 rounded_to(F32 v) {
  if constexpr (sizeof(T) == sizeof(float))
    return v;
  else
    return F32::widen(F32::narrow(v.v));
}

}  // namespace
}  // namespace colossus
