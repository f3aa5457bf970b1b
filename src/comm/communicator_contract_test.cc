// What every transport promises. Ranks are threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <numeric>
#include <thread>

#include "base/clock.h"
#include "comm/communicator.h"
#include "comm/testing.h"

namespace colossus {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr size_t kMiB = size_t{1} << 20;

struct Transport {
  const char* name;
  Result<CommGroup> (*make)(const GroupOptions& options_of_all);
};

class CommunicatorContract : public testing::TestWithParam<Transport> {
 protected:
  static CommGroup make(int size, double timeout_seconds = 20, const std::string& name = "data") {
    Result<CommGroup> group = GetParam().make({.name = name, .size = size, .timeout_seconds = 20});
    EXPECT_TRUE(group.ok()) << group.status().message();
    if (!group.ok()) return {};
    for (const auto& end : *group) end->set_timeout(timeout_seconds);
    return std::move(group).value();
  }
};

// One of several groups of a network, with some of its ranks, in another order.
Result<CommGroup> make_tcp_channel(const GroupOptions& options) {
  ASSIGN_OR_RETURN(const auto networks, make_loopback_networks(options.size + 2));
  std::vector<int> members, all = {0, options.size + 1};
  for (int rank = options.size; rank >= 1; --rank) members.push_back(rank);
  all.insert(all.end(), members.begin(), members.end());
  CommGroup group;
  for (const int member : members) {
    const auto& network = networks[static_cast<size_t>(member)];
    network->group("other", all, 1)->abort("nobody needs it");
    group.push_back(network->group(options.name, members, options.timeout_seconds));
  }
  return group;
}

INSTANTIATE_TEST_SUITE_P(Transports, CommunicatorContract,
                         testing::Values(Transport{"Threads",
                                                   [](const GroupOptions& options) -> Result<CommGroup> {
                                                     return make_thread_group(options);
                                                   }},
                                         Transport{"Tcp", make_loopback_tcp_group},
                                         Transport{"TcpChannel", make_tcp_channel}),
                         [](const auto& test) { return test.param.name; });

// Which bytes go from one rank to another in the `turn`-th operation.
Bytes message(int from, int to, size_t size, int turn = 0) {
  return pattern_bytes(static_cast<uint64_t>((turn * 64 + from) * 64 + to), size);
}

void expect_same(const Bytes& expected, std::span<const std::byte> got, const std::string& what) {
  ASSERT_EQ(expected.size(), got.size()) << what;
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), got.begin())) << what;
}

// The operations with contents that are checked; size_of(from, to) of an all-to-all.
void all_gather_checked(Communicator& end, size_t size, bool in_place, int turn = 0) {
  Bytes all(size * static_cast<size_t>(end.size()));
  const Bytes mine = message(end.rank(), end.rank(), size, turn);
  std::span<const std::byte> from = mine;
  if (in_place) {
    const auto place = std::span(all).subspan(size * static_cast<size_t>(end.rank()), size);
    std::copy(mine.begin(), mine.end(), place.begin());
    from = place;
  }
  const Status status = end.all_gather(from, all);
  ASSERT_TRUE(status.ok()) << status.message();
  for (int peer = 0; peer < end.size(); ++peer) {
    expect_same(message(peer, peer, size, turn), std::span(all).subspan(size * static_cast<size_t>(peer), size),
                fmt::format("all_gather of {} from {} at {}", size, peer, end.rank()));
  }
}

void all_to_all_checked(Communicator& end, const std::function<size_t(int, int)>& size_of, int turn = 0) {
  std::vector<Bytes> sent, received;
  std::vector<std::span<const std::byte>> send;
  std::vector<std::span<std::byte>> receive;
  for (int peer = 0; peer < end.size(); ++peer) {
    sent.push_back(message(end.rank(), peer, size_of(end.rank(), peer), turn));
    received.emplace_back(size_of(peer, end.rank()));
  }
  for (size_t peer = 0; peer < sent.size(); ++peer) {
    send.emplace_back(sent[peer]);
    receive.emplace_back(received[peer]);
  }
  const Status status = end.all_to_all(send, receive);
  ASSERT_TRUE(status.ok()) << status.message();
  for (int peer = 0; peer < end.size(); ++peer) {
    expect_same(message(peer, end.rank(), size_of(peer, end.rank()), turn), received[static_cast<size_t>(peer)],
                fmt::format("all_to_all from {} at {}", peer, end.rank()));
  }
}

