#include "checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <cmath>

#include "checkpoint/async_saver.h"
#include "checkpoint/testing.h"
#include "io/checksum.h"
#include "io/faulty_files.h"

namespace colossus {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

TEST(Checkpoint, RoundTrip) {
  const TemporaryDirectory directory;
  const Contents contents(200, 1, 1.625);
  ASSERT_TRUE(save(local_files(), directory / "checkpoints", contents).ok());
  const auto checkpoint = Checkpoint::open(local_files(), directory / "checkpoints/step-00000200");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ(difference(*checkpoint, contents), "");
  EXPECT_EQ(checkpoint->find("model", "count"), nullptr);
  EXPECT_THAT(*list_checkpoints(local_files(), directory / "checkpoints"),
              ElementsAre(directory / "checkpoints/step-00000200"));
  EXPECT_THAT(*list_checkpoints(local_files(), directory / "nothing"), IsEmpty());
}

// JSON cannot say NaN; a loss that is none must not make a checkpoint that nobody can read.
TEST(Checkpoint, AValidationLossThatIsNotANumberIsLeftOut) {
  const TemporaryDirectory directory;
  for (const double loss : {std::nan(""), HUGE_VAL}) {
    ASSERT_TRUE(save(local_files(), directory.path(), Contents(1, 0, loss)).ok());
    const auto checkpoint = Checkpoint::open(local_files(), directory / "step-00000001");
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
    EXPECT_FALSE(checkpoint->state().validation_loss.has_value());
    EXPECT_TRUE(prune_checkpoints(local_files(), directory.path(), 1, true).ok());
  }
}

struct FaultCase {
  const char* name;
  Fault fault;
  bool same_step;  // the save replaces a checkpoint of its own step
};

class FaultySave : public testing::TestWithParam<std::tuple<FaultCase, int>> {};

// One rank, or several on one disk: whatever goes wrong at whichever operation of whichever rank, all hear the same,
// nobody waits until the time is over, and what can be opened is the old checkpoint or the new one.
TEST_P(FaultySave, LeavesTheOldOneOrTheNew) {
  const auto& [fault_case, num_ranks] = GetParam();
  const auto [name, fault, same_step] = fault_case;
  const auto save_all = [](FileSystem& files, const TemporaryDirectory& directory, const Contents& contents,
                           const SavedCut& layout) {
    const std::vector<Status> said = save_by_ranks(files, directory.path(), contents, layout);
    for (const Status& status : said) {
      EXPECT_EQ(status.message(), said[0].message());
      if (status.ok()) continue;
      EXPECT_THAT(status.message(), AllOf(StartsWith(said.size() > 1 ? "rank " : ""), HasSubstr("injected")));
    }
    return said[0];
  };
  const SavedCut layout{SavedCut::Kind::kRows, num_ranks}, earlier{SavedCut::Kind::kColumns, (num_ranks + 1) / 2};
  const Contents before(100, 1), after(same_step ? 100 : 200, 2);
  int64_t num_operations = 0, num_old = 0, num_new = 0;
  for (int64_t k = -1; k < num_operations; ++k) {
    SCOPED_TRACE(k);
    const TemporaryDirectory directory;
    ASSERT_TRUE(save_all(local_files(), directory, before, earlier).ok());
    FaultyFiles files(local_files());
    files.arm(k, k < 0 ? Fault::kNone : fault);
    const Status saved = save_all(files, directory, after, layout);
    if (k < 0) {  // only counts
      ASSERT_TRUE(saved.ok());
      num_operations = files.operations();
      ASSERT_GT(num_operations, 13 * num_ranks);
      continue;
    }
    std::vector<Status> skipped;
    const auto newest = open_newest_checkpoint(local_files(), directory.path(), skipped);
    ASSERT_TRUE(newest.ok()) << newest.status().message();
    EXPECT_THAT(skipped, IsEmpty());
    const std::string to_old = difference(*newest, before), to_new = difference(*newest, after);
    EXPECT_TRUE(to_old.empty() || to_new.empty()) << to_old << " / " << to_new;
    EXPECT_TRUE(!saved.ok() || to_new.empty());
    ++(to_new.empty() ? num_new : num_old);
    // The next save works and clears the rubble away.
    const Contents next(300, 3);
    ASSERT_TRUE(save_all(local_files(), directory, next, layout).ok());
    ASSERT_TRUE(prune_checkpoints(local_files(), directory.path(), 1, false).ok());
    const auto left = *local_files().list(directory.path());
    ASSERT_EQ(left.size(), 1u);
    EXPECT_EQ(difference(*Checkpoint::open(local_files(), directory / left[0].name), next), "");
  }
  EXPECT_GT(num_old, 10 * num_ranks);
  if (fault != Fault::kDiskFull && fault != Fault::kShortWrite) {
    EXPECT_GT(num_new, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Faults, FaultySave,
                         testing::Combine(testing::Values(FaultCase{"error", Fault::kError, false},
                                                          FaultCase{"disk_full", Fault::kDiskFull, false},
                                                          FaultCase{"short_write", Fault::kShortWrite, false},
                                                          FaultCase{"killed", Fault::kKilled, false},
                                                          FaultCase{"error_same_step", Fault::kError, true},
                                                          FaultCase{"killed_same_step", Fault::kKilled, true}),
                                          testing::Values(1, 3)),
                         [](const auto& info) {
                           return fmt::format("{}_of_{}", std::get<0>(info.param).name, std::get<1>(info.param));
                         });

// A kill between the two renames of a save that replaces its own step, and then another: the first save's rubble holds
// the only checkpoint, and stays until there is a new one.
TEST(Checkpoint, TwoKillsInARowLoseNothing) {
  const Contents before(100, 1), after(100, 2);
  int64_t num_operations = 0;
  {
    const TemporaryDirectory directory;
    ASSERT_TRUE(save(local_files(), directory.path(), before).ok());
    FaultyFiles files(local_files());
    ASSERT_TRUE(save(files, directory.path(), after).ok());
    num_operations = files.operations();
  }
  for (int64_t first = num_operations - 6; first < num_operations; ++first) {  // the renames are at the end
    for (const int64_t second :
         {int64_t{0}, int64_t{2}, num_operations - 5, num_operations - 4, num_operations - 3, num_operations - 2}) {
      const TemporaryDirectory directory;
      ASSERT_TRUE(save(local_files(), directory.path(), before).ok());
      for (const int64_t k : {first, second}) {
        FaultyFiles files(local_files());
        files.arm(k, Fault::kKilled);
        static_cast<void>(save(files, directory.path(), after));
      }
      std::vector<Status> skipped;
      const auto newest = open_newest_checkpoint(local_files(), directory.path(), skipped);
      ASSERT_TRUE(newest.ok()) << first << " " << second;
      EXPECT_TRUE(difference(*newest, before).empty() || difference(*newest, after).empty()) << first << " " << second;
    }
  }
}

// Only the removal of what was replaced fails: the new checkpoint is complete, and a save that said otherwise would
// stop a run for nothing.
TEST(Checkpoint, AReplacedOneThatCannotBeRemovedIsNoFailureAndGoesWithTheNextSave) {
  const Contents before(100, 1), after(100, 2), next(200, 3);
  const TemporaryDirectory directory;
  ASSERT_TRUE(save(local_files(), directory.path(), before).ok());
  FaultyFiles files(local_files());
  ASSERT_TRUE(save(files, directory.path(), after).ok());
  const int64_t num_operations = files.operations();

  files.arm(num_operations - 1, Fault::kError);
  const Status saved = save(files, directory.path(), before);
  ASSERT_TRUE(files.fired());
  EXPECT_TRUE(saved.ok()) << saved.message();
  EXPECT_TRUE(local_files().stat(directory / "step-00000100.replaced").ok());
  EXPECT_THAT(*list_checkpoints(local_files(), directory.path()), ElementsAre(directory / "step-00000100"));
  EXPECT_EQ(difference(*Checkpoint::open(local_files(), directory / "step-00000100"), before), "");

  ASSERT_TRUE(save(local_files(), directory.path(), next).ok());
  EXPECT_EQ(local_files().stat(directory / "step-00000100.replaced").status().code(), ErrorCode::kNotFound);
  EXPECT_EQ(difference(*Checkpoint::open(local_files(), directory / "step-00000100"), before), "");
  EXPECT_EQ(difference(*Checkpoint::open(local_files(), directory / "step-00000200"), next), "");
}

class DamagedCheckpoint : public testing::Test {
 protected:
  DamagedCheckpoint() { CHECK(save(local_files(), directory_.path(), Contents(7, 1, 2.0)).ok()); }

  std::string file(const std::string& name) const { return path_ + "/" + name; }
  // Opened and read in full.
  Status look() const {
    const auto checkpoint = Checkpoint::open(local_files(), path_);
    return checkpoint.ok() ? checkpoint->verify() : checkpoint.status();
  }
  void write(const std::string& name, const std::string& bytes) const {
    CHECK(write_file_atomically(local_files(), file(name), bytes).ok());
  }
  // A manifest whose own checksum is right again.
  void rewrite_manifest(const std::string& from, const std::string& to) const {
    std::string body = *read_file(local_files(), file("manifest.json"));
    body.resize(body.size() - 17);
    const size_t at = body.find(from);
    CHECK(at != std::string::npos, from.c_str());
    body.replace(at, from.size(), to);
    write("manifest.json", body + fmt::format("{:016x}\n", checksum(body)));
  }

  const TemporaryDirectory directory_;
  const std::string path_ = directory_ / "step-00000007";
  const std::vector<std::string> files_ = {"manifest.json", "model.safetensors", "optimizer.safetensors", "config.toml",
                                           "tokenizer.json"};
};

TEST_F(DamagedCheckpoint, AFlippedBitIsFoundAndItsFileNamed) {
  ASSERT_TRUE(look().ok());
  for (const std::string& name : files_) {
    const std::string good = *read_file(local_files(), file(name));
    const size_t stride = std::max<size_t>(1, good.size() / 60);
    for (size_t at = 0; at < good.size(); at += stride) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 8)));
      write(name, bad);
      const Status status = look();
      ASSERT_FALSE(status.ok()) << name << " byte " << at;
      EXPECT_THAT(status.message(), HasSubstr(name)) << "byte " << at;
    }
    write(name, good);
    ASSERT_TRUE(look().ok());
  }
}

