// What a disk, a bad copy or a wrong hand does to a checkpoint of several ranks: found, and the place named.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/testing.h"
#include "io/checksum.h"

namespace colossus {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class DamagedRanks : public testing::Test {
 protected:
  DamagedRanks() {
    const SavedCut layout{SavedCut::Kind::kRows, 2};
    for (const Status& status : save_by_ranks(local_files(), directory_.path(), contents_, layout)) CHECK(status.ok());
    files_ = std::make_unique<MemoryFiles>(path_);
  }

  std::string& bytes(const std::string& name) { return files_->contents.at(path_ + "/" + name); }
  Result<Checkpoint> open() { return Checkpoint::open(*files_, path_); }
  // Opened and read in full.
  Status look() {
    const auto checkpoint = open();
    return checkpoint.ok() ? checkpoint->verify() : checkpoint.status();
  }
  // Of a manifest in which `from` is `to`, and whose own checksum is right again.
  Status rewritten(const std::string& from, const std::string& to) {
    std::string& manifest = bytes("manifest.json");
    const std::string good = manifest;
    std::string body = good.substr(0, good.size() - 17);
    const size_t at = body.find(from);
    CHECK(at != std::string::npos, from.c_str());
    body.replace(at, from.size(), to);
    manifest = body + fmt::format("{:016x}\n", checksum(body));
    const Status status = look();
    manifest = good;
    return status;
  }

