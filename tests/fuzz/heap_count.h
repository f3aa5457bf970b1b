// The count behind heap_bytes(). Internal to heap_glibc.cc and heap_sanitizer.cc, which see the allocations.
#pragma once

#include <atomic>
#include <cstddef>

namespace colossus::internal {

inline constinit std::atomic<size_t> heap_now = 0;
inline constinit std::atomic<size_t> heap_peak = 0;

inline void count_allocation(size_t bytes) {
  const size_t now = heap_now.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  size_t peak = heap_peak.load(std::memory_order_relaxed);
  while (now > peak && !heap_peak.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
  }
}
inline void count_release(size_t bytes) { heap_now.fetch_sub(bytes, std::memory_order_relaxed); }

}  // namespace colossus::internal
