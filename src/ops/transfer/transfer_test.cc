#include "ops/transfer/transfer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>

#include "device/tensor_set.h"
#include "device/testing.h"
#include "ops/testing/op_harness.h"
#include "program/passes.h"

namespace colossus {
namespace {

constexpr RankGroup kLink = RankGroup::to(Link::kToNext);
constexpr int64_t kSize = 1000;

std::vector<float> values(float first) {
  std::vector<float> result;
  for (int64_t i = 0; i < kSize; ++i) result.push_back(first + static_cast<float>(i));
  return result;
}

// y = 2 x and x, sent from the arena; nobody here reads either.
Program sender() {
  Builder b("sender");
  const TensorId x = b.input("x", {kSize}, DType::kF32);
  b.emit(Send{{.group = kLink}}, {b.emit(Scale{.factor = 2}, {x})});
  b.emit(Send{{.group = kLink}}, {b.emit(Cast{.dtype = DType::kBF16}, {x})});
  return eliminate_dead(*b.finish());
}

Program receiver() {
  Builder b("receiver");
  const TensorId y = b.emit(Receive{{.group = kLink}, {kSize}, DType::kF32}, {});
  b.emit(Receive{{.group = kLink}, {kSize}, DType::kBF16}, {});
  b.mark_output(y, "y");
  return eliminate_dead(*b.finish());
}

class Transfer : public testing::TestWithParam<RankDevice> {};
INSTANTIATE_TEST_SUITE_P(All, Transfer, testing::Values(RankDevice::kCpu, RankDevice::kGpu));

TEST_P(Transfer, BringsWhatWasSent) {
  run_ranks(
      2, kLink,
      [this](int rank, Device& device, RankGroups& groups) {
        auto executable = device.compile(rank == 0 ? sender() : receiver(), {.groups = &groups});
        ASSERT_TRUE(executable.ok()) << executable.status().message();
        const Program& program = (*executable)->program();
        // Halves of a transfer are never dead, even those whose result nobody reads.
        EXPECT_EQ(program.operations.size(), rank == 0 ? 4u : 2u);
        TensorSet tensors;
        ASSERT_TRUE(tensors.add_all(device, program).ok());
        tensors.bind_to(**executable);
        for (int repeat = 1; repeat <= 3; ++repeat) {
          const std::vector<float> x = values(static_cast<float>(repeat));
          if (rank == 0) device.write(*tensors.at("x").memory, 0, std::as_bytes(std::span(x)));
          ASSERT_TRUE((*executable)->run().ok());
          if (rank == 0) continue;
          std::vector<float> y(kSize);
          (*executable)->read_output(program.find("y"), std::as_writable_bytes(std::span(y)));
          for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], 2 * x[i]) << i;
        }
        const double sent = total_cost(program).bytes_sent;
        EXPECT_EQ(sent, rank == 0 ? kSize * (4 + 2) : 0);
        if (GetParam() == RankDevice::kCpu) {
          EXPECT_EQ(static_cast<double>(groups.find(kLink)->traffic().sent_bytes), 3 * sent);
        }
      },
      GetParam());
}

// x is copied to a stash and sent from there.
struct StashSender {
  StashSender(Device& device, RankGroups& groups) : device(device) {
    Builder b("sender");
    const TensorId x = b.input("x", {kSize}, DType::kF32);
    const TensorId copy = b.emit(Scale{.factor = 1}, {x});
    b.emit(Send{{.group = kLink}}, {copy});
    Program program = *b.finish();
    program.tensor(copy).role = Role::kStash;
    program.tensor(copy).name = "stash";
    executable = *device.compile(std::move(program), {.groups = &groups});
    CHECK(tensors.add_role(device, executable->program(), Role::kInput).ok());
    tensors.bind_to(*executable);
    stash = *device.allocate(2 * kSlotBytes);
  }

  Status run(float first, int64_t slot) {
    const std::vector<float> x = values(first);
    device.write(*tensors.at("x").memory, 0, std::as_bytes(std::span(x)));
    executable->bind(executable->program().find("stash"), stash, slot * kSlotBytes);
    return executable->run();
  }

