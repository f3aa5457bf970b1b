// Checkpoints that many ranks write, and any number of ranks reads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/async_saver.h"
#include "checkpoint/testing.h"
#include "io/faulty_files.h"
#include "io/safetensors.h"

namespace colossus {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Property;
using ::testing::StartsWith;

constexpr SavedCut kThreeRows{SavedCut::Kind::kRows, 3};

void add_shapes(Contents& contents) {
  contents.add("model", "vector", DType::kF32, {16}, 3);
  contents.add("model", "four", DType::kF64, {5, 4, 3, 2}, 3);
  contents.add("optimizer", "row", DType::kBF16, {1, 29}, 3);
}

void expect_all_ok(const std::vector<Status>& said) {
  for (const Status& status : said) ASSERT_TRUE(status.ok()) << status.message();
}

class FromLayout : public testing::TestWithParam<SavedCut> {};

TEST_P(FromLayout, ToEveryOther) {
  const TemporaryDirectory directory;
  Contents contents(200, 1, 1.625);
  add_shapes(contents);
  expect_all_ok(save_by_ranks(local_files(), directory.path(), contents, GetParam()));
  const auto checkpoint = Checkpoint::open(local_files(), directory / "step-00000200");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ(difference(*checkpoint, contents), "");
  EXPECT_EQ(
      checkpoint->file_bytes().begin()->first,
      GetParam().size == 1 ? "model.safetensors" : fmt::format("model-00001-of-{:05}.safetensors", GetParam().size));
  for (const SavedCut& to : all_layouts({1, 2, 3, 4, 8}))
    for (int rank = 0; rank < to.size; ++rank)
      for (size_t i = 0; i < contents.tensors.size(); ++i) {
        const CheckpointTensor& tensor = contents.tensors[i];
        const auto piece = piece_of(to, tensor.shape, i, rank);
        if (!piece) continue;
        const std::vector<std::byte> expected = contents.bytes_of(tensor, *piece);
        std::vector<std::byte> read(expected.size());
        const Status status = checkpoint->read(*checkpoint->find(tensor.file, tensor.name), *piece, read);
        ASSERT_TRUE(status.ok()) << status.message();
        ASSERT_EQ(read, expected) << layout_name(to) << " rank " << rank << " " << tensor.name;
      }
}

INSTANTIATE_TEST_SUITE_P(Layouts, FromLayout, testing::ValuesIn(all_layouts({1, 2, 3, 4, 8})),
                         [](const auto& info) { return layout_name(info.param); });

// The same pieces, the same files: who is quick does not matter.
TEST(CheckpointOfRanks, TheSameBytesEachTime) {
  const TemporaryDirectory directory;
  const Contents contents(7, 1);
  std::map<std::string, std::string> first;
  for (const char* place : {"a", "b", "c"}) {
    expect_all_ok(save_by_ranks(local_files(), directory / place, contents, {SavedCut::Kind::kFlat, 3}));
    std::map<std::string, std::string> files;
    const std::string path = directory / place + "/step-00000007";
    for (const FileEntry& entry : *local_files().list(path))
      files[entry.name] = *read_file(local_files(), path + "/" + entry.name);
    if (first.empty()) first = files;
    EXPECT_EQ(files, first);
  }
  EXPECT_EQ(first.size(), 3u + 6);
}

// A whole slice keeps its shape in the file, anything else is a list.
TEST(CheckpointOfRanks, SlicesKeepTheirShapesInTheFiles) {
  const TemporaryDirectory directory;
  const Contents contents(7, 1);
  const auto shape_in = [&](SavedCut::Kind kind) {
    CHECK(save_by_ranks(local_files(), directory.path(), contents, {kind, 2})[0].ok());
    const auto file =
        SafetensorsFile::open(local_files(), directory / "step-00000007/model-00002-of-00002.safetensors");
    return file->find("embedding")->shape;
  };
  EXPECT_THAT(shape_in(SavedCut::Kind::kRows), ElementsAre(19, 5));
  EXPECT_THAT(shape_in(SavedCut::Kind::kColumns), ElementsAre(37, 3));
  EXPECT_THAT(shape_in(SavedCut::Kind::kFlat), ElementsAre(93));
}

// Three ranks save what `change` made of their tensors; what all of them say.
std::string told(
    const std::function<void(int rank, std::vector<CheckpointTensor>& tensors, CheckpointState& state)>& change,
    FileSystem& files_of_rank_1 = local_files()) {
  const TemporaryDirectory directory;
  const Contents contents(7, 1);
  const CommGroup group = make_thread_group({.size = 3});
  std::vector<Status> said(3);
  on_all_ranks(group, [&](Communicator& ranks) {
    std::vector<CheckpointTensor> tensors = tensors_of_rank(contents, kThreeRows, ranks.rank());
    CheckpointState state = contents.state;
    change(ranks.rank(), tensors, state);
    said[static_cast<size_t>(ranks.rank())] =
        save_checkpoint(ranks.rank() == 1 ? files_of_rank_1 : local_files(), directory.path(), state, tensors, &ranks);
  });
  EXPECT_THAT(said, Each(Property(&Status::message, said[0].message())));
  EXPECT_THAT(*list_checkpoints(local_files(), directory.path()), IsEmpty());
  // Nothing of it is in the way of the next save, with the same group.
  on_all_ranks(group, [&](Communicator& ranks) {
    const Status status = save_checkpoint(local_files(), directory.path(), contents.state,
                                          tensors_of_rank(contents, kThreeRows, ranks.rank()), &ranks);
    EXPECT_TRUE(status.ok()) << status.message();
  });
  EXPECT_EQ(difference(*Checkpoint::open(local_files(), directory / "step-00000007"), contents), "");
  return said[0].message();
}

CheckpointTensor& embedding_of(std::vector<CheckpointTensor>& tensors) { return tensors.at(0); }

TEST(CheckpointOfRanks, WhatIsMissingOrDoubledIsNamed) {
  // Rows 0 to 11, 12 to 23, 24 to 36.
  EXPECT_THAT(told([](int rank, auto& tensors, auto&) {
                if (rank == 1) tensors.erase(tensors.begin());
              }),
              AllOf(StartsWith("rank 0: "), HasSubstr("model/embedding [37, 5]: element [12, 0] is in no piece")));
  EXPECT_THAT(told([](int rank, auto& tensors, auto&) {
                if (rank == 2) --embedding_of(tensors).piece.end;
              }),
              HasSubstr("model/embedding [37, 5]: element [36, 4] is in no piece"));
  EXPECT_THAT(told([](int rank, auto& tensors, auto&) {
                if (rank == 1) --embedding_of(tensors).piece.slice.begin[0];
              }),
              HasSubstr("model/embedding [37, 5]: element [11, 0] is in 2 pieces: of model-00001-of-00003.safetensors "
                        "and model-00002-of-00003.safetensors"));
}

TEST(CheckpointOfRanks, RanksThatDisagreeAreNamed) {
  EXPECT_THAT(told([](int rank, auto& tensors, auto&) {
                if (rank == 2) embedding_of(tensors).shape = {38, 5};
              }),
              AllOf(HasSubstr("model/embedding is f32 [37, 5] in model-00001-of-00003.safetensors"),
                    HasSubstr("f32 [38, 5] in model-00003-of-00003.safetensors")));
  EXPECT_THAT(told([](int rank, auto& tensors, auto&) {
                if (rank == 2) embedding_of(tensors).dtype = DType::kI32;
              }),
              HasSubstr("i32 [37, 5] in model-00003-of-00003.safetensors"));
  EXPECT_THAT(told([](int rank, auto& tensors, auto&) {
                if (rank == 1) embedding_of(tensors).piece.slice.begin[0] = 30;
              }),
              AllOf(StartsWith("rank 1: [model/embedding]"), HasSubstr("[12, 5] at [30, 0]")));
  EXPECT_THAT(told([](int rank, auto& tensors, auto&) {
                if (rank == 1) tensors.push_back(embedding_of(tensors));
              }),
              AllOf(StartsWith("rank 1: "), HasSubstr("two tensors would have the name \"embedding\"")));
  // Its directory is not there: rank 0 made that of its own step.
  EXPECT_THAT(told([](int rank, auto&, auto& state) {
                if (rank == 1) state.step = 8;
              }),
              AllOf(StartsWith("rank 1: "), HasSubstr("step-00000008.tmp")));
}

TEST(CheckpointOfRanks, WhatOneRankCannotReadOrWriteAllHear) {
  EXPECT_THAT(told([](int rank, auto& tensors, auto&) {
                if (rank == 2)
                  tensors.back().read = [](int64_t, std::span<std::byte>) { return unavailable("device lost"); };
              }),
              "rank 2: device lost");
  FaultyFiles full(local_files());
  full.arm(2, Fault::kDiskFull);
  EXPECT_THAT(told([](int, auto&, auto&) {}, full), AllOf(StartsWith("rank 1: "), HasSubstr("No space left")));
}

// Every machine has a directory of that name, but not the same one: what rank 1 wrote is not there for rank 0.
TEST(CheckpointOfRanks, DisksOfTheirOwnAreNoticed) {
  const TemporaryDirectory directory;
  const Contents contents(7, 1);
  const CommGroup group = make_thread_group({.size = 2});
  on_all_ranks(group, [&](Communicator& ranks) {
    const std::string own = directory / std::to_string(ranks.rank());
    ASSERT_TRUE(local_files().make_directories(own + "/step-00000007.tmp").ok());
    const Status status = save_checkpoint(local_files(), own, contents.state,
                                          tensors_of_rank(contents, {SavedCut::Kind::kRows, 2}, ranks.rank()), &ranks);
    EXPECT_THAT(status.message(), AllOf(StartsWith("rank 0: "), HasSubstr("-00002-of-00002.safetensors")));
  });
  EXPECT_THAT(*list_checkpoints(local_files(), directory / "0"), IsEmpty());
}

// Rubble of an earlier save has the name that rank 1 writes under.
TEST(CheckpointOfRanks, AnotherStepIsNoticedWhereItsDirectoryIsThere) {
  const TemporaryDirectory directory;
  const Contents contents(7, 1);
  ASSERT_TRUE(local_files().make_directories(directory / "step-00000008.tmp").ok());
  const CommGroup group = make_thread_group({.size = 2});
  on_all_ranks(group, [&](Communicator& ranks) {
    const Status status = save_checkpoint(local_files(), directory.path(), {.step = 7 + ranks.rank()},
                                          tensors_of_rank(contents, {SavedCut::Kind::kRows, 2}, ranks.rank()), &ranks);
    EXPECT_THAT(status.message(), HasSubstr("rank 0 saves step 7, rank 1 saves step 8"));
  });
  EXPECT_THAT(*list_checkpoints(local_files(), directory.path()), IsEmpty());
}

TEST(CheckpointOfRanks, ARankThatIsGoneIsNamedAndNothingIsSaved) {
  const TemporaryDirectory directory;
  const Contents contents(7, 1);
  CommGroup group = make_thread_group({.size = 3});
  group[1].reset();
  for (const int rank : {0, 2}) {
    const Status status =
        save_checkpoint(local_files(), directory.path(), contents.state, tensors_of_rank(contents, kThreeRows, rank),
                        group[static_cast<size_t>(rank)].get());
    EXPECT_THAT(status.message(), AllOf(HasSubstr("step 7"), HasSubstr("rank 1")));
  }
  EXPECT_THAT(*list_checkpoints(local_files(), directory.path()), IsEmpty());
}

// Ranks without a tensor take part too; rank 0's texts are the checkpoint's.
TEST(CheckpointOfRanks, ARankMayHaveNothing) {
  const TemporaryDirectory directory;
  const Contents contents(7, 1, 2.5);
  const CommGroup group = make_thread_group({.size = 3});
  on_all_ranks(group, [&](Communicator& ranks) {
    const CheckpointState state =
        ranks.rank() == 0 ? contents.state : CheckpointState{.step = 7, .texts = {{"x", "y"}}};
    const auto tensors = ranks.rank() == 1 ? contents.tensors : std::vector<CheckpointTensor>();
    EXPECT_TRUE(save_checkpoint(local_files(), directory.path(), state, tensors, &ranks).ok());
  });
  const auto checkpoint = Checkpoint::open(local_files(), directory / "step-00000007");
  EXPECT_EQ(difference(*checkpoint, contents), "");
  EXPECT_EQ(checkpoint->file_bytes().size(), 2u);
}

TEST(CheckpointOfRanks, MoreFilesThanAreHeldOpen) {
  const TemporaryDirectory directory;
  Contents contents(7, 1);
  contents.add("model", "long", DType::kF32, {1000}, 5);
  expect_all_ok(save_by_ranks(local_files(), directory.path(), contents, {SavedCut::Kind::kFlat, 90}));
  MemoryFiles files(directory / "step-00000007");
  const auto checkpoint = Checkpoint::open(files, directory / "step-00000007");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ(difference(*checkpoint, contents), "");
  EXPECT_LE(files.most_open, 70);
}

TEST(AsyncSaverOfRanks, WritesPrunesAndTellsAllOfAnError) {
  const TemporaryDirectory directory;
  FaultyFiles files(local_files());
  CommGroup group = make_thread_group({.size = 3});
  std::vector<std::unique_ptr<AsyncSaver>> savers;
  for (auto& end : group)
    savers.push_back(std::make_unique<AsyncSaver>(files, directory.path(),
                                                  SavePolicy{.keep_last = 2, .keep_best = false}, std::move(end)));
  const auto on_savers = [&](const std::function<void(AsyncSaver&, int)>& body) {
    in_threads(3, [&](int rank) { body(*savers[static_cast<size_t>(rank)], rank); });
  };
  const auto start = [&](AsyncSaver& saver, int rank, int64_t step) {
    const Contents contents(step, 4);  // gone when the writing begins
    return saver.start(contents.state, tensors_of_rank(contents, kThreeRows, rank));
  };
  on_savers([&](AsyncSaver& saver, int rank) {
    for (const int64_t step : {1, 2, 3}) EXPECT_TRUE(start(saver, rank, step).ok());
    EXPECT_TRUE(saver.wait().ok());
  });
  EXPECT_THAT(*list_checkpoints(local_files(), directory.path()),
              ElementsAre(directory / "step-00000002", directory / "step-00000003"));
  EXPECT_EQ(difference(*Checkpoint::open(local_files(), directory / "step-00000003"), Contents(3, 4)), "");

  files.arm(7, Fault::kDiskFull);
  on_savers([&](AsyncSaver& saver, int rank) {
    EXPECT_TRUE(start(saver, rank, 4).ok());
    const Status status = start(saver, rank, 5);
    EXPECT_THAT(status.message(), AllOf(StartsWith("rank "), HasSubstr("No space left")));
    EXPECT_TRUE(saver.wait().ok());
  });
  files.arm(0, Fault::kNone);
  // A rank that cannot copy its tensors is heard by all at the next call.
  bool failed = false;
  on_savers([&](AsyncSaver& saver, int rank) {
    const Contents contents(5, 4);
    auto tensors = tensors_of_rank(contents, kThreeRows, rank);
    if (rank == 2)  // once: what is written from a copy that failed must not count
      tensors[0].read = [&failed](int64_t, std::span<std::byte>) {
        return std::exchange(failed, true) ? ok_status() : exhausted("no memory");
      };
    EXPECT_TRUE(saver.start(contents.state, tensors).ok());
    EXPECT_EQ(saver.wait().message(), "rank 2: no memory");
    EXPECT_TRUE(start(saver, rank, 6).ok());
    EXPECT_TRUE(saver.wait().ok());
  });
  EXPECT_EQ(difference(*Checkpoint::open(local_files(), directory / "step-00000006"), Contents(6, 4)), "");
}

}  // namespace
}  // namespace colossus
