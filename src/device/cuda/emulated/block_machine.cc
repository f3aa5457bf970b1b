#include "device/cuda/emulated/block_machine.h"

#include <boost/context/fiber.hpp>
#include <boost/context/fixedsize_stack.hpp>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "base/check.h"

namespace colossus::gpu {

thread_local Coordinates threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr size_t kStackBytes = 256 << 10;
constexpr int64_t kMostSharedBytes = 227 << 10;  // of a block on Hopper

// Stacks are kept for the next launch.
class StackAllocator {
 public:
  boost::context::stack_context allocate() {
    std::vector<boost::context::stack_context>& free = free_stacks();
    if (free.empty()) return boost::context::fixedsize_stack(kStackBytes).allocate();
    const boost::context::stack_context stack = free.back();
    free.pop_back();
    return stack;
  }
  void deallocate(boost::context::stack_context& stack) noexcept { free_stacks().push_back(stack); }

 private:
  static std::vector<boost::context::stack_context>& free_stacks() {
    static thread_local std::vector<boost::context::stack_context> free;
    return free;
  }
};

struct AsyncCopy {
  void* to;
  const void* from;
  size_t num_bytes;
};

struct Thread {
  enum State { kReady, kAtWarp, kAtBlock, kDone };
  boost::context::fiber fiber;
  Coordinates index;
  State state = kReady;
  uint64_t meetings = 0;  // of its warp, so far
  std::vector<AsyncCopy> open_group;
  std::deque<std::vector<AsyncCopy>> groups;
};

struct Warp {
  int waiting = 0, done = 0;
  alignas(64) std::byte slots[2][32][kLaneSlotBytes];
};

class Block {
 public:
  Block(Coordinates shape, int64_t shared_bytes, const std::function<void()>& body)
      : threads_(static_cast<size_t>(shape.x) * shape.y * shape.z),
        warps_(threads_.size() / 32),
        shared_(static_cast<size_t>(shared_bytes) + 128),
        body_(body) {
    for (size_t i = 0; i < threads_.size(); ++i) {
      const auto at = static_cast<unsigned>(i);
      threads_[i].index = {at % shape.x, at / shape.x % shape.y, at / shape.x / shape.y};
    }
  }

  void run(std::minstd_rand& random) {
    // What nobody has written is a NaN, as bf16 and as fp32.
    std::fill(shared_.begin(), shared_.end(), std::byte{0xFF});
    for (Warp& warp : warps_) warp.waiting = warp.done = 0;
    at_block_ = 0;
    num_done_ = 0;
    for (Thread& thread : threads_) {
      thread.state = Thread::kReady;
      thread.meetings = 0;
      if (!thread.fiber) thread.fiber = make_fiber();
    }
    copies_at_once_ = random() % 2 == 0;
    std::vector<size_t> warp_order(warps_.size());
    std::iota(warp_order.begin(), warp_order.end(), size_t{0});
    while (num_done_ < threads_.size()) {
      std::shuffle(warp_order.begin(), warp_order.end(), random);
      bool moved = false;
      for (const size_t warp : warp_order) moved |= run_warp(warp, random() % 2 == 0);
      if (at_block_ + num_done_ == threads_.size() && at_block_ > 0) {
        CHECK(num_done_ == 0, "some threads of a block end while others wait at a barrier for them");
        for (Thread& thread : threads_) thread.state = Thread::kReady;
        at_block_ = 0;
        moved = true;
      }
      CHECK(moved, "threads of a block wait for each other");
    }
  }

  void suspend(Thread::State state) {
    now_->state = state;
    back_ = std::move(back_).resume();
  }
  Thread& now() { return *now_; }
  // A copy may be done as soon as it is asked for, or as late as when it is waited for.
  bool copies_at_once() const { return copies_at_once_; }
  Warp& warp_now() { return warps_[static_cast<size_t>(now_ - threads_.data()) / 32]; }
  int lane_now() const { return static_cast<int>((now_ - threads_.data()) % 32); }
  std::byte* shared() {
    const auto at = reinterpret_cast<uintptr_t>(shared_.data());
    return shared_.data() + (128 - at % 128) % 128;
  }

 private:
  // Runs the body once for each block.
  boost::context::fiber make_fiber() {
    return {std::allocator_arg, StackAllocator(), [this](boost::context::fiber&& back) {
              back_ = std::move(back);
              for (;;) {
                body_();
                CHECK(now_->groups.empty() && now_->open_group.empty(), "a thread ends before its copies are done");
                suspend(Thread::kDone);
              }
              return std::move(back_);
            }};
  }

