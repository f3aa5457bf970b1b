#include <cstring>

#include "device/cpu/cpu_kernel.h"
#include "ops/zeros/zeros.h"

namespace colossus {

template <>
void prepare_cpu(const Zeros&, CpuPrepare&) {}

template <>
void run_cpu(const Zeros&, const CpuCall& call) {
  const View& zeros = call.output(Zeros::kZeros);
  call.pool.parallel_for(zeros.num_bytes(), 1 << 16, [&](int64_t begin, int64_t end) {
    std::memset(zeros.data + begin, 0, static_cast<size_t>(end - begin));
  });
}

}  // namespace colossus
