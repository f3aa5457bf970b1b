// The checks that measure: each must pass on a sound machine and find what is broken on purpose. No rates are asserted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>

#include "comm/testing.h"
#include "io/faulty_files.h"
#include "io/testing.h"
#include "node_check/clock_check.h"
#include "node_check/cpu_check.h"
#include "node_check/disk_check.h"
#include "node_check/link_check.h"
#include "node_check/memory_check.h"
#include "node_check/node_check.h"
#include "node_check/system_text.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> names_of(const std::vector<CheckResult>& results) {
  std::vector<std::string> names;
  for (const CheckResult& result : results) names.push_back(result.name);
  return names;
}

TEST(CpuCheck, SoundCoresPass) {
  const auto results = check_cpu({.seconds = 0.05, .expectation = false});
  EXPECT_THAT(names_of(results), ElementsAre("cpu", "gemm_core", "gemm_all"));
  for (const CheckResult& result : results) EXPECT_EQ(result.verdict, Verdict::kPass) << result.message;
  EXPECT_GT(results[1].value.value_or(0), 0);
  EXPECT_GT(results[2].value.value_or(0), 0);
}

TEST(CpuCheck, OneFlippedBitOfOneProductIsFound) {
  // In the exact product and in the repeated one: each has a finder of its own.
  for (const int damaged_call : {0, 1}) {
    int calls = 0;
    const auto flip = [&](int core, std::span<float> product) {
      if (core != 0 || calls++ != damaged_call) return;
      uint32_t bits = 0;
      std::memcpy(&bits, &product[777], sizeof(bits));
      bits ^= 1;
      std::memcpy(&product[777], &bits, sizeof(bits));
    };
    const auto results = check_cpu({.seconds = 0.3, .expectation = false, .damage = flip});
    EXPECT_EQ(results[0].verdict, Verdict::kBad) << damaged_call;
    EXPECT_EQ(results[0].value, 1);
    EXPECT_THAT(results[0].message, HasSubstr(damaged_call % 2 == 0 ? "integers wrong" : "other bits"));
  }
}

TEST(CpuCheck, LeastRateFollowsTheNominalClock) {
  EXPECT_DOUBLE_EQ(least_gflops("Intel(R) Xeon(R) Processor @ 2.50GHz", 16, 4), 0.5 * 2.5 * 2 * 16 * 4);
  EXPECT_EQ(least_gflops("AMD EPYC 9654 96-Core Processor", 16, 96), 0);
  EXPECT_EQ(least_gflops("Odd @ fast", 16, 96), 0);
  EXPECT_EQ(least_gflops("", 16, 96), 0);
}

TEST(MemoryCheck, SoundMemoryPassesAndEachPatternFindsAFlippedBit) {
  const MemoryCheckOptions options{.max_bytes = 4 << 20, .seconds = 1e9};
  const auto sound = check_memory(options);
  EXPECT_THAT(names_of(sound), ElementsAre("memory", "memory_read", "memory_copy"));
  EXPECT_EQ(sound[0].verdict, Verdict::kPass) << sound[0].message;
  EXPECT_THAT(sound[0].message, HasSubstr("6 of 6 patterns"));
  for (int pattern = 0; pattern < 6; ++pattern) {
    int calls = 0;
    MemoryCheckOptions damaged = options;
    damaged.damage = [&](std::span<uint64_t> words) {
      if (calls++ == pattern) words[4711] ^= uint64_t{1} << 42;
    };
    const auto results = check_memory(damaged);
    EXPECT_EQ(results[0].verdict, Verdict::kBad) << pattern;
    EXPECT_EQ(results[0].value, 1) << pattern;
    EXPECT_THAT(results[0].message, HasSubstr(fmt::format("byte {}: ", 4711 * 8)));
  }
}

TEST(MemoryCheck, ABrokenAddressLineIsFound) {
  // Words that differ in one bit of their address share a cell.
  const auto results = check_memory({.max_bytes = 1 << 20, .seconds = 1e9, .damage = [](std::span<uint64_t> words) {
                                       for (size_t i = 0; i < words.size(); ++i) words[i] = words[i | 64];
                                     }});
  EXPECT_EQ(results[0].verdict, Verdict::kBad);
  EXPECT_THAT(results[0].message, HasSubstr("its own address"));
}

