#include "ops/zeros/zeros.h"

#include <gmock/gmock.h>

#include "device/cpu/cpu_kernel.h"
#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

TEST(Zeros, OverwriteWhatWasThere) {
  for (const bool reference : {false, true}) {
    std::vector<float> values(100'003, 1.0F);
    const View outputs[] = {
        {reinterpret_cast<std::byte*>(values.data()), {static_cast<int64_t>(values.size())}, DType::kF32}};
    ThreadPool pool(2, false);
    const CpuCall call(pool, nullptr, 0, outputs, 1, nullptr, nullptr);
    const Zeros op{.size = static_cast<int64_t>(values.size())};
    reference ? run_reference(op, call) : run_cpu(op, call);
    EXPECT_THAT(values, testing::Each(0.0F));
  }
}

TEST(Zeros, RefusesANegativeSize) {
  EXPECT_THAT(write_error([](Builder& b) { b.emit(Zeros{.size = -1}, {}); }), testing::HasSubstr("zeros.size: got -1"));
}

}  // namespace
}  // namespace colossus
