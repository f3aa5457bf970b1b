#include <cstring>

#include "device/cpu/cpu_kernel.h"
#include "ops/select_token/select_token.h"

namespace colossus {

template <>
void prepare_cpu(const SelectToken&, CpuPrepare&) {}

// A few rows of a few kilobytes: not worth a second thread.
template <>
void run_cpu(const SelectToken&, const CpuCall& call) {
  const View &x = call.input(SelectToken::kX), &y = call.output(SelectToken::kY);
  const int32_t* index = call.input(SelectToken::kIndex).as<int32_t>();
  const int64_t T = x.shape[1], row_bytes = x.shape[2] * dtype_bytes(x.dtype);
  for (int64_t b = 0; b < x.shape[0]; ++b) {
    const int64_t t = index[b] >= 0 && index[b] < T ? index[b] : 0;
    std::memcpy(y.data + b * row_bytes, x.data + (b * T + t) * row_bytes, static_cast<size_t>(row_bytes));
  }
}

}  // namespace colossus
