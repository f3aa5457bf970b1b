// Checkpoints where names cannot be changed: whatever fails, the old checkpoint is there or the new one, never a mix.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/consolidate.h"
#include "checkpoint/copy.h"
#include "checkpoint/testing.h"
#include "io/faulty_files.h"
#include "io/s3/s3_files.h"
#include "io/s3/testing.h"

namespace colossus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// A disk that behaves like an object store: a file appears when it is closed.
class ObjectLikeFiles final : public FileSystem {
 public:
  bool can_rename(const std::string&) const override { return false; }
  Result<std::unique_ptr<FileReader>> open(const std::string& path) override { return local_files().open(path); }
  Result<std::unique_ptr<FileWriter>> create(const std::string& path) override {
    class Writer final : public FileWriter {
     public:
      explicit Writer(std::string path) : path_(std::move(path)) {}
      Status append(std::span<const std::byte> bytes) override {
        bytes_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        return ok_status();
      }
      Status sync() override { return ok_status(); }
      Status close() override {
        RETURN_IF_ERROR(local_files().make_directories(path_.substr(0, path_.rfind('/'))));
        return write_file_atomically(local_files(), path_, bytes_);
      }

     private:
      std::string path_, bytes_;
    };
    return std::make_unique<Writer>(path);
  }
  Result<std::unique_ptr<FileWriter>> open_to_append(const std::string&) override { return invalid("cannot append"); }
  Status rename(const std::string&, const std::string&) override { return invalid("cannot rename"); }
  Status remove_all(const std::string& path) override { return local_files().remove_all(path); }
  Status make_directories(const std::string&) override { return ok_status(); }
  Status sync_directory(const std::string&) override { return ok_status(); }
  Result<FileEntry> stat(const std::string& path) override { return local_files().stat(path); }
  Result<std::vector<FileEntry>> list(const std::string& path) override { return local_files().list(path); }
  Result<int64_t> free_bytes(const std::string& path) override { return local_files().free_bytes(path); }
};

// Which of these contents the newest checkpoint has.
std::string newest_of(FileSystem& files, const std::string& directory, const Contents& before, const Contents& after) {
  std::vector<Status> skipped;
  const auto newest = open_newest_checkpoint(files, directory, skipped);
  if (!newest.ok()) return newest.status().message();
  if (!skipped.empty()) return "skipped: " + skipped.front().message();
  const std::string to_before = difference(*newest, before), to_after = difference(*newest, after);
  return to_after.empty() ? "after" : to_before.empty() ? "before" : "a mix: " + to_before + " and " + to_after;
}

TEST(CheckpointObjects, EveryKillLeavesTheOldOrTheNewCheckpoint) {
  ObjectLikeFiles objects;
  // The same step again, and the next one.
  for (const int64_t step : {7, 8}) {
    const Contents before(7, 1, 2.0), after(step, 2, 1.5);
    int64_t operations = 0;
    {
      const TemporaryDirectory directory;
      ASSERT_TRUE(save(objects, directory.path(), before).ok());
      FaultyFiles files(objects, true);
      ASSERT_TRUE(save(files, directory.path(), after).ok());
      operations = files.operations();
      ASSERT_EQ(newest_of(objects, directory.path(), before, after), "after");
      EXPECT_THAT(*list_checkpoints(objects, directory.path()), SizeIs(step == 7 ? 1 : 2));
    }
    ASSERT_GT(operations, 15);
    bool saw_before = false, saw_after = false;
    for (const Fault fault : {Fault::kError, Fault::kDiskFull, Fault::kKilled})
      for (int64_t at = 0; at < operations; ++at) {
        const TemporaryDirectory directory;
        ASSERT_TRUE(save(objects, directory.path(), before).ok());
        FaultyFiles files(objects, true);
        files.arm(at, fault);
        const bool saved = save(files, directory.path(), after).ok();
        const std::string found = newest_of(objects, directory.path(), before, after);
        saw_before |= found == "before";
        saw_after |= found == "after";
        ASSERT_TRUE(found == "after" || (!saved && found == "before")) << at << ": " << found;
        // The next save clears away what is left.
        ASSERT_TRUE(save(objects, directory.path(), after).ok());
        ASSERT_EQ(newest_of(objects, directory.path(), before, after), "after");
        ASSERT_TRUE(prune_checkpoints(objects, directory.path(), 1, false).ok());
        ASSERT_THAT(*local_files().list(directory.path()), SizeIs(1));
        ASSERT_EQ(newest_of(objects, directory.path(), before, after), "after");
      }
    EXPECT_TRUE(saw_before && saw_after);
  }
}

TEST(CheckpointObjects, APruneThatIsCutShortLeavesWholeCheckpoints) {
  ObjectLikeFiles objects;
  const Contents first(1, 1), second(2, 2), third(3, 3);
  for (int64_t at = 0;; ++at) {
    const TemporaryDirectory directory;
    for (const Contents* contents : {&first, &second, &third})
      ASSERT_TRUE(save(objects, directory.path(), *contents).ok());
    FaultyFiles files(objects);
    files.arm(at, Fault::kKilled);
    const bool pruned = prune_checkpoints(files, directory.path(), 1, false).ok();
    for (const std::string& path : *list_checkpoints(objects, directory.path())) {
      const auto checkpoint = Checkpoint::open(objects, path);
      ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
      ASSERT_TRUE(checkpoint->verify().ok());
    }
    ASSERT_EQ(newest_of(objects, directory.path(), second, third), "after");
    if (pruned) break;
    ASSERT_LT(at, 100);
  }
}