TEST(MemoryCheck, TakesNoMoreThanThereIs) {
  EXPECT_EQ(available_memory_bytes("MemTotal:  100 kB\nMemFree:  50 kB\nMemAvailable:   70 kB\n"), 70 * 1024);
  EXPECT_EQ(available_memory_bytes("MemAvailable: 7 kB"), 7 * 1024);
  EXPECT_EQ(available_memory_bytes("MemTotal: 7 kB"), 0);
  EXPECT_EQ(available_memory_bytes("MemAvailable: 99999999999999999999 kB"), 0);
  EXPECT_EQ(cgroup_room_bytes("1000\n", "400\n"), 600);
  EXPECT_EQ(cgroup_room_bytes("1000\n", "1400\n"), 0);
  EXPECT_EQ(cgroup_room_bytes("max\n", "400\n"), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(cgroup_room_bytes("", ""), std::numeric_limits<int64_t>::max());
}

// A disk that gives other bytes back than it was given, at one place.
class ForgetfulFiles final : public FileSystem {
 public:
  explicit ForgetfulFiles(int64_t wrong_byte) : wrong_byte_(wrong_byte) {}
  Result<std::unique_ptr<FileReader>> open(const std::string& path) override {
    class Reader final : public FileReader {
     public:
      Reader(std::unique_ptr<FileReader> below, int64_t wrong_byte)
          : below_(std::move(below)), wrong_byte_(wrong_byte) {}
      int64_t size() const override { return below_->size(); }
      Result<int64_t> read_at(int64_t offset, std::span<std::byte> into) override {
        ASSIGN_OR_RETURN(const int64_t got, below_->read_at(offset, into));
        if (wrong_byte_ >= offset && wrong_byte_ < offset + got)
          into[static_cast<size_t>(wrong_byte_ - offset)] ^= std::byte{16};
        return got;
      }

     private:
      std::unique_ptr<FileReader> below_;
      int64_t wrong_byte_;
    };
    ASSIGN_OR_RETURN(auto below, local_files().open(path));
    return std::make_unique<Reader>(std::move(below), wrong_byte_);
  }
  Result<std::unique_ptr<FileWriter>> create(const std::string& path) override { return local_files().create(path); }
  Result<std::unique_ptr<FileWriter>> open_to_append(const std::string& path) override {
    return local_files().open_to_append(path);
  }
  Status rename(const std::string& from, const std::string& to) override { return local_files().rename(from, to); }
  Status remove_all(const std::string& path) override { return local_files().remove_all(path); }
  Status make_directories(const std::string& path) override { return local_files().make_directories(path); }
  Status sync_directory(const std::string& path) override { return local_files().sync_directory(path); }
  Result<FileEntry> stat(const std::string& path) override { return local_files().stat(path); }
  Result<std::vector<FileEntry>> list(const std::string& path) override { return local_files().list(path); }
  Result<int64_t> free_bytes(const std::string& path) override { return local_files().free_bytes(path); }

 private:
  int64_t wrong_byte_;
};

TEST(DiskCheck, FindsBytesThatChangedAndLeavesNothingBehind) {
  const TemporaryDirectory directory;
  const DiskCheckOptions options{.directory = directory.path(), .max_bytes = 12 << 20, .num_syncs = 3};
  const auto sound = check_disk(local_files(), options);
  EXPECT_THAT(names_of(sound), ElementsAre("disk", "disk_write", "disk_read", "disk_sync"));
  for (const CheckResult& result : sound) EXPECT_EQ(result.verdict, Verdict::kPass) << result.message;
  ForgetfulFiles forgetful((8 << 20) + 5);
  const auto broken = check_disk(forgetful, options);
  EXPECT_EQ(broken[0].verdict, Verdict::kBad);
  EXPECT_THAT(broken[0].message, AllOf(HasSubstr("1 of 3 blocks"), HasSubstr("at byte 8388608")));
  EXPECT_EQ(local_files().list(directory.path())->size(), 0u);
}

TEST(DiskCheck, EveryFailureIsAVerdict) {
  const TemporaryDirectory directory;
  const DiskCheckOptions options{.directory = directory.path(), .max_bytes = 8 << 20, .num_syncs = 2};
  FaultyFiles files(local_files(), true);
  check_disk(files, options);
  const int64_t operations = files.operations();
  ASSERT_GT(operations, 10);
  for (int64_t at = 0; at < operations - 1; ++at) {
    files.arm(at, Fault::kError);
    const auto results = check_disk(files, options);
    EXPECT_EQ(results[0].verdict, Verdict::kBad) << at;
    EXPECT_NE(results[0].message, "");
    ASSERT_TRUE(local_files().remove_all(directory.path()).ok());
    ASSERT_TRUE(local_files().make_directories(directory.path()).ok());
  }
  const auto nowhere = check_disk(local_files(), {.directory = directory / "none"});
  EXPECT_EQ(nowhere[0].verdict, Verdict::kBad);
}

TEST(ClockCheck, StepsAndBackwardClocksAreFound) {
  EXPECT_EQ(count_backward_readings(2), 0);
  EXPECT_EQ(judge_clock({.wall_seconds = 30.001, .raw_seconds = 30, .synchronised = true}).verdict, Verdict::kPass);
  EXPECT_EQ(judge_clock({.wall_seconds = 31, .raw_seconds = 30, .synchronised = true}).verdict, Verdict::kBad);
  EXPECT_EQ(judge_clock({.wall_seconds = 20, .raw_seconds = 30, .synchronised = true}).verdict, Verdict::kBad);
  EXPECT_EQ(judge_clock({.num_backward = 1, .synchronised = true}).verdict, Verdict::kBad);
  EXPECT_THAT(judge_clock({.synchronised = false}).message, HasSubstr("not synchronised"));
}

TEST(LinkCheck, EverybodyMeetsEverybodyOnce) {
  for (const int nodes : {0, 1, 2, 3, 4, 7, 8, 13}) {
    std::set<std::pair<int, int>> pairs;
    for (int round = 0; round < num_rounds(nodes); ++round) {
      std::set<int> busy;
      for (int node = 0; node < nodes; ++node) {
        const int partner = partner_in_round(round, node, nodes);
        if (partner < 0) continue;
        ASSERT_LT(partner, nodes);
        ASSERT_NE(partner, node);
        EXPECT_EQ(partner_in_round(round, partner, nodes), node);
        if (node > partner) continue;
        EXPECT_TRUE(pairs.insert({node, partner}).second) << nodes << " " << round << " " << node;
        EXPECT_TRUE(busy.insert(node).second && busy.insert(partner).second);
      }
    }
    EXPECT_EQ(pairs.size(), static_cast<size_t>(nodes * std::max(0, nodes - 1) / 2)) << nodes;
  }
}

TEST(LinkCheck, ThreeNodesMeasureTheirLinks) {
  const auto store = make_memory_store();
  std::vector<std::vector<CheckResult>> results(3);
  in_threads(3, [&](int node) {
    results[static_cast<size_t>(node)] = check_links(
        *store,
        {.node = node, .num_nodes = 3, .id = "one", .interface = "lo", .timeout_seconds = 30, .num_bytes = 8 << 20});
  });
  for (const auto& of_node : results) {
    EXPECT_THAT(names_of(of_node), ElementsAre("links", "link_bandwidth", "link_latency", "clock_offset"));
    for (const CheckResult& result : of_node) EXPECT_EQ(result.verdict, Verdict::kPass) << result.message;
    EXPECT_EQ(of_node[0].value, 2);
    EXPECT_GT(of_node[1].value.value_or(0), 0);
    EXPECT_GT(of_node[2].value.value_or(0), 0);
    EXPECT_LT(std::abs(*of_node[3].value), 500);
  }
}

TEST(LinkCheck, APartnerThatDoesNotComeIsBad) {
  const auto store = make_memory_store();
  const auto results =
      check_links(*store, {.node = 0, .num_nodes = 2, .id = "two", .interface = "lo", .timeout_seconds = 0.2});
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].verdict, Verdict::kBad);
  EXPECT_THAT(results[0].message, HasSubstr("node 1: "));
}

