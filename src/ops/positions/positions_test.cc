#include "ops/positions/positions.h"

#include <gmock/gmock.h>

#include "device/cpu/cpu_kernel.h"
#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

TEST(Positions, CountInTwoRuns) {
  const Positions op{.batch = 2, .tokens = 3, .first = 6, .second = 11, .num_second = 1};
  for (const bool reference : {false, true}) {
    std::vector<int32_t> positions(6, -1);
    const View outputs[] = {{reinterpret_cast<std::byte*>(positions.data()), {2, 3}, DType::kI32}};
    ThreadPool pool(1);
    const CpuCall call(pool, nullptr, 0, outputs, 1, nullptr, nullptr);
    reference ? run_reference(op, call) : run_cpu(op, call);
    EXPECT_THAT(positions, testing::ElementsAre(6, 7, 11, 6, 7, 11));
  }
}

TEST(Positions, RefusesWhatLiesBeforeTheSequence) {
  EXPECT_THAT(write_error([](Builder& b) { b.emit(Positions{.batch = 1, .tokens = 2, .first = -1}, {}); }),
              testing::HasSubstr("positions.first: got -1"));
}

}  // namespace
}  // namespace colossus
