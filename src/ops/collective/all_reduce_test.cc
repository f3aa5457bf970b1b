#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <future>

#include "device/tensor_set.h"
#include "device/testing.h"
#include "ops/collective/collective.h"
#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

constexpr RankGroup kGroup = RankGroup::along({MeshAxis::kTensor});

class Sums : public testing::TestWithParam<std::tuple<DType, int64_t, RankDevice>> {};

TEST_P(Sums, HaveTheBitsOfAdditionInOrderOfRank) {
  const auto [dtype, size, rank_device] = GetParam();
  for (const int ranks : {1, 2, 5}) {
    // As the dtype has them; their sums are exact before the last rounding.
    const auto value = [dtype = dtype](int rank, int64_t i) {
      const double wanted =
          std::ldexp(static_cast<double>((i * 7919 + rank * 104729) % 1009 - 500), static_cast<int>((i + rank) % 9));
      return dtype == DType::kBF16 ? static_cast<double>(to_float(to_bf16(static_cast<float>(wanted)))) : wanted;
    };
    run_ranks(
        ranks, kGroup,
        [&, dtype = dtype, size = size](int rank, Device& device, RankGroups& groups) {
          Builder b("sum");
          const TensorId x = b.input("x", {size}, dtype);
          b.mark_output(b.emit(AllReduce{{.group = kGroup, .ranks = ranks, .rank = rank}}, {x}), "sum");
          auto executable = device.compile(*b.finish(), {.groups = &groups});
          ASSERT_TRUE(executable.ok());
          TensorSet tensors;
          ASSERT_TRUE(tensors.add_all(device, (*executable)->program()).ok());
          tensors.bind_to(**executable);
          std::vector<std::byte> mine(static_cast<size_t>(size * dtype_bytes(dtype))), sum(mine.size());
          const View view{mine.data(), {size}, dtype}, result{sum.data(), {size}, dtype};
          for (int64_t i = 0; i < size; ++i) view.set(i, value(rank, i));
          device.write(*tensors.at("x").memory, 0, mine);
          ASSERT_TRUE((*executable)->run().ok());
          (*executable)->read_output((*executable)->program().find("sum"), sum);
          for (int64_t i = 0; i < size; ++i) {
            double expected = 0;
            for (int r = 0; r < ranks; ++r) expected += value(r, i);  // exact: integers below 2^20
            view.set(0, expected);
            ASSERT_EQ(result.get(i), view.get(0)) << i << " of " << ranks << " ranks";
          }
        },
        rank_device);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Sums,
                         testing::Combine(testing::Values(DType::kF32, DType::kF64, DType::kBF16, DType::kI64),
                                          testing::Values(1, 3, 1000, 70000),
                                          testing::Values(RankDevice::kCpu, RankDevice::kGpu)));

class AllReduceFails : public testing::TestWithParam<RankDevice> {};
INSTANTIATE_TEST_SUITE_P(All, AllReduceFails, testing::Values(RankDevice::kCpu, RankDevice::kGpu));

Status sum_once(Device& device, RankGroups& groups, int rank, bool goes = false) {
  Builder b("sum");
  const TensorId x = b.input("x", {64}, DType::kF32);
  const TensorId once = b.emit(AllReduce{{.group = kGroup, .ranks = 3, .rank = rank}}, {x});
  b.mark_output(b.emit(Scale{.factor = 2}, {once}), "y");
  auto executable = device.compile(*b.finish(), {.groups = &groups});
  TensorSet tensors;
  CHECK(tensors.add_all(device, (*executable)->program()).ok());
  tensors.bind_to(**executable);
  if (goes) {
    groups.clear();
    return ok_status();
  }
  return (*executable)->run();
}

TEST_P(AllReduceFails, WhereARankIsGoneBeforeItSaysAnything) {
  run_ranks(
      3, kGroup,
      [&](int rank, Device& device, RankGroups& groups) {
        const Status ran = sum_once(device, groups, rank, rank == 1);
        if (rank == 1) return;
        ASSERT_FALSE(ran.ok());
        EXPECT_NE(ran.message().find("rank 1"), std::string::npos) << ran.message();
      },
      GetParam());
}

// The second time the ranks of a GPU know each other: the message is of the operation.
TEST_P(AllReduceFails, WhereARankGoesOrDoesNotComeInTime) {
  for (const bool goes : {true, false}) {
    std::promise<void> others_are_done;
    const auto done = others_are_done.get_future().share();
    std::atomic<int> num_done = 0;
    run_ranks(
        3, kGroup,
        [&](int rank, Device& device, RankGroups& groups) {
          const Status first = sum_once(device, groups, rank);
          ASSERT_TRUE(first.ok()) << first.message();
          for (const auto& [group, end] : groups.ends()) end->set_timeout(0.3);
          if (rank == 1) {
            if (goes) groups.clear();
            return done.wait();
          }
          const Status ran = sum_once(device, groups, rank);
          ASSERT_FALSE(ran.ok());
          // A GPU's ranks do not hear who of them is late, but what they wait for.
          const char* operation = GetParam() == RankDevice::kGpu ? "all_reduce" : "all_gather";
          for (const char* part : goes ? std::vector{"rank 1"} : std::vector{operation, "within 0"})
            EXPECT_THAT(ran.message(), testing::HasSubstr(part));
          // The group stays broken.
          EXPECT_FALSE(sum_once(device, groups, rank).ok());
          if (++num_done == 2) others_are_done.set_value();
        },
        GetParam());
  }
}

}  // namespace
}  // namespace colossus
