// What is Gloo's alone: joining, and peers that are processes and die.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "base/clock.h"
#include "comm/communicator.h"
#include "comm/testing.h"
#include "io/testing.h"

namespace colossus {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
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
  return join_gloo_group({.name = "data", .rank = rank, .size = size, .timeout_seconds = timeout_seconds}, *store,
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

TEST(GlooCommunicator, SurvivorsNameTheProcessThatWasKilled) {
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
                      ContainsRegex("bytes: lost ranks? ([013], )*2[,:]")));
  }
}

// Gloo tells only messages that have not begun.
TEST(GlooCommunicator, DeathInTheMiddleOfAMessageIsNoticed) {
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
TEST(GlooCommunicator, AStoppedProcessIsGivenUpAtTheDeadline) {
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

TEST(GlooCommunicator, JoiningNamesWhoDoesNotCome) {
  const auto store = make_memory_store();
  std::vector<Status> errors(3);
  in_threads(3, [&](int rank) {
    if (rank != 1)
      errors[static_cast<size_t>(rank)] = join_gloo_group(options_of(rank, 3, 0.2), *store, "g", "lo").status();
  });
  EXPECT_EQ(errors[0].code(), ErrorCode::kUnavailable);
  EXPECT_THAT(errors[0].message(),
              AllOf(HasSubstr("[group data, rank 0] "), HasSubstr("rank 1 did not come within 0.2 s")));
  EXPECT_FALSE(errors[2].ok());
}

// A rank that publishes its addresses and dies before it connects.
TEST(GlooCommunicator, JoiningGivesUpOnARankThatDiedMeanwhile) {
  const TemporaryDirectory directory;
  for (const int dying : {0, 1}) {
    const std::string place = directory / std::to_string(dying);
    {
      Processes processes(1, directory.path(), [&](int) -> std::string {
        return join_by_directory(place, dying, 2, 10).status().message();
      });
      wait_for_file(fmt::format("{}/store/world+0+address.{}", place, dying));
    }
    const double began = monotonic_seconds();
    const Status status = join_by_directory(place, 1 - dying, 2, 0.4).status();
    EXPECT_EQ(status.code(), ErrorCode::kUnavailable);
    EXPECT_THAT(status.message(), HasSubstr(fmt::format("no connection with rank {} at", dying)));
    EXPECT_LT(monotonic_seconds() - began, 10);
  }
}

TEST(GlooCommunicator, JoiningRefusesWhatDoesNotFit) {
  const auto store = make_memory_store();
  EXPECT_EQ(join_gloo_group(options_of(2, 2, 1), *store, "g", "lo").status().code(), ErrorCode::kInvalid);
  EXPECT_EQ(join_gloo_group(options_of(0, 1, 1), *store, "a bad key", "lo").status().code(), ErrorCode::kInvalid);
  EXPECT_THAT(join_gloo_group(options_of(0, 2, 0.1), *store, "g", "no-such-interface").status().message(),
              HasSubstr("no network interface \"no-such-interface\" with an address; there are: "));
  // The same rank twice, or a key used before.
  ASSERT_FALSE(join_gloo_group(options_of(0, 2, 0.05), *store, "g", "lo").ok());
  const Status again = join_gloo_group(options_of(0, 2, 0.05), *store, "g", "lo").status();
  EXPECT_EQ(again.code(), ErrorCode::kInvalid);
  EXPECT_THAT(again.message(), HasSubstr("two processes join as rank 0"));
  // Groups of different sizes.
  std::vector<Status> errors(2);
  in_threads(2, [&](int rank) {
    errors[static_cast<size_t>(rank)] = join_gloo_group(options_of(rank, 2 + rank, 20), *store, "h", "lo").status();
  });
  EXPECT_THAT(errors[0].message(), HasSubstr("a group of another size"));
}

TEST(GlooCommunicator, LeavesNoAddressInTheStore) {
  const auto store = make_memory_store();
  in_threads(2, [&](int rank) { EXPECT_TRUE(join_gloo_group(options_of(rank, 2, 20), *store, "g", "lo").ok()); });
  EXPECT_EQ(store->get("g/address.0").value(), std::nullopt);
  EXPECT_EQ(store->get("g/address.1").value(), std::nullopt);
}

}  // namespace
}  // namespace colossus
