// Plays the blocks of a grid, one after the other, each thread a fiber. Finds what a GPU would only sometimes show:
// threads that do not meet at a barrier, and results that depend on the order of threads, which changes from launch to
// launch.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

namespace colossus::gpu {

struct Coordinates {
  unsigned x = 0, y = 0, z = 0;
};
// Of the thread that runs now.
extern thread_local Coordinates threadIdx, blockIdx, blockDim, gridDim;
int lane();  // of its warp

void wait_for_block();
void wait_for_warp();
std::byte* block_shared_memory();

constexpr size_t kLaneSlotBytes = 64;
// Writes this lane's value where the warp sees it, meets the others, and returns where they lie, kLaneSlotBytes apart,
// until the next such meeting but one.
const std::byte* meet_warp(const void* value, size_t num_bytes);

template <class T>
std::array<T, 32> warp_values(const T& value) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kLaneSlotBytes);
  const std::byte* slots = meet_warp(&value, sizeof(T));
  std::array<T, 32> values;
  for (size_t i = 0; i < 32; ++i) std::memcpy(&values[i], slots + i * kLaneSlotBytes, sizeof(T));
  return values;
}

void post_async_copy(void* to, const void* from, size_t num_bytes);  // from null: zeros
void close_async_group();
void finish_async_groups(int groups_left);

// Runs body() once for each thread of each block; `order` seeds the order of blocks and of threads between barriers.
// Threads that wait for ones that are gone are our mistake (CHECK), as are shapes that no GPU takes.
void run_grid(Coordinates grid, Coordinates block, int64_t shared_bytes, uint64_t order,
              const std::function<void()>& body);

}  // namespace colossus::gpu
