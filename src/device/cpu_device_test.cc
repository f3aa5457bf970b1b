#include "device/cpu/cpu_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "device/tensor_set.h"
#include "program/builder.h"

namespace colossus {
namespace {

// y = x @ w, with w a parameter.
Program product(int64_t rows, int64_t inner = 24, int64_t cols = 40) {
  Builder b("product");
  const TensorId x = b.input("x" + std::to_string(rows), {rows, inner}, DType::kF32),
                 w = b.parameter("w", {inner, cols});
  b.mark_output(b.emit(Matmul{}, {x, w}), "y");
  return *b.finish();
}

class CpuDeviceTest : public testing::Test {
 protected:
  std::unique_ptr<Executable> compile(Program program, const CompileOptions& options = {}) {
    CHECK(tensors_.add_all(*device_, program).ok());
    auto executable = *device_->compile(std::move(program), options);
    tensors_.bind_to(*executable);
    return executable;
  }
  void fill(const std::string& name, float value) {
    const std::vector<float> values(static_cast<size_t>(tensors_.at(name).type.shape.num_elements()), value);
    device_->write(*tensors_.at(name).memory, 0, std::as_bytes(std::span(values)));
  }
  std::vector<float> output(Executable& executable) {
    const TensorId id = executable.program().find("y");
    std::vector<float> values(static_cast<size_t>(executable.program().tensor(id).type.shape.num_elements()));
    executable.read_output(id, std::as_writable_bytes(std::span(values)));
    return values;
  }

  std::unique_ptr<Device> device_ = *make_cpu_device({.num_threads = 2});
  TensorSet tensors_;
};

// Weights are packed when they change, however they change, and every executable sees it.
TEST_F(CpuDeviceTest, PackedWeightsFollowTheirMemory) {
  const auto many = compile(product(64)), one = compile(product(1));
  fill("x64", 1);
  fill("x1", 1);
  fill("w", 0.5F);
  const auto expect = [&](float value) {
    CHECK(many->run().ok());
    EXPECT_THAT(output(*many), testing::Each(value));
    CHECK(one->run().ok());
    EXPECT_THAT(output(*one), testing::Each(value));
  };
  expect(12);
  fill("w", 2);
  expect(48);
  DeviceMemory& w = *tensors_.at("w").memory;
  device_->zero(w);
  expect(0);
  const auto other = *device_->allocate(w.num_bytes());
  const std::vector<float> ones(24 * 40, 1);
  device_->write(*other, 0, std::as_bytes(std::span(ones)));
  device_->copy(w, *other);
  expect(24);
  device_->add(w, *other, 24 * 40);
  expect(48);

  // A program that changes the weight in place.
  Builder b("update");
  const TensorType type{{24, 40}, DType::kF32};
  b.emit(AdamW{},
         {b.parameter("w", type.shape), b.declare("grad.w", type, Role::kGradient),
          b.declare("w.m", type, Role::kOptimizerState), b.declare("w.v", type, Role::kOptimizerState),
          b.input("lr", {}, DType::kF32), b.input("step", {}, DType::kI64), b.input("scale", {}, DType::kF32)});
  const auto update = compile(*b.finish());
  fill("grad.w", 3);
  fill("lr", 1);
  fill("scale", 1);
  const int64_t step = 1;
  device_->write(*tensors_.at("step").memory, 0, bytes_of(step));
  CHECK(update->run().ok());  // the first step of AdamW is lr against the gradient's sign
  CHECK(many->run().ok());
  for (const float value : output(*many)) EXPECT_NEAR(value, 24, 1e-4F);
  CHECK(one->run().ok());
  for (const float value : output(*one)) EXPECT_NEAR(value, 24, 1e-4F);
}

// A larger program moves the arena; the smaller one compiled before goes on.
TEST_F(CpuDeviceTest, TheSharedArenaGrows) {
  const auto small = compile(product(1));
  fill("x1", 1);
  fill("w", 1);
  CHECK(small->run().ok());
  EXPECT_THAT(output(*small), testing::Each(24.0F));
  const auto large = compile(product(5000));
  ASSERT_GT(large->memory_plan().arena_bytes, small->memory_plan().arena_bytes);
  fill("x5000", 2);
  CHECK(large->run().ok());
  EXPECT_THAT(output(*large), testing::Each(48.0F));
  CHECK(small->run().ok());
  EXPECT_THAT(output(*small), testing::Each(24.0F));
  EXPECT_EQ(small->packed_bytes(), large->packed_bytes());
}

TEST_F(CpuDeviceTest, ProfilesWhenAsked) {
  const auto plain = compile(product(8)), profiled = compile(product(9), {.profile = true});
  for (const char* name : {"x8", "x9", "w"}) fill(name, 1);
  for (int i = 0; i < 3; ++i) {
    CHECK(plain->run().ok());
    CHECK(profiled->run().ok());
  }
  EXPECT_TRUE(plain->operation_times().empty());
  ASSERT_EQ(profiled->operation_times().size(), profiled->program().operations.size());
  EXPECT_EQ(profiled->operation_times()[0].num_runs, 3);
  EXPECT_GE(profiled->operation_times()[0].seconds, 0);
}

TEST_F(CpuDeviceTest, TracesTheOperationsOfTheStepsAskedFor) {
  Trace trace({.first_step = 2, .last_step = 3});
  const auto device = *make_cpu_device({.num_threads = 2, .trace = &trace});
  TensorSet tensors;
  CHECK(tensors.add_all(*device, product(8)).ok());
  const auto executable = *device->compile(product(8));
  tensors.bind_to(*executable);
  for (int64_t step = 1; step <= 4; ++step) {
    trace.begin_step(step);
    CHECK(executable->run().ok());
  }
  const auto spans = trace.lane(kComputeLane).spans();
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(spans[0].step, 2);
  EXPECT_EQ(spans[1].step, 3);
  EXPECT_EQ(spans[0].label, trace.label({.name = "matmul", .category = "product,forward"}));
  EXPECT_LE(spans[0].end, spans[1].begin);
}

// Bytes in a file, and how often each was read.
struct CountedBytes {
  explicit CountedBytes(std::vector<float> numbers) : values(std::move(numbers)), reads(values.size() * 4) {}
  StoredBytes stored(int64_t chunk_bytes) {
    return {.read =
                [this](int64_t offset, std::span<std::byte> into) {
                  if (fault) return corrupt("a checksum");
                  const auto bytes = std::as_bytes(std::span(values)).subspan(static_cast<size_t>(offset), into.size());
                  std::ranges::copy(bytes, into.begin());
                  for (size_t i = 0; i < into.size(); ++i) ++reads[static_cast<size_t>(offset) + i];
                  return ok_status();
                },
            .chunk_bytes = chunk_bytes};
  }