TEST_F(DamagedCheckpoint, ACutOrMissingFileIsFoundAndNamed) {
  for (const std::string& name : files_) {
    const std::string good = *read_file(local_files(), file(name));
    for (const size_t length : {size_t{0}, size_t{1}, good.size() / 2, good.size() - 1}) {
      write(name, good.substr(0, length));
      ASSERT_FALSE(look().ok()) << name << " cut to " << length;
      EXPECT_THAT(look().message(), HasSubstr(name)) << "cut to " << length;
    }
    write(name, good + "x");
    EXPECT_FALSE(look().ok()) << name << " with a byte more";
    ASSERT_TRUE(local_files().remove_all(file(name)).ok());
    EXPECT_EQ(look().code(), ErrorCode::kNotFound) << name;
    EXPECT_THAT(look().message(), HasSubstr(name));
    write(name, good);
    ASSERT_TRUE(look().ok());
  }
}

TEST_F(DamagedCheckpoint, AnotherFilesTensorsAreFound) {
  const TemporaryDirectory other;
  ASSERT_TRUE(save(local_files(), other.path(), Contents(7, 5, 2.0)).ok());
  write("model.safetensors", *read_file(local_files(), other / "step-00000007/model.safetensors"));
  EXPECT_EQ(look().code(), ErrorCode::kCorrupt);
  EXPECT_THAT(look().message(), HasSubstr("model.safetensors"));
}

