#include "device/cpu/cpu_memory.h"

#include <algorithm>
#include <atomic>
#include <vector>

namespace colossus {

Status for_each_job(ThreadPool& pool, int64_t num_jobs, FunctionRef<Status(int part, int64_t job)> work) {
  std::atomic<int64_t> next = 0;
  std::vector<Status> faults(static_cast<size_t>(pool.num_threads()));
  pool.run([&](int part) {
    for (int64_t job; (job = next.fetch_add(1)) < num_jobs;) {
      Status done = work(part, job);
      if (done.ok()) continue;
      faults[static_cast<size_t>(part)] = std::move(done);
      next = num_jobs;
    }
  });
  for (Status& fault : faults) RETURN_IF_ERROR(std::move(fault));
  return ok_status();
}

Status CpuMemory::fill(ThreadPool& pool) {
  if (filled_) return ok_status();
  RETURN_IF_ERROR(buffer.commit());
  const int64_t step = std::max<int64_t>(1, stored_.chunk_bytes);
  RETURN_IF_ERROR(for_each_job(pool, (num_bytes() + step - 1) / step, [&](int, int64_t job) {
    const int64_t begin = job * step, end = std::min(num_bytes(), begin + step);
    return stored_.read(begin, {buffer.data() + begin, static_cast<size_t>(end - begin)});
  }));
  filled_ = true;
  return ok_status();
}

}  // namespace colossus
