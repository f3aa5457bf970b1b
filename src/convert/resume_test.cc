// Conversions that were cut short go on, and end as if they had not been.

#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "convert/export_model.h"
#include "convert/import_model.h"
#include "convert/testing.h"
#include "io/faulty_files.h"

namespace colossus {
namespace {

std::map<std::string, std::string> contents(const std::string& directory) {
  std::map<std::string, std::string> files;
  const auto entries = local_files().list(directory);
  CHECK(entries.ok());
  for (const FileEntry& entry : *entries) files[entry.name] = *read_file(local_files(), directory + "/" + entry.name);
  return files;
}

class Resume : public testing::Test {
 protected:
  Resume() { write_foreign_model(dir_ / "theirs", model_, *find_family("mixtral"), DType::kBF16); }

  const TemporaryDirectory dir_;
  const ModelConfig model_ = small_model_of("mixtral");
};

TEST_F(Resume, AnImportGoesOnBehindTheLastWholeFile) {
  ASSERT_TRUE(import_model(local_files(), dir_ / "theirs", dir_ / "whole", {.max_file_bytes = 700}).ok());
  const auto first =
      import_model(local_files(), dir_ / "theirs", dir_ / "ours",
                   {.max_file_bytes = 700, .progress = [](int64_t done, int64_t all) { return done < all / 2; }});
  ASSERT_FALSE(first.ok());
  EXPECT_EQ(first.status().code(), ErrorCode::kInterrupted);
  EXPECT_FALSE(local_files().stat(dir_ / "ours").ok());
  const auto second = import_model(local_files(), dir_ / "theirs", dir_ / "ours", {.max_file_bytes = 700});
  ASSERT_TRUE(second.ok()) << second.status().message();
  EXPECT_EQ(contents(dir_ / "ours"), contents(dir_ / "whole"));
  EXPECT_GT(contents(dir_ / "ours").size(), 6U);
  const auto checkpoint = Checkpoint::open(local_files(), dir_ / "ours");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_TRUE(checkpoint->verify().ok());
}

// What was changed behind its back in a file that was done stays: nobody wrote it a second time.
TEST_F(Resume, WhatIsDoneIsNotDoneAgain) {
  ASSERT_FALSE(
      import_model(local_files(), dir_ / "theirs", dir_ / "ours",
                   {.max_file_bytes = 700, .progress = [](int64_t done, int64_t all) { return done < all / 2; }})
          .ok());
  const auto unfinished = contents(dir_ / "ours.tmp");
  const auto done =
      std::ranges::find_if(unfinished, [](const auto& file) { return file.first.ends_with(".safetensors"); });
  ASSERT_NE(done, unfinished.end());
  std::string changed = done->second;
  changed.back() = static_cast<char>(changed.back() ^ 1);
  write_text(dir_ / "ours.tmp/" + done->first, changed);
  ASSERT_TRUE(import_model(local_files(), dir_ / "theirs", dir_ / "ours", {.max_file_bytes = 700}).ok());
  EXPECT_EQ(contents(dir_ / "ours").at(done->first), changed);
  const auto checkpoint = Checkpoint::open(local_files(), dir_ / "ours");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_FALSE(checkpoint->verify().ok());
}

TEST_F(Resume, AnImportOfOtherFilesBeginsAnew) {
  ASSERT_FALSE(
      import_model(local_files(), dir_ / "theirs", dir_ / "ours",
                   {.max_file_bytes = 700, .progress = [](int64_t done, int64_t all) { return done < all / 2; }})
          .ok());
  auto tensors = foreign_tensors(model_, *find_family("mixtral"), DType::kBF16);
  for (ForeignTensor& tensor : tensors) tensor.bytes = bytes_of(tensor.spec.name, tensor.bytes.size(), 1);
  write_safetensors(dir_ / "theirs/model.safetensors", tensors);
  ASSERT_TRUE(import_model(local_files(), dir_ / "theirs", dir_ / "ours", {.max_file_bytes = 700}).ok());
  ASSERT_TRUE(import_model(local_files(), dir_ / "theirs", dir_ / "whole", {.max_file_bytes = 700}).ok());
  EXPECT_EQ(contents(dir_ / "ours"), contents(dir_ / "whole"));
}

TEST_F(Resume, AnExportGoesOnBehindTheLastWholeFile) {
  ASSERT_TRUE(import_model(local_files(), dir_ / "theirs", dir_ / "ours").ok());
  ASSERT_TRUE(export_hf(local_files(), dir_ / "ours", dir_ / "whole", {.family = {}, .max_file_bytes = 700}).ok());
  const auto first = export_hf(
      local_files(), dir_ / "ours", dir_ / "again",
      {.family = {}, .max_file_bytes = 700, .progress = [](int64_t done, int64_t all) { return done < all / 2; }});
  ASSERT_FALSE(first.ok());
  EXPECT_FALSE(local_files().stat(dir_ / "again").ok());
  ASSERT_TRUE(export_hf(local_files(), dir_ / "ours", dir_ / "again", {.family = {}, .max_file_bytes = 700}).ok());
  EXPECT_EQ(contents(dir_ / "again"), contents(dir_ / "whole"));
  EXPECT_TRUE(contents(dir_ / "again").contains("model.safetensors.index.json"));
  // Its shards are a model again.
  const auto imported = import_model(local_files(), dir_ / "again", dir_ / "third");
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  EXPECT_EQ(contents(dir_ / "third").at("model.safetensors"), contents(dir_ / "ours").at("model.safetensors"));
}

// What an interrupted command leaves beside the files: harmless, and gone with the next conversion.
void drop_records(std::map<std::string, std::string>& files) {
  std::erase_if(files, [](const auto& file) { return file.first.ends_with(".done"); });
}

// Converts with the disk failing at every operation in turn, then once more with a sound one: whatever was left, the
// bytes are those of a conversion that nothing disturbed, and what was there before is as it was.
template <class Convert>
void break_at_every_operation(const TemporaryDirectory& dir, const std::string& from, const Convert& convert) {
  FaultyFiles counting(local_files());
  ASSERT_TRUE(convert(counting, dir / "whole").ok());
  const auto whole = contents(dir / "whole"), before = contents(from);
  ASSERT_GT(counting.operations(), 20);
  for (const Fault fault : {Fault::kKilled, Fault::kShortWrite}) {
    int num_stopped = 0;
    for (int64_t k = 0; k < counting.operations(); ++k) {
      FaultyFiles files(local_files());
      files.arm(k, fault);
      const Status first = convert(files, dir / "made");
      if (!first.ok()) {
        ++num_stopped;
        EXPECT_EQ(first.code(), fault == Fault::kKilled ? ErrorCode::kInterrupted : ErrorCode::kExhausted)
            << first.message();
        EXPECT_THAT(first.message(), testing::HasSubstr(dir.path()));
      }
      if (!local_files().stat(dir / "made").ok()) {
        const Status second = convert(local_files(), dir / "made");
        ASSERT_TRUE(second.ok()) << "operation " << k << ": " << second.message();
      }
      auto made = contents(dir / "made");
      drop_records(made);
      ASSERT_EQ(made, whole) << "operation " << k;
      ASSERT_EQ(contents(from), before) << "operation " << k;
      ASSERT_TRUE(local_files().remove_all(dir / "made").ok());
    }
    EXPECT_GT(num_stopped, counting.operations() / 2);
  }
}

TEST_F(Resume, AnImportSurvivesEveryFault) {
  break_at_every_operation(dir_, dir_ / "theirs", [&](FileSystem& files, const std::string& to) {
    return import_model(files, dir_ / "theirs", to, {.max_file_bytes = 7000}).status();
  });
}

TEST_F(Resume, AnExportSurvivesEveryFault) {
  ASSERT_TRUE(import_model(local_files(), dir_ / "theirs", dir_ / "ours").ok());
  break_at_every_operation(dir_, dir_ / "ours", [&](FileSystem& files, const std::string& to) {
    return export_hf(files, dir_ / "ours", to, {.family = {}, .max_file_bytes = 7000}).status();
  });
}

}  // namespace
}  // namespace colossus
