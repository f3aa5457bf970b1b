// What the device asks of the driver, by the calls that a GPU of this process records.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <cstring>
#include <thread>

#include "device/cuda/cuda_device.h"
#include "device/cuda/emulated/emulated_gpu.h"
#include "device/testing.h"
#include "program/builder.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

// y = x * 3 in two steps, w += nothing.
struct Written {
  Program program;
  TensorId x, y;
};
Written write_program() {
  Builder b("test");
  Written written;
  written.x = b.input("x", {5, 8}, DType::kF32);
  written.y = b.emit(Scale{.factor = 1.5}, {b.emit(Scale{.factor = 2}, {written.x})});
  b.mark_output(written.y, "y");
  written.program = *b.finish();
  return written;
}

std::vector<float> read_y(Executable& executable, TensorId y) {
  std::vector<float> values(40);
  executable.read_output(y, std::as_writable_bytes(std::span(values)));
  return values;
}

class CudaExecutableTest : public testing::Test {
 protected:
  CudaExecutableTest() : device_(*make_cuda_device()), written_(write_program()) {}

  std::unique_ptr<Executable> compile(const CompileOptions& options = {}) {
    return std::move(*device_->compile(written_.program, options));
  }
  std::shared_ptr<DeviceMemory> memory_of(float value) {
    auto memory = *device_->allocate(160);
    const std::vector<float> values(40, value);
    device_->write(*memory, 0, std::as_bytes(std::span(values)));
    return memory;
  }

  std::unique_ptr<Device> device_;
  Written written_;
};

TEST_F(CudaExecutableTest, AStepIsOneGraphAndNothingElse) {
  const auto executable = compile();
  executable->bind(written_.x, memory_of(1), 0);
  gpu::forget_emulated_calls();
  ASSERT_TRUE(executable->run().ok());
  EXPECT_EQ(gpu::emulated_calls(), (std::multiset<std::string>{"launch_kernel", "launch_kernel"}))
      << "the first run is not written down";
  gpu::forget_emulated_calls();
  ASSERT_TRUE(executable->run().ok());
  EXPECT_EQ(gpu::emulated_calls(),
            (std::multiset<std::string>{"captured_kernel", "captured_kernel", "instantiate", "launch_graph"}));
  gpu::forget_emulated_calls();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(executable->run().ok());
  EXPECT_EQ(gpu::emulated_calls(), (std::multiset<std::string>{"launch_graph", "launch_graph", "launch_graph"}))
      << "a run waits for nothing, allocates nothing, launches no kernel by itself";
  EXPECT_EQ(read_y(*executable, written_.y), std::vector<float>(40, 3));
}

TEST_F(CudaExecutableTest, OtherMemoryIsAnotherGraph) {
  const auto executable = compile();
  executable->bind(written_.x, memory_of(1), 0);
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(executable->run().ok());
  executable->bind(written_.x, memory_of(2), 0);
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(executable->run().ok());
  EXPECT_EQ(read_y(*executable, written_.y), std::vector<float>(40, 6));
}

TEST_F(CudaExecutableTest, ALargerProgramMovesTheArenaUnderTheFirst) {
  const auto small = compile();
  small->bind(written_.x, memory_of(1), 0);
  ASSERT_TRUE(small->run().ok());
  Builder b("large");
  const TensorId x = b.input("x", {1 << 16}, DType::kF32);
  b.mark_output(b.emit(Scale{.factor = 2}, {b.emit(Scale{.factor = 2}, {x})}), "y");
  const auto large = *device_->compile(*b.finish());
  ASSERT_TRUE(small->run().ok());
  EXPECT_EQ(read_y(*small, written_.y), std::vector<float>(40, 3));
}

TEST_F(CudaExecutableTest, ProfilesEachOperationAndTracesIt) {
  Trace trace;
  device_ = *make_cuda_device({.trace = &trace});
  const auto executable = compile({.profile = true});
  executable->bind(written_.x, memory_of(1), 0);
  trace.begin_step(0);
  ASSERT_TRUE(executable->run().ok());
  ASSERT_EQ(executable->operation_times().size(), 2u);
  for (const OperationTime& time : executable->operation_times()) {
    EXPECT_EQ(time.num_runs, 1);
    EXPECT_GT(time.seconds, 0);
  }
  EXPECT_EQ(trace.lane("gpu").spans().size(), 2u);
  EXPECT_EQ(read_y(*executable, written_.y), std::vector<float>(40, 3));
}

TEST_F(CudaExecutableTest, WeightsAreRoundedOnceForEachChange) {
  Builder b("product");
  const TensorId x = b.input("x", {16, 8}, DType::kBF16), w = b.parameter("w", {8, 8}, DType::kF32);
  const TensorId y = b.emit(Matmul{.dtype = DType::kF32}, {x, w});
  b.mark_output(y, "y");
  const auto executable = *device_->compile(*b.finish());
  const std::vector<BFloat16> ones(16 * 8, to_bf16(1));
  auto x_memory = *device_->allocate(256), w_memory = *device_->allocate(256);
  device_->write(*x_memory, 0, std::as_bytes(std::span(ones)));
  executable->bind(x, x_memory, 0);
  executable->bind(w, w_memory, 0);
  EXPECT_EQ(executable->packed_bytes(), 128);
  for (const float value : {1.0F, 2.0F}) {
    const std::vector<float> weights(64, value);
    device_->write(*w_memory, 0, std::as_bytes(std::span(weights)));
    gpu::forget_emulated_calls();
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(executable->run().ok());
    EXPECT_EQ(gpu::emulated_calls().count("launch_kernel"), 1u);
    std::vector<float> result(16 * 8);
    executable->read_output(y, std::as_writable_bytes(std::span(result)));
    EXPECT_EQ(result, std::vector<float>(16 * 8, 8 * value));
  }
}

