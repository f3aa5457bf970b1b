#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "io/faulty_files.h"
#include "io/testing.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

std::string contents(const std::string& path) {
  auto text = read_file(local_files(), path);
  return text.ok() ? *text : "(" + text.status().message() + ")";
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

TEST(LocalFiles, WritesReadsAndAppends) {
  const TemporaryDirectory directory;
  FileSystem& files = local_files();
  ASSERT_TRUE(files.make_directories(directory / "a/b").ok());
  auto writer = files.create(directory / "a/b/file");
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->append(bytes_of("hello ")).ok());
  ASSERT_TRUE((*writer)->append(bytes_of("world")).ok());
  ASSERT_TRUE((*writer)->sync().ok());
  ASSERT_TRUE((*writer)->close().ok());
  EXPECT_TRUE((*writer)->close().ok());
  EXPECT_FALSE((*writer)->append(bytes_of("late")).ok());

  auto more = files.open_to_append(directory / "a/b/file");
  ASSERT_TRUE(more.ok());
  ASSERT_TRUE((*more)->append(bytes_of("!")).ok());
  ASSERT_TRUE((*more)->close().ok());
  EXPECT_EQ(contents(directory / "a/b/file"), "hello world!");

  auto reader = files.open(directory / "a/b/file");
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ((*reader)->size(), 12);
  std::array<std::byte, 8> part{};
  EXPECT_EQ(*(*reader)->read_at(6, part), 6);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(part.data()), 6), "world!");
  EXPECT_EQ(*(*reader)->read_at(100, part), 0);
  EXPECT_FALSE((*reader)->read_at(-1, part).ok());
  EXPECT_EQ(read_exactly(**reader, 6, part).code(), ErrorCode::kCorrupt);
}

TEST(LocalFiles, TellsErrorsApart) {
  const TemporaryDirectory directory;
  FileSystem& files = local_files();
  const auto missing = files.open(directory / "missing");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.status().code(), ErrorCode::kNotFound);
  EXPECT_THAT(missing.status().message(), HasSubstr(directory / "missing"));
  EXPECT_EQ(files.open(directory.path()).status().code(), ErrorCode::kInvalid);  // a directory is not a file
  EXPECT_EQ(files.create(directory / "no/such/file").status().code(), ErrorCode::kNotFound);
  EXPECT_EQ(files.stat(directory / "missing").status().code(), ErrorCode::kNotFound);
  EXPECT_EQ(files.list(directory / "missing").status().code(), ErrorCode::kNotFound);
  EXPECT_TRUE(files.remove_all(directory / "missing").ok());
  EXPECT_GT(*files.free_bytes(directory.path()), 0);

  ASSERT_TRUE(write_file_atomically(files, directory / "big", std::string(100, 'x')).ok());
  const auto refused = read_file(files, directory / "big", 99);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.status().message(), HasSubstr("100 bytes"));
}

TEST(LocalFiles, FullDiskIsExhausted) {
  auto writer = local_files().create("/dev/full");
  if (!writer.ok()) GTEST_SKIP() << "no /dev/full here";
  EXPECT_EQ((*writer)->append(bytes_of("x")).code(), ErrorCode::kExhausted);
}

TEST(LocalFiles, ListsSortedAndMarksLinks) {
  const TemporaryDirectory directory;
  FileSystem& files = local_files();
  for (const char* name : {"c", "a", "b"}) ASSERT_TRUE(write_file_atomically(files, directory / name, name).ok());
  ASSERT_TRUE(files.make_directories(directory / "d").ok());
  std::filesystem::create_directory_symlink(".", directory / "d/circle");
  std::filesystem::create_symlink("nowhere", directory / "dangling");
  const auto entries = files.list(directory.path());
  ASSERT_TRUE(entries.ok());
  std::vector<std::string> names;
  for (const FileEntry& entry : *entries) names.push_back(entry.name);
  EXPECT_THAT(names, ::testing::ElementsAre("a", "b", "c", "d", "dangling"));
  EXPECT_TRUE((*entries)[3].is_directory);
  const auto circle = files.stat(directory / "d/circle");
  ASSERT_TRUE(circle.ok());
  EXPECT_TRUE(circle->is_directory && circle->is_link);
  EXPECT_EQ(circle->name, "circle");
}

TEST(LocalFiles, RenameReplacesFilesAndEmptyDirectoriesOnly) {
  const TemporaryDirectory directory;
  FileSystem& files = local_files();
  ASSERT_TRUE(files.make_directories(directory / "new").ok());
  ASSERT_TRUE(write_file_atomically(files, directory / "new/x", "x").ok());
  ASSERT_TRUE(files.make_directories(directory / "empty").ok());
  EXPECT_TRUE(files.rename(directory / "new", directory / "empty").ok());
  ASSERT_TRUE(files.make_directories(directory / "other").ok());
  EXPECT_FALSE(files.rename(directory / "other", directory / "empty").ok());
  EXPECT_EQ(contents(directory / "empty/x"), "x");
}

// Whatever fails, at whatever operation: a reader finds the old bytes or the new ones, and nothing lies around
// unless the process itself died.
TEST(FaultyFiles, AtomicWriteLeavesOldOrNew) {
  for (const Fault fault : {Fault::kError, Fault::kDiskFull, Fault::kShortWrite, Fault::kKilled}) {
    int64_t operations = 1;
    for (int64_t k = 0; k < operations; ++k) {
      const TemporaryDirectory directory;
      const std::string path = directory / "file";
      ASSERT_TRUE(write_file_atomically(local_files(), path, "old").ok());
      FaultyFiles files(local_files());
      ASSERT_TRUE(write_file_atomically(files, directory / "count", "12").ok());
      operations = files.operations();
      ASSERT_EQ(operations, 6);  // create, append, sync, close, rename, sync of the directory
      files.arm(k, fault);
      const Status written = write_file_atomically(files, path, "new!");
      EXPECT_TRUE(files.fired());
      const std::string found = contents(path);
      EXPECT_TRUE(!written.ok() || found == "new!") << found;
      EXPECT_TRUE(found == "old" || found == "new!") << found;
      EXPECT_TRUE(k != 0 || !written.ok());
      EXPECT_TRUE(fault == Fault::kKilled || !local_files().stat(path + ".partial").ok()) << "k = " << k;
    }
  }
}

TEST(FaultyFiles, ShortWriteLeavesHalf) {
  const TemporaryDirectory directory;
  FaultyFiles files(local_files());
  auto writer = files.create(directory / "file");
  ASSERT_TRUE(writer.ok());
  files.arm(0, Fault::kShortWrite);
  EXPECT_EQ((*writer)->append(bytes_of("12345678")).code(), ErrorCode::kExhausted);
  EXPECT_EQ((*writer)->append(bytes_of("9")).code(), ErrorCode::kExhausted);  // the disk stays full
  EXPECT_EQ(contents(directory / "file"), "1234");
}

TEST(FaultyFiles, CanFailReadsToo) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(write_file_atomically(local_files(), directory / "file", "text").ok());
  FaultyFiles files(local_files(), /*count_reads=*/true);
  auto reader = files.open(directory / "file");
  ASSERT_TRUE(reader.ok());
  files.arm(1, Fault::kError);
  std::array<std::byte, 4> into{};
  EXPECT_TRUE((*reader)->read_at(0, into).ok());
  EXPECT_EQ((*reader)->read_at(0, into).status().code(), ErrorCode::kUnavailable);
  EXPECT_TRUE((*reader)->read_at(0, into).ok());
}

}  // namespace
}  // namespace colossus