TEST(RunProgram, TakesOutputExitCodesAndTime) {
  const auto said = run_program({"/bin/sh", "-c", "echo out; echo err >&2; exit 3"}, 30);
  ASSERT_TRUE(said.ok()) << said.status().message();
  EXPECT_EQ(said->text, "out\nerr\n");
  EXPECT_EQ(said->exit_code, 3);
  EXPECT_FALSE(said->timed_out);
  const auto hangs = run_program({"sleep", "600"}, 0.05);
  ASSERT_TRUE(hangs.ok());
  EXPECT_TRUE(hangs->timed_out);
  EXPECT_FALSE(hangs->unkillable);
  EXPECT_EQ(run_program({"no-such-program-here"}, 30).status().code(), ErrorCode::kNotFound);
}

TEST(NodeCheck, RunsWhatIsAskedFor) {
  const TemporaryDirectory directory;
  NodeCheckOptions options{.only = {"disk", "clock"}};
  options.disk = {.directory = directory.path(), .max_bytes = 4 << 20, .num_syncs = 1};
  std::atomic<bool> stop = false;
  const auto report = check_node(local_files(), options, stop);
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_THAT(names_of(report->results), ElementsAre("disk", "disk_write", "disk_read", "disk_sync", "clock"));
  options.only = {"disc"};
  EXPECT_EQ(check_node(local_files(), options, stop).status().code(), ErrorCode::kInvalid);
  options.only = {"links"};
  EXPECT_EQ(check_node(local_files(), options, stop).status().code(), ErrorCode::kInvalid);
  options.only = {"gpu"};
  options.gpu_listings = {directory / "none"};
  EXPECT_EQ(check_node(local_files(), options, stop).status().code(), ErrorCode::kNotFound);
  stop = true;
  options.only = {"disk"};
  EXPECT_EQ(check_node(local_files(), options, stop).status().code(), ErrorCode::kInterrupted);
}

}  // namespace
}  // namespace colossus