TEST(CheckpointObjects, SavedToS3LoadedFromS3AndCopied) {
  FakeS3 service;
  const auto s3 = make_s3_files(service.options());
  const Contents before(7, 1, 2.0), after(7, 2, 1.5);
  const std::string directory = "s3://bucket/runs/one/checkpoints";
  EXPECT_THAT(*list_checkpoints(*s3, directory), IsEmpty());
  ASSERT_TRUE(save(*s3, directory, before).ok());
  ASSERT_TRUE(save(*s3, directory, after).ok());
  EXPECT_EQ(newest_of(*s3, directory, before, after), "after");
  EXPECT_THAT(*list_checkpoints(*s3, directory), ElementsAre(directory + "/step-00000007.r1"));
  std::vector<Status> skipped;
  const auto found = find_checkpoint(*s3, "s3://bucket/runs/one", skipped);
  ASSERT_TRUE(found.ok()) << found.status().message();
  ASSERT_TRUE(consolidate_checkpoint(*s3, found->path(), "s3://bucket/whole").ok());
  EXPECT_EQ(difference(*Checkpoint::open(*s3, "s3://bucket/whole"), after), "");
  EXPECT_FALSE(consolidate_checkpoint(*s3, found->path(), "s3://bucket/whole").ok());
}

TEST(CheckpointObjects, SaveToS3WithFailingRequestsIsOldOrNew) {
  const Contents before(7, 1, 2.0), after(7, 2, 1.5);
  bool saw_before = false, saw_after = false;
  for (int64_t at = 0; at < 60; ++at) {
    FakeS3 service;
    S3Options options = service.options();
    options.deadline_seconds = 0.02;
    const auto s3 = make_s3_files(options), sound = make_s3_files(service.options());
    const std::string directory = "s3://bucket/checkpoints";
    ASSERT_TRUE(save(*sound, directory, before).ok());
    // From one request on nothing is answered; what was asked may have been done.
    const auto begin = static_cast<int64_t>(service.requests().size());
    service.inject([&](const FakeS3Request& request) {
      if (request.number < begin + at) return FakeS3Fault::kNone;
      return request.number == begin + at ? FakeS3Fault::kLostAnswer : FakeS3Fault::kCutRequest;
    });
    const bool saved = save(*s3, directory, after).ok();
    service.inject(nullptr);
    const std::string state = newest_of(*sound, directory, before, after);
    ASSERT_TRUE(state == "after" || (!saved && state == "before")) << at << ": " << state;
    saw_before |= state == "before";
    saw_after |= state == "after";
    if (saved) break;
  }
  EXPECT_TRUE(saw_before && saw_after);
}

TEST(CheckpointObjects, WhatCannotBeSeenIsNeitherRemovedNorWrittenOver) {
  FakeS3 service;
  const auto s3 = make_s3_files(service.options());
  const Contents first(7, 1), second(8, 2);
  ASSERT_TRUE(save(*s3, "s3://bucket/checkpoints", first).ok());
  const auto before = service.objects();
  service.inject([](const FakeS3Request& request) {
    return request.method == "HEAD" ? FakeS3Fault::kDenied : FakeS3Fault::kNone;
  });
  EXPECT_FALSE(prune_checkpoints(*s3, "s3://bucket/checkpoints", 1, false).ok());
  EXPECT_FALSE(save(*s3, "s3://bucket/checkpoints", second).ok());
  EXPECT_FALSE(list_checkpoints(*s3, "s3://bucket/checkpoints").ok());
  EXPECT_EQ(service.objects(), before);
}

TEST(CheckpointObjects, RanksSaveTogether) {
  ObjectLikeFiles objects;
  const TemporaryDirectory directory;
  const Contents before(7, 1), after(7, 2);
  for (const Contents* contents : {&before, &after})
    for (const Status& status : save_by_ranks(objects, directory.path(), *contents, {SavedCut::Kind::kRows, 3}))
      ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(newest_of(objects, directory.path(), before, after), "after");
  EXPECT_THAT(*list_checkpoints(objects, directory.path()), SizeIs(1));
}

TEST(CopyCheckpoint, AppearsWholeOrNotAtAll) {
  ObjectLikeFiles objects;
  const TemporaryDirectory source;
  const Contents contents(7, 1, 2.0);
  for (const Status& status : save_by_ranks(local_files(), source.path(), contents, {SavedCut::Kind::kFlat, 2}))
    ASSERT_TRUE(status.ok());
  const std::string from = source / "step-00000007";
  for (FileSystem* const target : std::initializer_list<FileSystem*>{&local_files(), &objects})
    for (int64_t at = 0;; ++at) {
      const TemporaryDirectory directory;
      const std::string to = directory / "copy";
      FaultyFiles files(*target, true);
      files.arm(at, Fault::kKilled);
      const bool copied = copy_checkpoint(files, from, to).ok();
      const auto there = Checkpoint::open(local_files(), to);
      // An error behind the last step is told, though the copy is there.
      ASSERT_TRUE(there.ok() || !copied) << at;
      EXPECT_EQ(there.ok() ? difference(*there, contents) : "", "");
      if (!copied) continue;
      EXPECT_FALSE(copy_checkpoint(files, from, to).ok());  // it is there
      break;
    }
  // What is wrong is not copied.
  const std::string name = from + "/model-00001-of-00002.safetensors";
  std::string bytes = *read_file(local_files(), name);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  ASSERT_TRUE(write_file_atomically(local_files(), name, bytes).ok());
  for (FileSystem* const target : std::initializer_list<FileSystem*>{&local_files(), &objects}) {
    const TemporaryDirectory directory;
    EXPECT_EQ(copy_checkpoint(*target, from, directory / "copy").code(), ErrorCode::kCorrupt);
    EXPECT_THAT(*local_files().list(directory.path()), IsEmpty());
  }
}

}  // namespace
}  // namespace colossus