  static constexpr int64_t kSlotBytes = 4096;
  Device& device;
  std::unique_ptr<Executable> executable;
  TensorSet tensors;
  std::shared_ptr<DeviceMemory> stash;
};

// Sends from two slots are out before the peer asks for anything. A third run writes to the first slot and waits for
// it: the peer still gets what was there.
TEST_P(Transfer, ASendFromAStashOutlivesItsRunAndKeepsItsBytes) {
  std::promise<void> both_sent;
  run_ranks(
      2, kLink,
      [&](int rank, Device& device, RankGroups& groups) {
        if (rank == 0) {
          StashSender sender(device, groups);
          ASSERT_TRUE(sender.run(1000, 0).ok());
          ASSERT_TRUE(sender.run(2000, 1).ok());
          EXPECT_EQ(sender.executable->waited_seconds(kLink.link), 0);
          both_sent.set_value();
          ASSERT_TRUE(sender.run(3000, 0).ok());
          // A GPU's stream waits, and nobody for the stream.
          if (GetParam() == RankDevice::kCpu) {
            EXPECT_GT(sender.executable->waited_seconds(kLink.link), 0.01);
          }
          ASSERT_TRUE(device.synchronize().ok());
          return;
        }
        Builder b("receiver");
        b.mark_output(b.emit(Receive{{.group = kLink}, {kSize}, DType::kF32}, {}), "y");
        const auto executable = *device.compile(*b.finish(), {.groups = &groups});
        // Where ranks meet before they first talk, the sender waits for this one.
        const bool meets = GetParam() == RankDevice::kGpu;
        if (!meets) both_sent.get_future().wait();
        std::this_thread::sleep_for(std::chrono::milliseconds(30));  // time for the third run to do harm
        for (const float first : {1000, 2000, 3000}) {
          ASSERT_TRUE(executable->run().ok());
          std::vector<float> got(kSize);
          executable->read_output(executable->program().find("y"), std::as_writable_bytes(std::span(got)));
          EXPECT_EQ(got, values(first));
          if (meets && first == 1000) both_sent.get_future().wait();
        }
      },
      GetParam());
}

// One program asks for what another reads from a stash.
struct StashReceiver {
  StashReceiver(Device& device, RankGroups& groups) : device(device) {
    Builder receiver("receiver"), reader("reader");
    const Receive op{{.group = kLink}, {kSize}, DType::kF32};
    const TensorId came = receiver.emit(op, {});
    Program program = *receiver.finish();
    program.tensor(came).role = Role::kStash;
    program.tensor(came).name = "stash";
    receive = *device.compile(std::move(program), {.groups = &groups});
    const TensorId stashed = reader.declare("stash", {{kSize}, DType::kF32}, Role::kStash);
    reader.mark_output(reader.emit(Scale{.factor = 2}, {stashed}), "y");
    read = *device.compile(*reader.finish(), {.groups = &groups});
    stash = *device.allocate(2 * kSlotBytes);
  }

  Status ask(int64_t slot) {
    receive->bind(receive->program().find("stash"), stash, slot * kSlotBytes);
    return receive->run();
  }
  Status take(int64_t slot, std::vector<float>& y) {
    read->bind(read->program().find("stash"), stash, slot * kSlotBytes);
    RETURN_IF_ERROR(read->run());
    y.resize(kSize);
    read->read_output(read->program().find("y"), std::as_writable_bytes(std::span(y)));
    return ok_status();
  }

  static constexpr int64_t kSlotBytes = 4096;
  Device& device;
  std::unique_ptr<Executable> receive, read;
  std::shared_ptr<DeviceMemory> stash;
};

// One first, so that ranks that meet before they first talk have met.
void send_one(StashSender& sender) { ASSERT_TRUE(sender.run(1, 1).ok()); }
void take_one(StashReceiver& receiver) {
  std::vector<float> y;
  ASSERT_TRUE(receiver.ask(0).ok());
  ASSERT_TRUE(receiver.take(0, y).ok());
  EXPECT_EQ(y.front(), 2);
}

