#include "checkpoint/consolidate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/testing.h"
#include "io/faulty_files.h"

namespace colossus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::map<std::string, std::string> files_in(const std::string& path) {
  std::map<std::string, std::string> files;
  for (const FileEntry& entry : *local_files().list(path))
    files[entry.name] = *read_file(local_files(), path + "/" + entry.name);
  return files;
}

std::vector<std::string> names_in(const std::string& path) {
  std::vector<std::string> names;
  for (const FileEntry& entry : *local_files().list(path)) names.push_back(entry.name);
  return names;
}

// Many blocks in many pieces, so that the window moves; in the order of names, as a consolidated file has them.
struct Sorted : Contents {
  Sorted() : Contents(7, 1, 2.0) {
    add("model", "large", DType::kF32, {1100, 2003}, 9);
    std::sort(tensors.begin(), tensors.end(), [](const CheckpointTensor& a, const CheckpointTensor& b) {
      return std::tie(a.file, a.name) < std::tie(b.file, b.name);
    });
  }
};

TEST(Consolidate, GivesTheFilesThatOneRankWouldHaveWritten) {
  const TemporaryDirectory directory;
  const Sorted contents;
  ASSERT_TRUE(save(local_files(), directory / "one", contents).ok());
  const auto expected = files_in(directory / "one/step-00000007");
  for (const SavedCut& layout : {SavedCut{SavedCut::Kind::kColumns, 3}, SavedCut{SavedCut::Kind::kFlatOfColumns, 4},
                                 SavedCut{SavedCut::Kind::kRows, 2}, SavedCut{SavedCut::Kind::kFlat, 1}}) {
    const std::string from = directory / layout_name(layout), to = from + "-in-one";
    for (const Status& status : save_by_ranks(local_files(), from, contents, layout)) ASSERT_TRUE(status.ok());
    const Status status = consolidate_checkpoint(local_files(), from + "/step-00000007", to + "/");
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(files_in(to), expected) << layout_name(layout);
  }
}

TEST(Consolidate, LeavesTheOptimizerOutIfAsked) {
  const TemporaryDirectory directory;
  const Contents contents(7, 1, 2.0);
  const auto from = directory / "step-00000007", to = directory / "some/where/model";
  for (const Status& status : save_by_ranks(local_files(), directory.path(), contents, {SavedCut::Kind::kFlat, 3}))
    ASSERT_TRUE(status.ok());
  ASSERT_TRUE(consolidate_checkpoint(local_files(), from, to, {.model_only = true, .progress = {}}).ok());
  EXPECT_THAT(names_in(to), ElementsAre("config.toml", "manifest.json", "model.safetensors", "tokenizer.json"));
  const auto checkpoint = Checkpoint::open(local_files(), to);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_TRUE(checkpoint->verify().ok());
  EXPECT_EQ(checkpoint->tensors().size(), 3u);
  EXPECT_EQ(checkpoint->state().validation_loss, 2.0);
}

TEST(Consolidate, WritesNothingOrAll) {
  const TemporaryDirectory directory;
  const Contents contents(7, 1, 2.0);
  for (const Status& status : save_by_ranks(local_files(), directory / "from", contents, {SavedCut::Kind::kRows, 2}))
    ASSERT_TRUE(status.ok());
  const std::string from = directory / "from/step-00000007", to = directory / "to";

  // What is there is not touched.
  ASSERT_TRUE(write_file_atomically(local_files(), directory / "file", "text").ok());
  for (const std::string& present : {from, directory / "file"})
    EXPECT_THAT(consolidate_checkpoint(local_files(), from, present).message(), HasSubstr("is there already"));

  EXPECT_EQ(
      consolidate_checkpoint(local_files(), from, to, {.model_only = false, .progress = [](int64_t) { return false; }})
          .code(),
      ErrorCode::kInterrupted);
  EXPECT_THAT(names_in(directory.path()), ElementsAre("file", "from"));

  FaultyFiles files(local_files());
  for (int64_t k = 0;; ++k) {
    files.arm(k, Fault::kDiskFull);
    const Status status = consolidate_checkpoint(files, from, to);
    if (!files.fired()) break;
    ASSERT_LT(k, 100);
    if (status.ok()) {  // the fault was in what comes after the last rename
      ASSERT_TRUE(local_files().remove_all(to).ok());
      continue;
    }
    EXPECT_THAT(names_in(directory.path()), ElementsAre("file", "from")) << k;
  }
  ASSERT_TRUE(local_files().remove_all(to).ok());

  const std::string damaged = from + "/model-00002-of-00002.safetensors";
  std::string bytes = *read_file(local_files(), damaged);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  ASSERT_TRUE(write_file_atomically(local_files(), damaged, bytes).ok());
  EXPECT_THAT(consolidate_checkpoint(local_files(), from, to).message(), HasSubstr(damaged));
  EXPECT_THAT(names_in(directory.path()), ElementsAre("file", "from"));
}

}  // namespace
}  // namespace colossus
