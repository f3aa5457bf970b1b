// What is TCP's alone: joining, channels that share connections, and peers that are processes and die.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/clock.h"
#include "comm/communicator.h"
#include "comm/tcp_network.h"
#include "comm/tcp_socket.h"
#include "comm/testing.h"
#include "io/testing.h"

namespace colossus {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Processes that run `body(rank)` and end. What the body returns is kept in a file of `directory`, if there is one.
class Processes {
 public:
  Processes(int count, const std::string& directory, const std::function<std::string(int rank)>& body)
      : directory_(directory) {
    for (int rank = 0; rank < count; ++rank) {
      const pid_t process = fork();
      CHECK(process >= 0, "fork failed");
      if (process == 0) {
        const std::string said = body(rank);
        static_cast<void>(write_file_atomically(local_files(), said_path(rank), said));
        _exit(0);
      }
      processes_.push_back(process);
    }
  }
  ~Processes() {
    for (const pid_t process : processes_) {
      kill(process, SIGKILL);
      waitpid(process, nullptr, 0);
    }
  }

  void kill_one(int rank) const { kill(processes_[static_cast<size_t>(rank)], SIGKILL); }
  // Waits for its end; "" when it was killed.
  std::string said(int rank) {
    pid_t& process = processes_[static_cast<size_t>(rank)];
    waitpid(process, nullptr, 0);
    const Result<std::string> text = read_file(local_files(), said_path(rank));
    return text.ok() ? *text : "";
  }

 private:
  std::string said_path(int rank) const { return fmt::format("{}/said.{}", directory_, rank); }