  const TemporaryDirectory directory_;
  const Contents contents_{7, 1, 2.0};
  const std::string path_ = directory_ / "step-00000007";
  std::unique_ptr<MemoryFiles> files_;
};

TEST_F(DamagedRanks, EveryFlippedBitIsFoundOrChangesNothing) {
  ASSERT_EQ(difference(*open(), contents_), "");
  std::vector<std::string> names;
  for (const auto& [path, content] : files_->contents) names.push_back(path);
  ASSERT_THAT(names, SizeIs(7));
  constexpr uint64_t kFlips = 12'000;
  int num_harmless = 0;
  for (uint64_t i = 0; i < kFlips; ++i) {
    const std::string& path = names[i % names.size()];
    std::string& content = files_->contents.at(path);
    const uint64_t bit = random_bits({.seed = 11}, i) % (8 * content.size());
    const auto flip = [&] { content[bit / 8] = static_cast<char>(content[bit / 8] ^ (1 << (bit % 8))); };
    flip();
    const auto checkpoint = open();
    const Status status = checkpoint.ok() ? checkpoint->verify() : checkpoint.status();
    if (status.ok()) {
      ++num_harmless;
      ASSERT_EQ(difference(*checkpoint, contents_), "") << path << " bit " << bit;
    } else {
      ASSERT_THAT(status.message(), HasSubstr(path)) << "bit " << bit;
    }
    flip();
  }
  EXPECT_LT(num_harmless, 10);
  EXPECT_EQ(difference(*open(), contents_), "");
}

TEST_F(DamagedRanks, MissingCutAndSwappedFilesAreNamed) {
  for (auto& [path, content] : files_->contents) {
    const std::string good = content;
    for (const size_t length : {size_t{0}, size_t{1}, good.size() / 2, good.size() - 1}) {
      content = good.substr(0, length);
      ASSERT_EQ(look().code(), ErrorCode::kCorrupt) << path << " cut to " << length;
      EXPECT_THAT(look().message(), HasSubstr(path)) << length;
    }
    content = good + "x";
    EXPECT_THAT(look().message(), HasSubstr(path));
    content = good;
  }
  const auto good = files_->contents;
  for (const auto& [path, content] : good) {
    files_->contents.erase(path);
    EXPECT_EQ(look().code(), ErrorCode::kNotFound);
    EXPECT_THAT(look().message(), HasSubstr(path));
    files_->contents = good;
  }
  std::swap(bytes("model-00001-of-00002.safetensors"), bytes("model-00002-of-00002.safetensors"));
  EXPECT_THAT(look().message(), HasSubstr("-of-00002.safetensors"));
}

// Of the same size and with the same header, so that only the bytes tell them apart.
TEST(DamagedCheckpointOfRanks, TwinFilesSwappedAreFound) {
  const TemporaryDirectory directory;
  Contents contents(7, 1);
  contents.tensors.clear();
  contents.add("model", "even", DType::kF32, {8, 4}, 1);
  for (const Status& status : save_by_ranks(local_files(), directory.path(), contents, {SavedCut::Kind::kRows, 2}))
    ASSERT_TRUE(status.ok());
  const std::string path = directory / "step-00000007";
  MemoryFiles files(path);
  std::swap(files.contents.at(path + "/model-00001-of-00002.safetensors"),
            files.contents.at(path + "/model-00002-of-00002.safetensors"));
  const auto checkpoint = Checkpoint::open(files, path);
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_THAT(checkpoint->verify().message(),
              AllOf(HasSubstr("model-00001-of-00002.safetensors"), HasSubstr("even"), HasSubstr("block 0")));
}

TEST_F(DamagedRanks, VerifyTellsOfEveryFaultAndCanBeStopped) {
  bytes("model-00001-of-00002.safetensors").back() ^= 1;
  bytes("model-00002-of-00002.safetensors").resize(100);
  bytes("optimizer-00001-of-00002.safetensors").back() ^= 1;
  files_->contents.erase(path_ + "/optimizer-00002-of-00002.safetensors");
  EXPECT_FALSE(open().ok());
  const auto checkpoint = Checkpoint::open_unchecked(*files_, path_);
  ASSERT_TRUE(checkpoint.ok());
  std::vector<std::string> faults;
  int64_t last = 0;
  const Status first = checkpoint->verify([&](int64_t num_bytes, const Status& fault) {
    EXPECT_GE(num_bytes, last);
    last = num_bytes;
    if (!fault.ok()) faults.push_back(fault.message());
    return true;
  });
  EXPECT_EQ(first.message(), faults.at(0));
  EXPECT_THAT(faults, ElementsAre(HasSubstr("model-00002-of-00002.safetensors] is 100 bytes long"),
                                  HasSubstr("optimizer-00002-of-00002.safetensors is not there"),
                                  HasSubstr("model-00001-of-00002.safetensors] tensor"),
                                  HasSubstr("optimizer-00001-of-00002.safetensors] tensor")));
  int calls = 0;
  EXPECT_EQ(checkpoint->verify([&](int64_t, const Status&) { return ++calls < 3; }).code(), ErrorCode::kInterrupted);
  EXPECT_EQ(calls, 3);
}

TEST_F(DamagedRanks, ManifestsThatContradictThemselvesOrTheFiles) {
  const auto expect = [&](const std::string& from, const std::string& to, const std::string& said) {
    const Status status = rewritten(from, to);
    ASSERT_FALSE(status.ok()) << to;
    EXPECT_EQ(status.code(), ErrorCode::kCorrupt) << to;
    EXPECT_THAT(status.message(), AllOf(HasSubstr(path_), HasSubstr(said))) << to;
  };
  // The first tensor is model/embedding, (37, 5): rows 0 to 17 in file 1, 18 to 36 in file 2.
  expect("\"shape\":[37,5]", "\"shape\":[38,5]", "model/embedding [38, 5]: element [37, 0] is in no piece");
  expect("\"shape\":[37,5]", "\"shape\":[1125899906842624,5]", "element [37, 0] is in no piece");
  expect("\"shape\":[37,5]", "\"shape\":[36,5]", "does not lie within [36, 5]");
  expect("\"shape\":[37,5]", "\"shape\":[-37,5]", "no shape that a file can hold");
  expect("\"shape\":[37,5]", "\"shape\":[2251799813685248,2251799813685248]", "no shape that a file can hold");
  expect("\"shape\":[37,5]", "\"shape\":[37,5,1,1,1,1,1]", "7 dimensions are too many");
  expect("\"shape\":[37,5]", "\"shape\":[37,5.0]", "json.exception");
  expect("\"shape\":[37,5]", "\"shape\":37", "json.exception");
  expect("\"begin\":[18,0]", "\"begin\":[17,0]", "element [17, 0] is in 2 pieces");
  expect("\"begin\":[18,0]", "\"begin\":[9223372036854775807,0]", "does not lie within");
  expect("\"begin\":[18,0]", "\"begin\":[18]", "begin has 1 numbers, shape 2");
  expect("\"begin\":[18,0],", "", "json.exception");
  expect("\"shape\":[19,5]", "\"range\":[1,95],\"shape\":[19,5]", "element [18, 0] is in no piece");
  expect("\"shape\":[19,5]", "\"range\":[0,96],\"shape\":[19,5]", "elements 0 to 96");
  expect("\"shape\":[19,5]", "\"range\":[0,1,2],\"shape\":[19,5]", "range has 3 numbers");
  expect("\"shape\":[19,5]", "\"place\":1,\"shape\":[19,5]", "the key \"place\" is unknown");
  expect("\"blocks\":\"", "\"blocks\":\"0000000000000000", "1 blocks have 16");
  expect("\"blocks\":\"", "\"blocks\":\"0", "17 digits");
  expect("\"blocks\":\"", "\"blocks\":[],\"in\":\"", "stands twice");
  expect("\"in\":\"model-00002", "\"in\":\"model-00003", "not one of the files");
  expect("\"in\":\"model-00002", "\"in\":\"model-00001", "two pieces in model-00001-of-00002.safetensors");
  expect("\"in\":\"model-00002", "\"in\":\"optimizer-00002", "tensors; the manifest names");
  expect("\"name\":\"embedding\"", "\"name\":\"zebra\"", "is there twice, or not in its place");
  expect("\"name\":\"embedding\"", "\"name\":\"eel\"", "lacks the manifest's tensor eel");
  expect("\"dtype\":\"f32\"", "\"dtype\":\"i32\"", "another type or shape");
  expect("\"dtype\":\"f32\"", "\"dtype\":\"f99\"", "the dtype \"f99\" is unknown");
  expect("\"file\":\"model\"", "\"file\":\"../model\"", "no plain name");
  expect("\"step\": 7", "\"step\": 7, \"steps\": 8", "the key \"steps\" is unknown");
  EXPECT_THAT(rewritten("\"block_bytes\": 4194304", "\"block_bytes\": 0").message(), HasSubstr("blocks of 0 bytes"));
}

class ManyBlocks : public testing::Test {
 protected:
  static constexpr int64_t kRows = 1100, kColumns = 4000;  // of 4 bytes: blocks of 262.144 rows
  ManyBlocks() {
    contents_.tensors.clear();
    contents_.add("model", "large", DType::kF32, {kRows, kColumns}, 3);
  }
  void save_as(const SavedCut& layout) {
    for (const Status& status : save_by_ranks(local_files(), directory_.path(), contents_, layout)) CHECK(status.ok());
    files_ = std::make_unique<MemoryFiles>(path_);
  }
  static Piece rows(int64_t begin, int64_t end) {
    Slice slice{.shape = {end - begin, kColumns}};
    slice.begin[0] = begin;
    return whole_piece(slice);
  }