TEST_F(CudaExecutableTest, MemoryIsZeroedCopiedAndAdded) {
  const auto a = memory_of(1), b = memory_of(2);
  const auto c = *device_->allocate(160);
  const auto first = [&](const DeviceMemory& memory) {
    std::vector<float> values(40);
    device_->read(memory, 0, std::as_writable_bytes(std::span(values)));
    return values;
  };
  EXPECT_EQ(first(*c), std::vector<float>(40, 0));
  device_->copy(*c, *b);
  device_->add(*c, *a, 39);
  std::vector<float> want(40, 3);
  want[39] = 2;
  EXPECT_EQ(first(*c), want);
  device_->zero(*c);
  EXPECT_EQ(first(*c), std::vector<float>(40, 0));
  std::vector<std::byte> part(8);
  device_->read(*b, 152, part);
  float value = 0;
  std::memcpy(&value, part.data() + 4, 4);
  EXPECT_EQ(value, 2);
}

constexpr RankGroup kGroup = RankGroup::along({MeshAxis::kTensor});

// y = 2 * (the sum of all ranks' x), and z = 3 x beside it.
Program sum_program(int rank, int ranks, int64_t size = 40) {
  Builder b("ranks");
  const TensorId x = b.input("x", {size}, DType::kF32);
  const TensorId sum = b.emit(AllReduce{{.group = kGroup, .ranks = ranks, .rank = rank}}, {x});
  b.mark_output(b.emit(Scale{.factor = 3}, {x}), "z");
  b.mark_output(b.emit(Scale{.factor = 2}, {sum}), "y");
  return *b.finish();
}

struct SumRun {
  SumRun(Device& device, RankGroups& groups, int rank, const CompileOptions& options = {})
      : executable(*device.compile(sum_program(rank, 2), {.profile = options.profile, .groups = &groups})),
        memory(*device.allocate(160)) {
    const std::vector<float> values(40, static_cast<float>(rank + 1));
    device.write(*memory, 0, std::as_bytes(std::span(values)));
    executable->bind(executable->program().find("x"), memory);
  }
  std::unique_ptr<Executable> executable;
  std::shared_ptr<DeviceMemory> memory;
};

TEST(CudaRanks, LanesArePartOfTheGraph) {
  std::barrier both(2);
  run_ranks(
      2, kGroup,
      [&](int rank, Device& device, RankGroups& groups) {
        SumRun sum(device, groups, rank);
        for (int i = 0; i < 2; ++i) ASSERT_TRUE(sum.executable->run().ok());
        both.arrive_and_wait();
        if (rank == 0) gpu::forget_emulated_calls();
        both.arrive_and_wait();
        const Status ran = sum.executable->run();
        both.arrive_and_wait();
        ASSERT_TRUE(ran.ok()) << ran.message();
        EXPECT_EQ(gpu::emulated_calls(), (std::multiset<std::string>{"launch_graph", "launch_graph"}));
        both.arrive_and_wait();
        EXPECT_EQ(read_y(*sum.executable, sum.executable->program().find("y")), std::vector<float>(40, 6));
        EXPECT_EQ(read_y(*sum.executable, sum.executable->program().find("z")),
                  std::vector<float>(40, static_cast<float>(3 * rank + 3)));
      },
      RankDevice::kGpu);
}

TEST(CudaRanks, WhatARankWaitsForOthersIsNotItsOwnTime) {
  std::barrier both(2);
  run_ranks(
      2, kGroup,
      [&](int rank, Device& device, RankGroups& groups) {
        SumRun sum(device, groups, rank);
        ASSERT_TRUE(sum.executable->run().ok());
        both.arrive_and_wait();
        if (rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(100));
        ASSERT_TRUE(sum.executable->run().ok());
        if (rank == 0) {
          EXPECT_GT(sum.executable->waited_seconds(Link::kNone), 0.05);
        }
        EXPECT_EQ(sum.executable->waited_seconds(Link::kGradients), 0);
      },
      RankDevice::kGpu);
}

TEST(CudaRanks, OperationsAreTimedOnTheirLanes) {
  run_ranks(
      2, kGroup,
      [&](int rank, Device&, RankGroups& groups) {
        Trace trace;
        trace.begin_step(3);
        const auto device = *make_cuda_device({.index = rank, .trace = &trace});
        const SumRun sum(*device, groups, rank, {.profile = true});
        for (int i = 0; i < 2; ++i) ASSERT_TRUE(sum.executable->run().ok());
        for (const OperationTime& time : sum.executable->operation_times()) EXPECT_EQ(time.num_runs, 2);
        const std::vector<TraceSpan> spans = trace.lane("tensor").spans();
        ASSERT_EQ(spans.size(), 2u);
        EXPECT_EQ(spans.front().step, 3);
        EXPECT_EQ(trace.lane("gpu").spans().size(), 4u);
      },
      RankDevice::kGpu);
}

}  // namespace
}  // namespace colossus