  const std::string directory_;
  std::vector<pid_t> processes_;
};

Result<std::unique_ptr<Communicator>> join_by_directory(const std::string& directory, int rank, int size,
                                                        double timeout_seconds = 20) {
  ASSIGN_OR_RETURN(const auto store, open_directory_store(directory + "/store"));
  return join_tcp_group({.name = "data", .rank = rank, .size = size, .timeout_seconds = timeout_seconds}, *store,
                        "world/0", "lo");
}

// What a survivor says: its error, and whether it came soon after `died`, on the clock all processes share.
std::string verdict(const Status& status, const std::string& directory) {
  const double now = monotonic_seconds();
  const Result<std::string> died = read_file(local_files(), directory + "/died");
  if (!died.ok()) return "nobody has died yet: " + status.message();
  const double after = now - std::stod(*died);
  return fmt::format("{} {}", after < 8 ? "soon" : "late", status.message());
}

void kill_and_note(const Processes& processes, int rank, const std::string& directory) {
  ASSERT_TRUE(write_file_atomically(local_files(), directory + "/died", std::to_string(monotonic_seconds())).ok());
  processes.kill_one(rank);
}

void wait_for_file(const std::string& path) {
  for (int i = 0; i < 2000 && !local_files().stat(path).ok(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

TEST(TcpNetwork, SurvivorsNameTheProcessThatWasKilled) {
  const TemporaryDirectory directory;
  Processes processes(4, directory.path(), [&](int rank) -> std::string {
    const auto end = join_by_directory(directory.path(), rank, 4);
    if (!end.ok()) return end.status().message();
    (*end)->set_step(12);
    Bytes mine(1000), all(4000);
    for (int turn = 0; turn < 20; ++turn) {
      const Status status = (*end)->all_gather(mine, all);
      if (!status.ok()) return "too early: " + status.message();
    }
    if (rank == 2) {
      static_cast<void>(write_file_atomically(local_files(), directory / "ready", ""));
      pause();
    }
    return verdict((*end)->all_gather(mine, all), directory.path());
  });
  wait_for_file(directory / "ready");
  kill_and_note(processes, 2, directory.path());
  for (const int rank : {0, 1, 3}) {
    EXPECT_THAT(processes.said(rank),
                AllOf(HasSubstr("soon "),
                      HasSubstr(fmt::format("[group data, rank {}, step 12] all_gather of 1000 bytes: ", rank)),
                      HasSubstr("lost rank 2: ")));
  }
}

TEST(TcpNetwork, DeathInTheMiddleOfAMessageIsNoticed) {
  for (const bool receiving : {true, false}) {
    const TemporaryDirectory directory;
    Processes processes(2, directory.path(), [&](int rank) -> std::string {
      const auto end = join_by_directory(directory.path(), rank, 2);
      if (!end.ok()) return end.status().message();
      Bytes bytes(size_t{16} << 20);
      Status status;
      while (status.ok())
        status = (rank == 0) == receiving ? (*end)->receive(bytes, 1 - rank) : (*end)->send(bytes, 1 - rank);
      return verdict(status, directory.path());
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    kill_and_note(processes, 1, directory.path());
    EXPECT_THAT(processes.said(0), AllOf(HasSubstr("soon "), HasSubstr("lost rank 1: ")));
  }
}

// The connection of a process that is only stopped stays: its peer's deadline ends the wait.
TEST(TcpNetwork, AStoppedProcessIsGivenUpAtTheDeadline) {
  const TemporaryDirectory directory;
  Processes processes(2, directory.path(), [&](int rank) -> std::string {
    const auto end = join_by_directory(directory.path(), rank, 2);
    if (!end.ok()) return end.status().message();
    if (rank == 1) raise(SIGSTOP);
    (*end)->set_timeout(0.3);
    Bytes bytes(size_t{16} << 20);
    return (*end)->send(bytes, 1).message();
  });
  EXPECT_THAT(processes.said(0), HasSubstr("no answer from rank 1 within 0.3 s"));
}

GroupOptions options_of(int rank, int size, double timeout_seconds) {
  return {.name = "data", .rank = rank, .size = size, .timeout_seconds = timeout_seconds};
}

TEST(TcpNetwork, JoiningNamesWhoDoesNotCome) {
  const auto store = make_memory_store();
  std::vector<Status> errors(4);
  in_threads(4, [&](int rank) {
    if (rank != 1)
      errors[static_cast<size_t>(rank)] =
          join_tcp_group(options_of(rank, 4, rank == 0 ? 2 : 20), *store, "g", "lo").status();
  });
  for (const int rank : {0, 2, 3}) {
    const Status& error = errors[static_cast<size_t>(rank)];
    EXPECT_EQ(error.code(), ErrorCode::kUnavailable);
    EXPECT_EQ(error.message(), fmt::format("[group data, rank {}] rank 1 did not come within 2 s", rank));
  }
  EXPECT_THAT(join_tcp_group(options_of(1, 2, 0.05), *store, "nobody", "lo").status().message(),
              HasSubstr("[group data, rank 1] rank 0 did not come within 0.05 s"));
}

// What a store says that knows better: the wait for ranks that will never come is over.
TEST(TcpNetwork, JoiningEndsWhenTheStoreFails) {
  class Failing final : public KeyValueStore {
   public:
    Status set(const std::string& key, const std::string& value) override { return store_->set(key, value); }
    Result<std::optional<std::string>> get(const std::string& key) override {
      if (failing) return unavailable("a new generation has begun");
      return store_->get(key);
    }
    Result<bool> compare_and_set(const std::string& key, const std::optional<std::string>& expected,
                                 const std::string& value) override {
      return store_->compare_and_set(key, expected, value);
    }
    Status remove(const std::string& key) override { return store_->remove(key); }
    std::atomic<bool> failing = false;

   private:
    const std::unique_ptr<KeyValueStore> store_ = make_memory_store();
  } store;
  std::atomic<int> heard = 0;
  const double began = monotonic_seconds();
  in_threads(3, [&](int rank) {
    if (rank == 2) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      store.failing = true;
      return;
    }
    const std::string why = join_tcp_group(options_of(rank, 3, 60), store, "g", "lo").status().message();
    if (why.find("a new generation has begun") != std::string::npos) ++heard;
    // Or the other one has heard it, and left.
    EXPECT_THAT(why, AnyOf(HasSubstr("a new generation has begun"), HasSubstr("lost rank")));
  });
  EXPECT_GE(heard, 1);
  EXPECT_LT(monotonic_seconds() - began, 30);
}

TEST(TcpNetwork, JoiningGivesUpOnARankThatDiedMeanwhile) {
  // The first, which others find in the store.
  {
    const TemporaryDirectory directory;
    {
      Processes processes(1, directory.path(), [&](int) -> std::string {
        return join_by_directory(directory.path(), 0, 2).status().message();
      });
      wait_for_file(directory / "store/world+0");
    }
    const Status status = join_by_directory(directory.path(), 1, 2).status();
    EXPECT_EQ(status.code(), ErrorCode::kUnavailable);
    EXPECT_THAT(status.message(), HasSubstr("no connection with rank 0 at 127.0.0.1:"));
  }
  // Another, which the first has seen.
  const TemporaryDirectory directory;
  Processes processes(3, directory.path(), [&](int rank) -> std::string {
    if (rank == 0) return join_by_directory(directory.path(), 0, 4).status().message();
    wait_for_file(directory / "store/world+0");
    if (rank == 1) return join_by_directory(directory.path(), 1, 4).status().message();
    return join_by_directory(directory.path(), 2, 4, 2).status().message();  // and is gone
  });
  EXPECT_THAT(processes.said(2), HasSubstr("no answer within 2 s"));
  EXPECT_THAT(processes.said(0), HasSubstr("lost rank 2 while the others were awaited"));
  EXPECT_THAT(processes.said(1), HasSubstr("lost rank"));
}

TEST(TcpNetwork, JoiningRefusesWhatDoesNotFit) {
  const auto store = make_memory_store();
  EXPECT_EQ(join_tcp_group(options_of(2, 2, 1), *store, "g", "lo").status().code(), ErrorCode::kInvalid);
  EXPECT_EQ(join_tcp_group(options_of(0, 1, 1), *store, "a bad key", "lo").status().code(), ErrorCode::kInvalid);
  EXPECT_THAT(join_tcp_group(options_of(0, 2, 0.1), *store, "g", "no-such-interface").status().message(),
              HasSubstr("no network interface \"no-such-interface\" with an address; there are: "));
  // The first twice, or a key that is in use.
  ASSERT_TRUE(store->set("used", "").ok());
  const Status again = join_tcp_group(options_of(0, 2, 0.05), *store, "used", "lo").status();
  EXPECT_EQ(again.code(), ErrorCode::kInvalid);
  EXPECT_THAT(again.message(), HasSubstr("two processes join as rank 0"));
  // Groups of different sizes.
  std::vector<Status> errors(2);
  in_threads(2, [&](int rank) {
    errors[static_cast<size_t>(rank)] = join_tcp_group(options_of(rank, 2 + rank, 20), *store, "h", "lo").status();
  });
  for (const Status& error : errors) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalid);
    EXPECT_THAT(error.message(), HasSubstr("a group of another size: 3, not 2"));
  }
}

TEST(TcpNetwork, OfTwoThatJoinAsTheSameRankOneIsRefused) {
  const auto store = make_memory_store();
  std::atomic<int> refused = 0;
  in_threads(4, [&](int index) {
    const int own = std::array{0, 1, 1, 2}[static_cast<size_t>(index)];
    // The last one comes when it is known who is one too many.
    while (own == 2 && refused.load() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const auto end = join_tcp_group(options_of(own, 3, 20), *store, "g", "lo");
    if (!end.ok()) {
      EXPECT_EQ(own, 1);
      EXPECT_EQ(end.status().code(), ErrorCode::kInvalid);
      EXPECT_THAT(end.status().message(), HasSubstr("two processes join as rank 1"));
      ++refused;
    }
  });
  EXPECT_EQ(refused.load(), 1);
}

TEST(TcpNetwork, LeavesNothingInTheStore) {
  const auto store = make_memory_store();
  in_threads(2, [&](int rank) { EXPECT_TRUE(join_tcp_group(options_of(rank, 2, 20), *store, "g", "lo").ok()); });
  EXPECT_EQ(store->get("g").value(), std::nullopt);
}

// Whoever connects without knowing what lies in the store is left standing.
TEST(TcpNetwork, StrangersDoNotDisturb) {
  const auto store = make_memory_store();
  std::atomic<bool> came = false;
  in_threads(3, [&](int rank) {
    if (rank < 2) {
      while (rank == 1 && !came) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      EXPECT_TRUE(join_tcp_group(options_of(rank, 2, 20), *store, "g", "lo").ok());
      return;
    }
    const std::string place = store->wait_for("g", 20).value();
    SocketAddress::Wire wire{};
    std::memcpy(wire.data(), place.data() + place.size() - wire.size(), wire.size());
    const SocketAddress address = SocketAddress::from_wire(wire).value();
    const std::string nonsense(200, 'x');
    const Descriptor silent = start_connecting(address).value(), loud = start_connecting(address).value();
    { const Descriptor gone = start_connecting(address).value(); }
    ::send(loud.get(), nonsense.data(), nonsense.size(), MSG_NOSIGNAL);
    came = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  });
}

class Channels : public testing::Test {
 protected:
  void SetUp() override {
    auto made = make_loopback_networks(2);
    ASSERT_TRUE(made.ok()) << made.status().message();
    networks_ = std::move(made).value();
  }
  CommGroup group(const std::string& name) const {
    CommGroup group;
    for (const auto& network : networks_) group.push_back(network->group(name, {0, 1}, 20));
    return group;
  }
  std::vector<std::unique_ptr<TcpNetwork>> networks_;
};

// Not even with a message that is longer than all that sockets hold.
TEST_F(Channels, DoNotHoldEachOtherUp) {
  const CommGroup blocked = group("blocked"), free = group("free");
  Bytes sent = pattern_bytes(1, size_t{32} << 20), received(sent.size());
  std::thread sender([&] { EXPECT_TRUE(blocked[0]->send(sent, 1).ok()); });
  on_all_ranks(free, [](Communicator& end) {
    for (int turn = 0; turn < 20; ++turn) {
      Bytes bytes(size_t{100'000}), into(bytes.size());
      EXPECT_TRUE(end.send_receive(bytes, 1 - end.rank(), into, 1 - end.rank()).ok());
    }
  });
  EXPECT_TRUE(blocked[0]->flight_recorder().records().back().under_way());
  EXPECT_TRUE(blocked[1]->receive(received, 0).ok());
  sender.join();
  EXPECT_TRUE(sent == received);
}

TEST_F(Channels, MoveMessagesAtTheSameTime) {
  std::vector<CommGroup> groups;
  for (int i = 0; i < 4; ++i) groups.push_back(group(fmt::format("lane-{}", i)));
  in_threads(8, [&](int index) {
    Communicator& end = *groups[static_cast<size_t>(index / 2)][static_cast<size_t>(index % 2)];
    for (uint64_t turn = 0; turn < 30; ++turn) {
      const size_t size = turn % 3 == 0 ? 3'000'000 : turn % 3 == 1 ? 20'000 : 50;
      const uint64_t lane = 1000 * static_cast<uint64_t>(index / 2) + 2 * turn;
      Bytes into(size);
      const int peer = 1 - end.rank();
      const Status status =
          end.send_receive(pattern_bytes(lane + static_cast<uint64_t>(end.rank()), size), peer, into, peer);
      ASSERT_TRUE(status.ok()) << status.message();
      EXPECT_TRUE(into == pattern_bytes(lane + static_cast<uint64_t>(peer), size)) << index << " " << turn;
    }
  });
}

// In the middle of a message: the connection goes on for the others.
TEST_F(Channels, OutliveTheAbortOfAnother) {
  const CommGroup aborted = group("aborted"), other = group("other");
  const Bytes sent(size_t{64} << 20);
  Bytes received(sent.size());
  std::thread sender([&] { EXPECT_FALSE(aborted[0]->send(sent, 1).ok()); });
  std::thread receiver([&] { EXPECT_FALSE(aborted[1]->receive(received, 0).ok()); });
  std::this_thread::sleep_for(std::chrono::milliseconds(3));
  aborted[0]->abort("enough");
  sender.join();
  receiver.join();
  on_all_ranks(other, [](Communicator& end) {
    Bytes mine(size_t{1} << 20), all(size_t{2} << 20);
    for (int turn = 0; turn < 5; ++turn) EXPECT_TRUE(end.all_gather(mine, all).ok());
  });
}

// One that is made before the peer knows of it, and one that the peer has left by then.
TEST_F(Channels, MayBeMadeAtAnyTime) {
  auto early = networks_[0]->group("late", {0, 1}, 20);
  std::thread sender([&] { EXPECT_TRUE(early->send(Bytes(100), 1).ok()); });
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const auto late = networks_[1]->group("late", {0, 1}, 20);
  Bytes into(100);
  EXPECT_TRUE(late->receive(into, 0).ok());
  sender.join();
  networks_[0]->group("left", {0, 1}, 20)->abort("it is over");
  EXPECT_THAT(networks_[1]->group("left", {0, 1}, 20)->receive(into, 0).message(),
              HasSubstr("rank 0 left the group: it is over"));
}

}  // namespace
}  // namespace colossus