  std::vector<float> values;
  std::vector<int> reads;
  std::atomic<bool> fault = false;
};

std::vector<float> rising(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i % 97) - 48;
  return values;
}

// A weight that products alone read is read once, in parts, for all programs, and held in their form alone.
TEST_F(CpuDeviceTest, StoredWeightsArePackedAsTheyAreRead) {
  for (const int64_t chunk_bytes : {1, 700, 1 << 20}) {
    CountedBytes bytes(rising(24 * 40));
    TensorSet stored, inputs;
    std::vector<std::unique_ptr<Executable>> executables;  // packed forms live as long as somebody reads them
    ASSERT_TRUE(stored.add_stored(*device_, "w", {{24, 40}, DType::kF32}, bytes.stored(chunk_bytes)).ok());
    for (const int64_t rows : {64, 1}) {
      const auto& executable = executables.emplace_back(*device_->compile(product(rows)));
      ASSERT_TRUE(inputs.add_role(*device_, executable->program(), Role::kInput).ok());
      stored.bind_to(*executable);
      inputs.bind_to(*executable);
      const std::vector<float> ones(static_cast<size_t>(rows * 24), 1);
      device_->write(*inputs.at("x" + std::to_string(rows)).memory, 0, std::as_bytes(std::span(ones)));
      ASSERT_TRUE(executable->load().ok());
      ASSERT_TRUE(executable->run().ok());
      const std::vector<float> y = output(*executable);
      EXPECT_EQ(executable->packed_bytes(), 24 * 64 * 4);  // two panels of 32 columns
      EXPECT_EQ(stored.held_bytes(), 0);
      for (int64_t column = 0; column < 40; ++column) {
        float sum = 0;
        for (int64_t row = 0; row < 24; ++row) sum += bytes.values[static_cast<size_t>(row * 40 + column)];
        EXPECT_EQ(y[static_cast<size_t>(column)], sum);
      }
    }
    EXPECT_THAT(bytes.reads, testing::Each(1));
  }
}

// What another operation reads too is held, and packed from there.
TEST_F(CpuDeviceTest, StoredTablesAreHeldForLookUps) {
  CountedBytes bytes(rising(33 * 24));
  Builder b("tied");
  const TensorId table = b.parameter("table", {33, 24});
  const TensorId x = b.emit(Embedding{}, {table, b.input("tokens", {1, 1}, DType::kI32)});
  b.mark_output(b.emit(Matmul{.transpose_b = true}, {x, table}), "y");
  const auto executable = *device_->compile(*b.finish());
  ASSERT_TRUE(tensors_.add_role(*device_, executable->program(), Role::kInput).ok());
  ASSERT_TRUE(tensors_.add_stored(*device_, "table", {{33, 24}, DType::kF32}, bytes.stored(100)).ok());
  tensors_.bind_to(*executable);
  bytes.fault = true;
  EXPECT_EQ(executable->load().code(), ErrorCode::kCorrupt);
  EXPECT_EQ(executable->run().code(), ErrorCode::kCorrupt);
  bytes.fault = false;
  ASSERT_TRUE(executable->run().ok());
  EXPECT_THAT(bytes.reads, testing::Each(1));
  EXPECT_EQ(tensors_.at("table").memory->held_bytes(), 33 * 24 * 4);
  float sum = 0;
  for (size_t i = 0; i < 24; ++i) sum += bytes.values[i] * bytes.values[24 + i];
  EXPECT_EQ(output(*executable)[1], sum);
}

TEST_F(CpuDeviceTest, MemoryBeginsAsZeros) {
  const auto memory = *device_->allocate(1000);
  std::vector<std::byte> bytes(1000, std::byte{1});
  device_->read(*memory, 0, bytes);
  EXPECT_THAT(bytes, testing::Each(std::byte{0}));
  EXPECT_EQ(device_->allocate(int64_t{1} << 60).status().code(), ErrorCode::kExhausted);
  EXPECT_THAT(device_->description(), testing::HasSubstr("2 threads"));
}

TEST_F(CpuDeviceTest, AnUnverifiedProgramIsRefused) {
  Program program = product(4);
  program.tensors.push_back(program.tensors[0]);  // a name twice
  EXPECT_FALSE(device_->compile(std::move(program)).ok());
}

TEST_F(CpuDeviceTest, AMissingBindingIsOurMistake) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // the device has threads
  const auto executable = *device_->compile(product(4));
  EXPECT_DEATH(static_cast<void>(executable->run()), "x4");
}

}  // namespace
}  // namespace colossus