  const TemporaryDirectory directory_;
  Contents contents_{7};
  const std::string path_ = directory_ / "step-00000007";
  std::unique_ptr<MemoryFiles> files_;
};

TEST_F(ManyBlocks, OnlyTheBlocksOfAPieceAreRead) {
  for (const SavedCut& layout : {SavedCut{SavedCut::Kind::kFlat, 1}, SavedCut{SavedCut::Kind::kColumns, 2}}) {
    save_as(layout);
    const auto checkpoint = Checkpoint::open(*files_, path_);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
    const Checkpoint::Entry& entry = checkpoint->tensors()[0];
    EXPECT_EQ(entry.pieces[0].block_checksums.size(), layout.size == 1 ? 5u : 3u);
    for (const auto& [begin, end] :
         std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {260, 265}, {1099, 1100}, {5, 900}}) {
      const std::vector<std::byte> expected = contents_.bytes_of(contents_.tensors[0], rows(begin, end));
      std::vector<std::byte> read(expected.size());
      files_->num_bytes_read = 0;
      ASSERT_TRUE(checkpoint->read(entry, rows(begin, end), read).ok());
      ASSERT_EQ(read, expected) << begin;
      // A block more at both ends of each stored piece, and headers.
      EXPECT_LE(files_->num_bytes_read,
                static_cast<int64_t>(read.size()) + layout.size * (2 * kCheckpointBlockBytes + 1000));
    }
  }
}

TEST_F(ManyBlocks, AFaultIsFoundWhereItIsAndHurtsNobodyElse) {
  save_as({SavedCut::Kind::kFlat, 1});
  std::string& bytes = files_->contents.at(path_ + "/model.safetensors");
  const size_t header = bytes.size() - static_cast<size_t>(kRows * kColumns * 4);
  bytes[header + 2 * kCheckpointBlockBytes + 77] ^= 4;
  const auto checkpoint = Checkpoint::open(*files_, path_);
  ASSERT_TRUE(checkpoint.ok());
  const Checkpoint::Entry& entry = checkpoint->tensors()[0];
  const auto read = [&](int64_t begin, int64_t end) {
    std::vector<std::byte> into(static_cast<size_t>((end - begin) * kColumns * 4));
    return checkpoint->read(entry, rows(begin, end), into);
  };
  EXPECT_TRUE(read(0, 524).ok());
  EXPECT_TRUE(read(787, kRows).ok());
  for (const auto& [begin, end] : std::vector<std::pair<int64_t, int64_t>>{{0, kRows}, {524, 525}, {700, 701}})
    EXPECT_THAT(read(begin, end).message(), AllOf(HasSubstr("model.safetensors"), HasSubstr("tensor large"),
                                                  HasSubstr("block 2 (bytes 8388608 to 12582912")));
}

}  // namespace
}  // namespace colossus