// Two are asked for before the peer sends anything. Whoever reads what comes waits for it, and for no other.
TEST_P(Transfer, AReceiveIntoAStashOutlivesItsRunAndItsReadersWait) {
  std::promise<void> asked, read;
  run_ranks(
      2, kLink,
      [&](int rank, Device& device, RankGroups& groups) {
        if (rank == 0) {
          StashSender sender(device, groups);
          send_one(sender);
          asked.get_future().wait();
          std::this_thread::sleep_for(std::chrono::milliseconds(30));  // time for the reader to come too early
          ASSERT_TRUE(sender.run(1000, 0).ok());
          ASSERT_TRUE(device.synchronize().ok());
          read.get_future().wait();
          ASSERT_TRUE(sender.run(2000, 0).ok());
          ASSERT_TRUE(device.synchronize().ok());
          return;
        }
        StashReceiver receiver(device, groups);
        take_one(receiver);
        ASSERT_TRUE(receiver.ask(0).ok());
        ASSERT_TRUE(receiver.ask(1).ok());
        asked.set_value();
        for (const auto& [slot, first] : {std::pair(0, 1000.0F), std::pair(1, 2000.0F)}) {
          std::vector<float> y;
          const Status taken = receiver.take(slot, y);
          ASSERT_TRUE(taken.ok()) << taken.message();
          const std::vector<float> x = values(first);
          for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], 2 * x[i]) << i;
          if (slot > 0) continue;
          EXPECT_GT(receiver.read->waited_seconds(kLink.link), 0.01);
          read.set_value();
        }
      },
      GetParam());
}

TEST_P(Transfer, WhatReadsAStashThatNeverCameFails) {
  std::promise<void> asked;
  run_ranks(
      2, kLink,
      [&](int rank, Device& device, RankGroups& groups) {
        if (rank == 0) {
          {
            StashSender sender(device, groups);
            send_one(sender);
            ASSERT_TRUE(device.synchronize().ok());
          }
          asked.get_future().wait();
          return groups.clear();
        }
        StashReceiver receiver(device, groups);
        take_one(receiver);
        ASSERT_TRUE(receiver.ask(0).ok());
        asked.set_value();
        std::vector<float> y;
        const Status status = receiver.take(0, y);
        ASSERT_FALSE(status.ok());
        EXPECT_THAT(status.message(), testing::HasSubstr("rank 0"));
      },
      GetParam());
}

TEST(TransferFails, AfterTheRunAndIsReportedOnce) {
  std::promise<void> sent;
  run_ranks(2, kLink, [&](int rank, Device& device, RankGroups& groups) {
    if (rank == 1) {
      sent.get_future().wait();
      return groups.clear();
    }
    StashSender sender(device, groups);
    ASSERT_TRUE(sender.run(1, 0).ok());
    sent.set_value();
    const Status status = device.synchronize();
    ASSERT_FALSE(status.ok());
    EXPECT_THAT(status.message(), testing::HasSubstr("rank 1"));
    EXPECT_TRUE(device.synchronize().ok());
    // The link stays broken: the next send fails at once, and the run after it, which must wait for it, says so.
    ASSERT_TRUE(sender.run(2, 0).ok());
    Status next = sender.run(3, 0);
    if (next.ok()) next = sender.run(4, 0);  // the send had not failed when the third run began
    EXPECT_FALSE(next.ok());
  });
}

TEST(TransferErrors, NameWhatIsWrong) {
  EXPECT_THAT(write_error([](Builder& b) {
                b.emit(Send{{.group = RankGroup::along({MeshAxis::kData})}}, {b.input("x", {2}, DType::kF32)});
              }),
              testing::HasSubstr("send.group: got data; needed a link between two stages"));
  EXPECT_THAT(write_error([](Builder& b) { b.emit(Receive{}, {}); }), testing::HasSubstr("receive.group"));
}

}  // namespace
}  // namespace colossus