void broadcast_checked(Communicator& end, size_t size, int root, int turn = 0) {
  Bytes bytes = end.rank() == root ? message(root, root, size, turn) : Bytes(size);
  const Status status = end.broadcast(bytes, root);
  ASSERT_TRUE(status.ok()) << status.message();
  expect_same(message(root, root, size, turn), bytes, fmt::format("broadcast of {} from {}", size, root));
}

void ring_step_checked(Communicator& end, size_t size, int stride, int turn = 0) {
  const int to = (end.rank() + stride) % end.size();
  const int from = (end.rank() + end.size() - stride) % end.size();
  Bytes into(size);
  const Status status = end.send_receive(message(end.rank(), to, size, turn), to, into, from);
  ASSERT_TRUE(status.ok()) << status.message();
  expect_same(message(from, end.rank(), size, turn), into, fmt::format("ring step from {}", from));
}

TEST_P(CommunicatorContract, MovesAllSizesInGroupsOfAllSizes) {
  for (const int size : {1, 2, 3, 5, 8}) {
    const CommGroup group = make(size);
    ASSERT_EQ(group.size(), static_cast<size_t>(size));
    on_all_ranks(group, [&](Communicator& end) {
      int turn = 0;
      for (const size_t bytes : {size_t{0}, size_t{1}, size_t{4099}, kMiB / 8 + 1}) {
        all_gather_checked(end, bytes, false, turn++);
        all_gather_checked(end, bytes, true, turn++);
        all_to_all_checked(
            end, [bytes](int from, int to) { return bytes * static_cast<size_t>((from * 3 + to) % 4); }, turn++);
        for (const int root : {0, end.size() - 1}) broadcast_checked(end, bytes, root, turn++);
        if (end.size() > 1) ring_step_checked(end, bytes, 1, turn++);
        const Status status = end.barrier();
        ASSERT_TRUE(status.ok()) << status.message();
      }
    });
  }
}

TEST_P(CommunicatorContract, MovesLongMessages) {
  const CommGroup group = make(3);
  on_all_ranks(group, [&](Communicator& end) {
    all_gather_checked(end, kMiB + 1, false);
    all_to_all_checked(end, [](int from, int to) { return kMiB + 1 + static_cast<size_t>(from + 3 * to); });
    ring_step_checked(end, kMiB + 1, 2);
    // Around the size from which a broadcast goes in pieces, also when the last of them are short or empty.
    for (const size_t bytes : {kMiB / 16 - 1, kMiB / 16, kMiB / 16 + 1, kMiB + 1}) {
      for (int root = 0; root < end.size(); ++root) broadcast_checked(end, bytes, root);
    }
  });
}

TEST_P(CommunicatorContract, Moves64MiB) {
  const CommGroup group = make(2);
  Bytes sent(64 * kMiB), received(64 * kMiB);
  for (size_t i = 0; i + 8 <= sent.size(); i += 4096) std::memcpy(&sent[i], &i, 8);
  on_all_ranks(group, [&](Communicator& end) {
    const Status status = end.rank() == 0 ? end.send(sent, 1) : end.receive(received, 0);
    ASSERT_TRUE(status.ok()) << status.message();
  });
  EXPECT_TRUE(sent == received);
}