TEST_F(DamagedCheckpoint, WrongManifestsAreErrors) {
  const std::string good = *read_file(local_files(), file("manifest.json"));
  const auto told = [&](const std::string& from, const std::string& to) {
    rewrite_manifest(from, to);
    const std::string message = look().message();
    EXPECT_THAT(message, HasSubstr(path_)) << to;
    // Whoever prunes meets it too, and goes on.
    EXPECT_TRUE(prune_checkpoints(local_files(), directory_.path(), 1, true).ok()) << to;
    write("manifest.json", good);
    return message;
  };
  EXPECT_THAT(told("\"version\": 2", "\"version\": 1"), AllOf(HasSubstr("version 1"), HasSubstr("reads version 2")));
  EXPECT_THAT(told("\"version\": 2", "\"version\": \"2\""), HasSubstr("version"));
  EXPECT_THAT(told("colossus-checkpoint", "another"), HasSubstr("not a checkpoint's manifest"));
  EXPECT_THAT(told("\"colossus-checkpoint\"", "[]"), HasSubstr("not a checkpoint's manifest"));
  EXPECT_FALSE(told("\"step\": 7", "\"step\": \"seven\"").empty());
  EXPECT_FALSE(told("\"validation_loss\": 2.0", "\"validation_loss\": \"low\"").empty());
  EXPECT_FALSE(told("\"files\": {", "\"files\": 3, \"rest\": {").empty());
  EXPECT_FALSE(told("\"texts\": {", "\"texts\": [], \"rest\": {").empty());
  EXPECT_FALSE(told("\"model.safetensors\": ", "\"model.safetensors\": 1").empty());
}

