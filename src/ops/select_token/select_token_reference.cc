#include "device/cpu/cpu_kernel.h"
#include "ops/select_token/select_token.h"

namespace colossus {

template <>
void run_reference(const SelectToken&, const ReferenceCall& call) {
  const View &x = call.input(SelectToken::kX), &index = call.input(SelectToken::kIndex),
             &y = call.output(SelectToken::kY);
  const int64_t T = x.shape[1], C = x.shape[2];
  for (int64_t b = 0; b < x.shape[0]; ++b) {
    auto t = static_cast<int64_t>(index.get(b));
    if (t < 0 || t >= T) t = 0;
    for (int64_t c = 0; c < C; ++c) y.set(b * C + c, x.get((b * T + t) * C + c));
  }
}

}  // namespace colossus