// Any sequence of operations, drawn alike by all ranks.
TEST_P(CommunicatorContract, MixesOperationsOfRandomSizes) {
  for (const int size : {2, 4, 5}) {
    const CommGroup group = make(size);
    on_all_ranks(group, [&](Communicator& end) {
      const RngKey key{.seed = 7, .step = static_cast<uint64_t>(end.size())};
      for (int turn = 0; turn < 120; ++turn) {
        const auto draw = random_block(key, static_cast<uint64_t>(turn));
        const size_t bytes = draw[0] % 8 == 0 ? draw[1] % 200'000 : draw[1] % 300;
        const int rank = static_cast<int>(draw[2]) & 0xff;
        switch (draw[3] % 6) {
          case 0: all_gather_checked(end, bytes, draw[0] % 2 == 0, turn); break;
          case 1:
            all_to_all_checked(
                end,
                [&](int from, int to) {
                  return random_bits(key, 1000 + static_cast<uint64_t>(turn * 64 + from * 8 + to)) % (bytes + 1);
                },
                turn);
            break;
          case 2: broadcast_checked(end, bytes, rank % end.size(), turn); break;
          case 3: ring_step_checked(end, bytes, 1 + rank % (end.size() - 1), turn); break;
          case 4: {
            // One message from one rank to the next; the others go on.
            const int from = rank % end.size();
            const int to = (from + 1) % end.size();
            Bytes into(bytes);
            if (end.rank() == from) {
              EXPECT_TRUE(end.send(message(from, to, bytes, turn), to).ok());
            }
            if (end.rank() == to) {
              EXPECT_TRUE(end.receive(into, from).ok());
              expect_same(message(from, to, bytes, turn), into, "send and receive");
            }
            break;
          }
          default: EXPECT_TRUE(end.barrier().ok());
        }
      }
    });
  }
}

TEST_P(CommunicatorContract, BarrierWaitsForTheLast) {
  const CommGroup group = make(4);
  std::atomic<int> arrived = 0;
  on_all_ranks(group, [&](Communicator& end) {
    for (int round = 1; round <= 20; ++round) {
      if (end.rank() == round % 4) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      ++arrived;
      EXPECT_TRUE(end.barrier().ok());
      EXPECT_GE(arrived.load(), 4 * round);
      EXPECT_TRUE(end.barrier().ok());
    }
  });
}

TEST_P(CommunicatorContract, CountsWhatWasSent) {
  const CommGroup group = make(3);
  const size_t large = kMiB / 4;  // a broadcast in pieces
  on_all_ranks(group, [&](Communicator& end) {
    all_gather_checked(end, 100, false);  // each: 200 out, 200 in
    all_to_all_checked(end, [](int from, int to) { return static_cast<size_t>(10 * from + to); });
    broadcast_checked(end, 1000, 1);
    if (end.rank() == 0) {
      EXPECT_TRUE(end.send(Bytes(77), 2).ok());
    }
    Bytes into(77);
    if (end.rank() == 2) {
      EXPECT_TRUE(end.receive(into, 0).ok());
    }
    EXPECT_TRUE(end.barrier().ok());
  });
  // Rank r sends 10 r + i to rank i.
  EXPECT_EQ(group[0]->traffic().sent_bytes, 200 + (1 + 2) + 0 + 77);
  EXPECT_EQ(group[0]->traffic().received_bytes, 200 + (10 + 20) + 1000);
  EXPECT_EQ(group[1]->traffic().sent_bytes, 200 + (10 + 12) + 2000);
  EXPECT_EQ(group[1]->traffic().received_bytes, 200 + (1 + 21) + 0);
  EXPECT_EQ(group[2]->traffic().sent_bytes, 200 + (20 + 21));
  EXPECT_EQ(group[2]->traffic().received_bytes, 200 + (2 + 12) + 1000 + 77);
  const int64_t calls = group[1]->traffic().num_calls;
  const int64_t received = group[1]->traffic().received_bytes;
  int64_t sent = 0;
  for (const auto& end : group) sent -= end->traffic().sent_bytes;
  on_all_ranks(group, [&](Communicator& end) { broadcast_checked(end, large, 0); });
  for (const auto& end : group) sent += end->traffic().sent_bytes;
  EXPECT_EQ(group[1]->traffic().num_calls, calls + 1);
  EXPECT_EQ(group[1]->traffic().received_bytes, received + static_cast<int64_t>(large));
  EXPECT_EQ(sent, 2 * static_cast<int64_t>(large));  // each byte once to each rank but the root
}