TEST_F(DamagedCheckpoint, NamesThatLeadOutAreRefused) {
  const std::string good = *read_file(local_files(), file("manifest.json"));
  for (const char* name : {"../secret", "a/b", "..", ".", ""}) {
    rewrite_manifest("\"config.toml\"", fmt::format("\"{}\"", name));
    EXPECT_THAT(look().message(), HasSubstr("no plain name")) << name;
    write("manifest.json", good);
    rewrite_manifest("\"model.safetensors\": ", fmt::format("\"{}\": ", name));
    EXPECT_THAT(look().message(), HasSubstr("no plain name")) << name;
    write("manifest.json", good);
  }
}

TEST(Checkpoints, AreListedByStepAndForeignNamesLeftOut) {
  const TemporaryDirectory directory;
  for (const int64_t step : {100, 5, 123456789})
    ASSERT_TRUE(save(local_files(), directory.path(), Contents(step)).ok());
  for (const char* foreign :
       {"step-00000300.tmp", "step-00000400.deleting", "step-0000050x", "step-", "notes", "step-99999999999999999999"})
    ASSERT_TRUE(local_files().make_directories(directory / foreign).ok());
  ASSERT_TRUE(write_file_atomically(local_files(), directory / "step-00000600", "a file").ok());
  EXPECT_THAT(*list_checkpoints(local_files(), directory.path()),
              ElementsAre(directory / "step-00000005", directory / "step-00000100", directory / "step-123456789"));
}

TEST(Checkpoints, TheNewestThatOpensIsTaken) {
  const TemporaryDirectory directory;
  std::vector<Status> skipped;
  EXPECT_EQ(open_newest_checkpoint(local_files(), directory.path(), skipped).status().code(), ErrorCode::kNotFound);
  for (const int64_t step : {1, 2, 3}) ASSERT_TRUE(save(local_files(), directory.path(), Contents(step)).ok());
  ASSERT_TRUE(local_files().remove_all(directory / "step-00000003/model.safetensors").ok());
  const auto newest = open_newest_checkpoint(local_files(), directory.path(), skipped);
  ASSERT_TRUE(newest.ok());
  EXPECT_EQ(newest->state().step, 2);
  ASSERT_EQ(skipped.size(), 1u);
  EXPECT_THAT(skipped[0].message(), HasSubstr("step-00000003"));
}

