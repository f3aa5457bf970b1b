#include "train/recovery/worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/cpu/cpu_device.h"
#include "train/testing.h"

namespace colossus {
namespace {

// Experts over four ranks, of which one was lost: the three that are left must not even try to meet.
TEST(Worker, ALayoutThatTheModelDoesNotDivideEndsTheRunAndSaysWhy) {
  const TinyData data;
  RunConfig run = tiny_run(data, "run");
  run.train.batch = 16;
  run.train.reduction_leaves = 4;
  run.mesh = {.shard = 4, .expert = 4};
  const TemporaryDirectory directory;
  const auto store = *open_directory_store(directory / "store");
  ASSERT_TRUE(publish(*store, {.id = 1, .data = 1, .shard = 3, .workers = {"w0", "w1", "w2"}}).ok());
  const auto device = *make_cpu_device({.num_threads = 1, .pin = false});
  TrainObserver observer;
  Worker worker({.id = "w1"}, *store, *store, [](Trainer&) { FAIL() << "there is nothing to train"; });
  const auto result = worker.run(run, local_files(), *device, data.tokenizer_json(), observer, false);
  EXPECT_EQ(result.status().code(), ErrorCode::kInvalid);
  EXPECT_THAT(result.status().message(),
              testing::HasSubstr("[mesh.expert] 4 does not divide the ranks of a stage = 3"));
}

}  // namespace
}  // namespace colossus