  // Each of its threads as far as it gets; false when none can move.
  bool run_warp(size_t at, bool backwards) {
    Warp& warp = warps_[at];
    bool moved = false;
    for (size_t i = 0; i < 32; ++i) {
      Thread& thread = threads_[at * 32 + (backwards ? 31 - i : i)];
      if (thread.state != Thread::kReady) continue;
      moved = true;
      now_ = &thread;
      threadIdx = thread.index;
      thread.fiber = std::move(thread.fiber).resume();
      if (thread.state == Thread::kDone) ++warp.done, ++num_done_;
      if (thread.state == Thread::kAtBlock) ++at_block_;
      if (thread.state == Thread::kAtWarp) ++warp.waiting;
    }
    if (warp.waiting == 32) {
      warp.waiting = 0;
      for (size_t i = 0; i < 32; ++i) threads_[at * 32 + i].state = Thread::kReady;
      moved = true;
    }
    CHECK(warp.waiting == 0 || warp.done == 0, "lanes of a warp end while others wait for them");
    return moved;
  }

  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<std::byte> shared_;
  const std::function<void()>& body_;
  boost::context::fiber back_;  // the loop of run_warp
  Thread* now_ = nullptr;
  size_t at_block_ = 0, num_done_ = 0;
  bool copies_at_once_ = false;
};

thread_local Block* block_now = nullptr;

void finish(const std::vector<AsyncCopy>& group) {
  for (const AsyncCopy& copy : group)
    copy.from ? std::memcpy(copy.to, copy.from, copy.num_bytes) : std::memset(copy.to, 0, copy.num_bytes);
}

}  // namespace

int lane() { return block_now->lane_now(); }
void wait_for_block() { block_now->suspend(Thread::kAtBlock); }
void wait_for_warp() { block_now->suspend(Thread::kAtWarp); }
std::byte* block_shared_memory() { return block_now->shared(); }

const std::byte* meet_warp(const void* value, size_t num_bytes) {
  // Two sets of slots in turn: whoever writes a third time has met all others since they read the first.
  auto& slots = block_now->warp_now().slots[block_now->now().meetings++ % 2];
  std::memcpy(slots[block_now->lane_now()], value, num_bytes);
  wait_for_warp();
  return slots[0];
}

void post_async_copy(void* to, const void* from, size_t num_bytes) {
  CHECK(reinterpret_cast<uintptr_t>(to) % num_bytes == 0 && reinterpret_cast<uintptr_t>(from) % num_bytes == 0);
  std::vector<AsyncCopy> copy = {{to, from, num_bytes}};
  if (block_now->copies_at_once()) finish(copy);
  block_now->now().open_group.push_back(copy.front());
}

void close_async_group() {
  Thread& thread = block_now->now();
  thread.groups.push_back(std::exchange(thread.open_group, {}));
}

void finish_async_groups(int groups_left) {
  Thread& thread = block_now->now();
  for (; static_cast<int>(thread.groups.size()) > groups_left; thread.groups.pop_front()) finish(thread.groups.front());
}

void run_grid(Coordinates grid, Coordinates block, int64_t shared_bytes, uint64_t order,
              const std::function<void()>& body) {
  const uint64_t threads = static_cast<uint64_t>(block.x) * block.y * block.z;
  CHECK(threads > 0 && threads % 32 == 0 && threads <= 1024 && block.z <= 64, "a block has 32, 64, ... 1024 threads");
  CHECK(grid.x <= 0x7FFFFFFF && grid.y <= 65535 && grid.z <= 65535, "no GPU has so large a grid");
  CHECK(shared_bytes <= kMostSharedBytes, "no block has so much shared memory");
  CHECK(block_now == nullptr);
  Block runner(block, shared_bytes, body);
  block_now = &runner;
  blockDim = block;
  gridDim = grid;
  std::minstd_rand random(static_cast<uint32_t>(order) | 1U);
  const uint64_t num_blocks = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
  const bool backwards = random() % 2 == 0;
  for (uint64_t i = 0; i < num_blocks; ++i) {
    const uint64_t at = backwards ? num_blocks - 1 - i : i;
    blockIdx = {static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                static_cast<unsigned>(at / grid.x / grid.y)};
    runner.run(random);
  }
  block_now = nullptr;
}

}  // namespace colossus::gpu