TEST(Checkpoints, PruningKeepsTheLastAndTheBest) {
  const auto kept = [](int64_t keep_last, bool keep_best) {
    const TemporaryDirectory directory;
    const std::pair<int64_t, std::optional<double>> saves[] = {
        {1, 3.0}, {2, 1.5}, {3, std::nullopt}, {4, 2.0}, {5, 2.5}};
    for (const auto& [step, loss] : saves) CHECK(save(local_files(), directory.path(), Contents(step, 0, loss)).ok());
    CHECK(local_files().make_directories(directory / "step-00000009.tmp").ok());
    CHECK(local_files().make_directories(directory / "mine").ok());
    CHECK(prune_checkpoints(local_files(), directory.path(), keep_last, keep_best).ok());
    std::vector<std::string> names;
    for (const FileEntry& entry : *local_files().list(directory.path())) names.push_back(entry.name);
    return names;
  };
  EXPECT_THAT(kept(2, false), ElementsAre("mine", "step-00000004", "step-00000005"));
  EXPECT_THAT(kept(2, true), ElementsAre("mine", "step-00000002", "step-00000004", "step-00000005"));
  EXPECT_THAT(kept(1, true), ElementsAre("mine", "step-00000002", "step-00000005"));
  EXPECT_EQ(kept(9, false).size(), 6u);
}

// Pruning that is cut short never takes more than it should.
TEST(Checkpoints, APruneThatIsKilledLeavesTheLastOnes) {
  for (int64_t k = 0; k < 8; ++k) {
    const TemporaryDirectory directory;
    for (const int64_t step : {1, 2, 3, 4}) ASSERT_TRUE(save(local_files(), directory.path(), Contents(step)).ok());
    FaultyFiles files(local_files());
    files.arm(k, Fault::kKilled);
    static_cast<void>(prune_checkpoints(files, directory.path(), 2, false));
    for (const char* name : {"step-00000003", "step-00000004"})
      EXPECT_TRUE(Checkpoint::open(local_files(), directory / name)->verify().ok()) << k;
    ASSERT_TRUE(prune_checkpoints(local_files(), directory.path(), 2, false).ok());
    EXPECT_EQ(local_files().list(directory.path())->size(), 2u);
  }
}

TEST(AsyncSaver, WritesASnapshot) {
  const TemporaryDirectory directory;
  const Contents expected(1, 4);
  AsyncSaver saver(local_files(), directory.path(), {.keep_last = 2, .keep_best = false});
  for (const int64_t step : {1, 2, 3}) {
    Contents contents(step, 4);
    ASSERT_TRUE(saver.start(contents.state, contents.tensors).ok());
    // What happens to the tensors from here on is not in the checkpoint.
    for (auto& [name, bytes] : contents.bytes) std::fill(bytes.begin(), bytes.end(), std::byte{0});
  }
  ASSERT_TRUE(saver.wait().ok());
  EXPECT_THAT(*list_checkpoints(local_files(), directory.path()),
              ElementsAre(directory / "step-00000002", directory / "step-00000003"));
  const Contents last(3, 4);
  EXPECT_EQ(difference(*Checkpoint::open(local_files(), directory / "step-00000003"), last), "");
}

TEST(AsyncSaver, TellsOfAnErrorOnceAtTheNextCall) {
  const TemporaryDirectory directory;
  FaultyFiles files(local_files());
  AsyncSaver saver(files, directory.path(), {});
  const Contents contents(1);
  for (const bool at_start : {false, true}) {
    files.arm(3, Fault::kDiskFull);
    ASSERT_TRUE(saver.start(contents.state, contents.tensors).ok());
    const Status told = at_start ? saver.start(contents.state, contents.tensors) : saver.wait();
    EXPECT_EQ(told.code(), ErrorCode::kExhausted);
    EXPECT_TRUE(saver.wait().ok());
    files.arm(0, Fault::kNone);
    ASSERT_TRUE(saver.start(contents.state, contents.tensors).ok());
    EXPECT_TRUE(saver.wait().ok());
  }
  EXPECT_EQ(difference(*Checkpoint::open(local_files(), directory / "step-00000001"), contents), "");
}

}  // namespace
}  // namespace colossus
