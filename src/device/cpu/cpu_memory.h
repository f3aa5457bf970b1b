// Memory of the CPU device: bytes of its own, or a place for bytes that are stored elsewhere.
#pragma once

#include "base/thread_pool.h"
#include "device/device.h"
#include "tensor/buffer.h"

namespace colossus {

class CpuMemory final : public DeviceMemory {
 public:
  explicit CpuMemory(Buffer memory) : buffer(std::move(memory)) {}
  CpuMemory(Buffer place, StoredBytes bytes) : buffer(std::move(place)), stored_(std::move(bytes)) {}
  int64_t num_bytes() const override { return buffer.num_bytes(); }

  int64_t held_bytes() const override { return is_stored() && !filled_ ? 0 : num_bytes(); }

  bool is_stored() const { return static_cast<bool>(stored_.read); }
  // Of stored bytes: whether they are in the buffer too, which before fill() is a place without memory.
  bool is_filled() const { return filled_; }
  Status fill(ThreadPool& pool);  // does nothing the second time
  const StoredBytes& stored() const { return stored_; }

  Buffer buffer;
  uint64_t version = 1;  // moves on when the contents change

 private:
  StoredBytes stored_;
  bool filled_ = false;
};

// Calls work(part, job) for jobs 0 .. num_jobs - 1, each on the next thread of the pool that is free, until one fails.
// part: the thread, as in ThreadPool::run.
Status for_each_job(ThreadPool& pool, int64_t num_jobs, FunctionRef<Status(int part, int64_t job)> work);

}  // namespace colossus