TEST_P(CommunicatorContract, RefusesWhatCannotBeRightAndGoesOn) {
  const CommGroup group = make(2);
  Communicator& end = *group[0];
  end.set_step(12);
  Bytes eight(8), nine(9);
  const std::vector<std::span<const std::byte>> one_send = {eight}, two_sends = {eight, eight};
  const std::vector<std::span<std::byte>> one_receive = {eight}, other_receives = {nine, eight};
  const auto expect_refused = [&](const Status& status, const std::string& text) {
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.code(), ErrorCode::kInvalid);
    EXPECT_THAT(status.message(), AllOf(HasSubstr("[group data, rank 0, step 12]"), HasSubstr(text)));
  };
  expect_refused(end.all_gather(eight, nine), "needs 16 bytes to gather in, not 9");
  expect_refused(end.all_to_all(one_send, one_receive), "2 ranks needs as many buffers, not 1 to send and 1");
  expect_refused(end.all_to_all(two_sends, other_receives), "sends 8 bytes from rank 0 to itself but receives 9");
  expect_refused(end.broadcast(eight, 2), "broadcast from rank 2 of a group of 2");
  expect_refused(end.broadcast(eight, -1), "broadcast from rank -1");
  expect_refused(end.send(eight, 2), "send with rank 2 of a group of 2");
  expect_refused(end.send(eight, 0), "send of rank 0 with itself");
  expect_refused(end.receive(eight, -1), "receive with rank -1");
  expect_refused(end.send_receive(eight, 1, nine, 0), "send_receive of rank 0 with itself");
  EXPECT_TRUE(end.flight_recorder().records().empty());
  EXPECT_EQ(end.traffic().sent_bytes, 0);
  on_all_ranks(group, [](Communicator& each) { all_gather_checked(each, 8, false); });
}

TEST_P(CommunicatorContract, TimesOutNamingWhoStaysAway) {
  const CommGroup group = make(4);
  // The flight recorder's numbers are those of this group from here on.
  on_all_ranks(group, [](Communicator& end) {
    end.set_step(12);
    EXPECT_TRUE(end.barrier().ok());
    end.set_timeout(0.15);
  });
  on_all_ranks(group, [](Communicator& end) {
    if (end.rank() == 2) return;
    Bytes mine(4096), all(4 * 4096);
    const Status status = end.all_gather(mine, all);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.code(), ErrorCode::kUnavailable);
    EXPECT_THAT(status.message(),
                HasSubstr(fmt::format("[group data, rank {}, step 12] all_gather of 4096 bytes: ", end.rank())));
    // Whoever times out first leaves, and a slower rank may notice that first.
    EXPECT_THAT(status.message(), AnyOf(HasSubstr("no answer from rank 2 within 0.15 s"), HasSubstr("left the group"),
                                        HasSubstr("lost rank")));
    EXPECT_THAT(status.message(), AllOf(HasSubstr("; last seen: barrier "), HasSubstr(" (step 12), 0.")));
    // Broken: the same words, without trying.
    const size_t tried = end.flight_recorder().records().size();
    EXPECT_EQ(end.barrier().message(), status.message());
    EXPECT_EQ(end.all_gather(mine, all).message(), status.message());
    EXPECT_EQ(end.flight_recorder().records().size(), tried);
    EXPECT_TRUE(end.flight_recorder().records().back().failed);
  });
}

