#include "train/metrics/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "io/faulty_files.h"

namespace colossus {
namespace {

class MetricsTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = testing::TempDir() + "/metrics_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
    path_ = directory_ + "/metrics.jsonl";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string text() { return *read_file(local_files(), path_); }
  static void write_steps(MetricsWriter& writer, int64_t from, int64_t to) {
    for (int64_t step = from; step <= to; ++step) {
      const Metric metrics[] = {{"train/loss", 1.0 / static_cast<double>(step)}, {"train/tokens_per_second", 250}};
      ASSERT_TRUE(writer.write(step, 1700000000.25 + static_cast<double>(step), metrics).ok());
    }
  }

  std::string directory_, path_;
};

TEST_F(MetricsTest, JsonLinesAreExact) {
  auto writer = open_json_lines(local_files(), path_, std::nullopt);
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  const Metric metrics[] = {{"a", 0.1}, {"b/c", std::nan("")}, {"d", INFINITY}, {"e", 1e-300}};
  ASSERT_TRUE((*writer)->write(7, 1700000000.25, metrics).ok());
  EXPECT_EQ(text(), "{\"step\":7,\"time\":1700000000.250,\"a\":0.1,\"b/c\":null,\"d\":null,\"e\":1e-300}\n");
  EXPECT_TRUE((*writer)->close().ok());
}

TEST_F(MetricsTest, AResumedRunEqualsOneThatNeverStopped) {
  auto whole = open_json_lines(local_files(), path_, std::nullopt);
  write_steps(**whole, 1, 30);
  const std::string expected = text();

  auto first = open_json_lines(local_files(), path_, std::nullopt);
  write_steps(**first, 1, 25);
  // Killed while writing step 26, three steps after its last checkpoint.
  const std::string half = "{\"step\":2";
  auto killed = local_files().open_to_append(path_);
  ASSERT_TRUE((*killed)->append(std::as_bytes(std::span(half))).ok());

  auto second = open_json_lines(local_files(), path_, 22);
  ASSERT_TRUE(second.ok()) << second.status().message();
  write_steps(**second, 23, 30);
  EXPECT_EQ(text(), expected);
}

TEST_F(MetricsTest, ResumeWithoutAFileStartsOne) {
  auto writer = open_json_lines(local_files(), path_, 5);
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  write_steps(**writer, 6, 6);
  EXPECT_THAT(text(), testing::StartsWith("{\"step\":6,"));
}

TEST_F(MetricsTest, LinesAcrossBlocksAndForeignLinesSurvive) {
  auto writer = open_json_lines(local_files(), path_, std::nullopt);
  write_steps(**writer, 1, 20'000);  // above one block of 1 MiB
  ASSERT_GT(text().size(), size_t{1} << 20);
  const std::string note = "# a note by hand\n";
  auto file = local_files().open_to_append(path_);
  ASSERT_TRUE((*file)->append(std::as_bytes(std::span(note))).ok());
  const std::string before = text();
  ASSERT_TRUE(open_json_lines(local_files(), path_, 20'000).ok());
  EXPECT_EQ(text(), before);
}

// Whatever operation fails while cutting back, the old records are still there.
TEST_F(MetricsTest, AFullDiskWhileCuttingBackLosesNothing) {
  auto writer = open_json_lines(local_files(), path_, std::nullopt);
  write_steps(**writer, 1, 10);
  const std::string whole = text();
  FaultyFiles files(local_files());
  ASSERT_TRUE(open_json_lines(files, path_, 10).ok());
  const int64_t operations = files.operations();
  ASSERT_GE(operations, 4);
  for (int64_t k = 0; k < operations; ++k) {
    files.arm(k, Fault::kDiskFull);
    const bool ok = open_json_lines(files, path_, 10).ok();
    EXPECT_EQ(text(), whole) << "operation " << k << (ok ? " passed" : " failed");
  }
}

std::vector<std::string> event_files(const std::string& directory) {
  const auto entries = local_files().list(directory);
  std::vector<std::string> names;
  for (const FileEntry& entry : *entries) names.push_back(entry.name);
  return names;
}

// The bytes were read back by TensorBoard's own loader (tests/oracle/read_events.py) when they were frozen here.
TEST_F(MetricsTest, EventBytesAreTensorBoards) {
  auto writer = open_event_file(local_files(), directory_, 1.0, std::nullopt);
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  const Metric metrics[] = {{"loss", 2.5}};
  ASSERT_TRUE((*writer)->write(300, 2.0, metrics).ok());
  ASSERT_THAT(event_files(directory_), testing::ElementsAre("events.out.tfevents.0000000001.0000.colossus"));
  const std::string bytes = *read_file(local_files(), directory_ + "/" + event_files(directory_)[0]);
  std::string hex;
  for (const unsigned char c : bytes) hex += "0123456789abcdef"[c >> 4], hex += "0123456789abcdef"[c & 15];
  EXPECT_EQ(hex,
            "1a00000000000000129bd82d09000000000000f03f10001a0d627261696e2e4576656e743a32cc314e92"
            "1b000000000000001a0d9e1309000000000000004010ac022a0d0a0b0a046c6f73731500002040de65814e");
}

TEST_F(MetricsTest, ResumedEventsGoToANewFileAndAFreshRunRemovesTheOld) {
  ASSERT_TRUE(open_event_file(local_files(), directory_, 5.0, std::nullopt).ok());
  ASSERT_TRUE(open_event_file(local_files(), directory_, 5.5, 10).ok());
  EXPECT_THAT(event_files(directory_), testing::ElementsAre("events.out.tfevents.0000000005.0000.colossus",
                                                            "events.out.tfevents.0000000005.0001.colossus"));
  ASSERT_TRUE(open_event_file(local_files(), directory_, 6.0, std::nullopt).ok());
  EXPECT_THAT(event_files(directory_), testing::ElementsAre("events.out.tfevents.0000000006.0000.colossus"));
}

TEST_F(MetricsTest, AllWritersAreWrittenWhenOneFails) {
  FaultyFiles faulty(local_files());
  std::vector<std::unique_ptr<MetricsWriter>> writers;
  writers.push_back(*open_json_lines(faulty, directory_ + "/bad.jsonl", std::nullopt));
  writers.push_back(*open_json_lines(local_files(), path_, std::nullopt));
  faulty.arm(0, Fault::kDiskFull);
  const Metric metrics[] = {{"a", 1}};
  const Status status = write_to_all(std::move(writers))->write(1, 0, metrics);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.code(), ErrorCode::kExhausted);
  EXPECT_EQ(text(), "{\"step\":1,\"time\":0.000,\"a\":1}\n");
}

}  // namespace
}  // namespace colossus