TEST_P(CommunicatorContract, TimesOutInSendsAndReceives) {
  for (const bool sending : {true, false}) {
    const CommGroup group = make(2, 0.05);
    Bytes bytes(123);
    group[0]->set_step(3);
    const Status status = sending ? group[0]->send(bytes, 1) : group[0]->receive(bytes, 1);
    EXPECT_EQ(status.code(), ErrorCode::kUnavailable);
    EXPECT_THAT(status.message(),
                HasSubstr(fmt::format("[group data, rank 0, step 3] {} rank 1: no answer from rank 1 within 0.05 s",
                                      sending ? "send of 123 bytes to" : "receive of 123 bytes from")));
  }
}

TEST_P(CommunicatorContract, NamesOnlyThoseWhoAreMissing) {
  const CommGroup group = make(5, 0.3);
  std::vector<std::string> messages(5);
  on_all_ranks(group, [&](Communicator& end) {
    if (end.rank() == 1 || end.rank() == 4) return;
    messages[static_cast<size_t>(end.rank())] = end.barrier().message();
  });
  // The first to time out saw all the others there.
  EXPECT_THAT(messages, testing::Contains(HasSubstr("no answer from ranks 1, 4 within 0.3 s")));
}

// Another thread is in a call of this end.
void wait_until_under_way(const Communicator& end) {
  const auto waits = [&] {
    const std::vector<FlightRecord> records = end.flight_recorder().records();
    return !records.empty() && records.back().under_way();
  };
  while (!waits()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // and probably waits already
}

TEST_P(CommunicatorContract, AnAbortEndsTheCallAtOnce) {
  const CommGroup group = make(3);
  Status waited, peer_waited;
  double returned = 0, aborted = 0;
  std::thread waiter([&] {
    Bytes bytes(8);
    waited = group[0]->receive(bytes, 1);
    returned = monotonic_seconds();
  });
  std::thread peer([&] {
    Bytes bytes(8);
    peer_waited = group[2]->receive(bytes, 0);
  });
  wait_until_under_way(*group[0]);
  wait_until_under_way(*group[2]);
  aborted = monotonic_seconds();
  group[0]->abort("the run was stopped");
  group[0]->abort("a second reason");
  waiter.join();
  peer.join();
  EXPECT_LT(returned - aborted, 10);  // not at the deadline
  EXPECT_EQ(waited.code(), ErrorCode::kInterrupted);
  EXPECT_THAT(waited.message(), HasSubstr("receive of 8 bytes from rank 1: aborted: the run was stopped"));
  EXPECT_EQ(group[0]->barrier().code(), ErrorCode::kInterrupted);
  EXPECT_THAT(group[0]->barrier().message(), HasSubstr("[group data, rank 0] aborted: the run was stopped"));
  // Who waited for the rank hears of it; who did not can go on.
  EXPECT_EQ(peer_waited.code(), ErrorCode::kUnavailable);
  EXPECT_THAT(peer_waited.message(), HasSubstr("rank 0"));
}

TEST_P(CommunicatorContract, AnEndThatIsDestroyedFailsItsPeers) {
  CommGroup group = make(3);
  Status pending;
  std::thread waiter([&] {
    Bytes mine(8), all(24);
    pending = group[0]->all_gather(mine, all);
  });
  wait_until_under_way(*group[0]);
  group[2].reset();
  waiter.join();
  EXPECT_EQ(pending.code(), ErrorCode::kUnavailable);
  EXPECT_THAT(pending.message(), AllOf(HasSubstr("rank 2"), Not(HasSubstr("rank 1")), Not(HasSubstr("no answer"))));
  Bytes bytes(8);
  EXPECT_THAT(group[1]->send(bytes, 2).message(), HasSubstr("rank 2"));
}

TEST_P(CommunicatorContract, APeerThatLeftIsMissedOnlyByThoseWhoNeedIt) {
  CommGroup group = make(3);
  group[2].reset();
  group.pop_back();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  on_all_ranks(group, [](Communicator& end) {
    const int peer = 1 - end.rank();
    for (int turn = 0; turn < 3; ++turn) {
      Bytes into(5000);
      const Status status = end.send_receive(message(end.rank(), peer, 5000, turn), peer, into, peer);
      ASSERT_TRUE(status.ok()) << status.message();
      expect_same(message(peer, end.rank(), 5000, turn), into, "after a third left");
    }
  });
}

// A rank may be done, and gone, while others still wait for each other in the same operation.
TEST_P(CommunicatorContract, LeavingAfterTheLastOperationDisturbsNobody) {
  for (int turn = 0; turn < 8; ++turn) {
    CommGroup group = make(3);
    in_threads(3, [&](int rank) {
      auto& end = group[static_cast<size_t>(rank)];
      if (rank == turn % 3) std::this_thread::sleep_for(std::chrono::milliseconds(3));
      all_gather_checked(*end, 30'000, false);
      const Status status = end->barrier();
      EXPECT_TRUE(status.ok()) << status.message();
      end.reset();
    });
  }
}

TEST_P(CommunicatorContract, OperationsThatDoNotMatchNeverMix) {
  const auto both = [](int turn, const std::function<Status(Communicator&)>& first,
                       const std::function<Status(Communicator&)>& second) {
    const CommGroup group = make(2, 0.1);
    on_all_ranks(group, [&](Communicator& end) {
      const Status status = end.rank() == 0 ? first(end) : second(end);
      EXPECT_FALSE(status.ok()) << "case " << turn << " rank " << end.rank();
    });
  };
  const auto send = [](size_t size) {
    return [size](Communicator& end) { return end.send(Bytes(size), 1 - end.rank()); };
  };
  const auto receive = [](size_t size) {
    return [size](Communicator& end) {
      Bytes into(size);
      return end.receive(into, 1 - end.rank());
    };
  };
  const auto gather = [](Communicator& end) {
    Bytes mine(8), all(16);
    return end.all_gather(mine, all);
  };
  const auto exchange = [](Communicator& end) {
    Bytes a(8), b(8), c(8), d(8);
    return end.all_to_all(std::vector<std::span<const std::byte>>{a, b}, std::vector<std::span<std::byte>>{c, d});
  };
  both(0, send(8), receive(9));  // too long for the receiver
  both(1, send(9), receive(8));
  both(2, gather, exchange);  // of the same sizes
  both(3, gather, send(8));
}

TEST_P(CommunicatorContract, GroupsDoNotMeet) {
  const CommGroup first = make(3), second = make(3, 20, "tensor");
  in_threads(6, [&](int index) {
    Communicator& end = *(index < 3 ? first : second)[static_cast<size_t>(index % 3)];
    for (int turn = 0; turn < 40; ++turn) {
      all_gather_checked(end, 1000, false, index < 3 ? turn : 100 + turn);
      ring_step_checked(end, 333, 1, index < 3 ? turn : 100 + turn);
    }
  });
  EXPECT_EQ(second[0]->name(), "tensor");
}

TEST_P(CommunicatorContract, RecordsItsLastOperations) {
  const CommGroup group = make(2);
  const size_t before = group[0]->flight_recorder().records().size();
  on_all_ranks(group, [](Communicator& end) {
    end.set_step(5);
    all_gather_checked(end, 10, false);
    ring_step_checked(end, 20, 1);
  });
  const std::vector<FlightRecord> records = group[0]->flight_recorder().records();
  ASSERT_EQ(records.size(), before + 2);
  const FlightRecord& gather = records[before];
  EXPECT_EQ(gather.op, "all_gather");
  EXPECT_EQ(gather.collective, static_cast<int64_t>(before));
  EXPECT_EQ(gather.step, 5);
  EXPECT_EQ(gather.sent_bytes, 10);
  EXPECT_EQ(gather.received_bytes, 10);
  EXPECT_FALSE(gather.under_way());
  EXPECT_FALSE(gather.failed);
  EXPECT_EQ(records.back().collective, -1);
  EXPECT_EQ(records.back().to, 1);
  EXPECT_EQ(records.back().from, 1);
}

}  // namespace
}  // namespace colossus
