#include "data/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "data/build.h"
#include "io/testing.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kVocab = 70000;

// A directory whose training stream is the tokens base, base + 1, ... in documents of the given lengths.
void write_directory(const std::string& path, const std::vector<std::vector<int64_t>>& shards, int32_t base = 0,
                     const ShardIdentity& identity = {.vocab_size = kVocab, .tokenizer_hash = 9}) {
  CHECK(local_files().make_directories(path).ok());
  ShardIndex index = {
      .identity = identity, .bos_token = {}, .eos_token = {}, .split_rule = {}, .train = {}, .validation = {}};
  int32_t next = base;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = "train-" + std::to_string(i) + ".tokens";
    auto writer = ShardWriter::create(local_files(), path + "/" + file, identity);
    for (const int64_t length : shards[i]) {
      std::vector<int32_t> tokens;
      for (int64_t t = 0; t < length; ++t) tokens.push_back(next++);
      CHECK(writer->append(tokens).ok());
      writer->end_document();
    }
    const auto contents = writer->finish();
    index.train.push_back({.file = file, .counts = writer->counts(), .contents_checksum = *contents});
  }
  index.validation = index.train;
  CHECK(write_shard_index(local_files(), path, index).ok());
}

struct Batch {
  std::vector<int32_t> tokens, targets, starts;
  explicit Batch(int64_t size) : tokens(static_cast<size_t>(size)), targets(tokens), starts(tokens) {}
  bool operator==(const Batch&) const = default;
};

Batch fill(const Loader& loader, int64_t step, int64_t first, int64_t count) {
  Batch batch(count * loader.options().row_tokens);
  const Status filled = loader.fill(step, first, count, batch.tokens, batch.targets, batch.starts);
  CHECK(filled.ok(), filled.message().c_str());
  return batch;
}

TEST(Loader, EveryTokenIsATargetOnceAnEpoch) {
  const TemporaryDirectory directory;
  write_directory(directory / "d", {{100, 1, 1, 37}, {500}, {3, 3, 3, 1000}});  // 1648 tokens
  for (const bool shuffle : {false, true}) {
    const auto loader = Loader::open(local_files(), {{directory / "d"}},
                                     {.row_tokens = 16, .rows_per_step = 1, .seed = 3, .shuffle = shuffle});
    ASSERT_TRUE(loader.ok()) << loader.status().message();
    ASSERT_EQ(loader->rows_per_epoch(), 102);
    std::vector<std::vector<int64_t>> orders;
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      std::set<int32_t> targets;
      orders.emplace_back();
      for (int64_t step = 0; step < 102; ++step) {
        const Batch batch = fill(*loader, epoch * 102 + step, 0, 1);
        orders.back().push_back(batch.tokens[0]);
        for (size_t t = 0; t < 16; ++t) {
          EXPECT_EQ(batch.targets[t], batch.tokens[t] + 1);
          EXPECT_TRUE(targets.insert(batch.targets[t]).second);
        }
      }
      EXPECT_EQ(targets.size(), 102u * 16);
      EXPECT_EQ(*targets.begin(), 1);
      EXPECT_EQ(*targets.rbegin(), 102 * 16);
    }
    EXPECT_EQ(orders[0] == orders[1], !shuffle);
    EXPECT_EQ(orders[1] == orders[2], !shuffle);
  }
}

TEST(Loader, AnyoneCanAskForAnySample) {
  const TemporaryDirectory directory;
  write_directory(directory / "d", {{3000}});
  const LoaderOptions options = {.row_tokens = 32, .rows_per_step = 8, .seed = 5};
  const auto loader = Loader::open(local_files(), {{directory / "d"}}, options);
  const auto other = Loader::open(local_files(), {{directory / "d"}}, options);
  for (int64_t step = 0; step < 30; ++step) {
    const Batch whole = fill(*loader, step, 0, 8);
    for (int64_t sample = 7; sample >= 0; --sample) {
      const Batch one = fill(*other, step, sample, 1);
      EXPECT_TRUE(std::equal(one.tokens.begin(), one.tokens.end(), whole.tokens.begin() + sample * 32));
    }
  }
  auto reseeded = options;
  reseeded.seed = 6;
  EXPECT_FALSE(fill(*Loader::open(local_files(), {{directory / "d"}}, reseeded), 0, 0, 8) == fill(*loader, 0, 0, 8));
}

TEST(Loader, DocumentStartsMatchAPlainWalk) {
  const TemporaryDirectory directory;
  const std::vector<std::vector<int64_t>> shards = {
      {5, 1, 1, 30, 2}, {1}, {64, 3}, std::vector<int64_t>(700, 1), {50, 7, 9}};
  write_directory(directory / "d", shards);
  std::vector<int64_t> document_begin;  // of each token
  for (const auto& shard : shards) {
    for (const int64_t length : shard)
      document_begin.insert(document_begin.end(), static_cast<size_t>(length),
                            static_cast<int64_t>(document_begin.size()));
  }
  const auto loader =
      Loader::open(local_files(), {{directory / "d"}}, {.row_tokens = 13, .rows_per_step = 2, .seed = 1});
  ASSERT_TRUE(loader.ok());
  for (int64_t step = 0; step < loader->rows_per_epoch() / 2; ++step) {
    const Batch batch = fill(*loader, step, 0, 2);
    for (size_t i = 0; i < batch.tokens.size(); ++i) {
      const int64_t row_begin = batch.tokens[i / 13 * 13];
      const int64_t expected = std::max<int64_t>(document_begin[static_cast<size_t>(batch.tokens[i])] - row_begin, 0);
      ASSERT_EQ(batch.starts[i], expected) << "step " << step << " token " << batch.tokens[i];
    }
  }
}

TEST(Loader, RandomOffsetsMoveTheWindowsAndStayInside) {
  const TemporaryDirectory directory;
  write_directory(directory / "d", {{1000}});
  const auto loader = Loader::open(local_files(), {{directory / "d"}},
                                   {.row_tokens = 64, .rows_per_step = 1, .seed = 2, .random_offset = true});
  ASSERT_TRUE(loader.ok());
  const int64_t rows = loader->rows_per_epoch();
  EXPECT_EQ(rows, 14);
  std::set<int64_t> offsets;
  for (int64_t epoch = 0; epoch < 20; ++epoch) {
    std::set<int64_t> seen;
    for (int64_t row = 0; row < rows; ++row) {
      const Loader::Place place = loader->place_of(epoch * rows + row);
      offsets.insert(place.first_token % 64);
      EXPECT_EQ(place.epoch, epoch);
      EXPECT_TRUE(seen.insert(place.row).second);
      EXPECT_LE(place.first_token + 64, 999);
    }
  }
  EXPECT_GT(offsets.size(), 10u);
}

TEST(Loader, MixturesFollowTheirWeightsAndLoseNothing) {
  const TemporaryDirectory directory;
  write_directory(directory / "a", {{4001}}, 0);
  write_directory(directory / "b", {{801}}, 10000);
  write_directory(directory / "c", {{2001}}, 20000);
  const auto loader = Loader::open(local_files(), {{directory / "a", 5}, {directory / "b", 3}, {directory / "c", 2}},
                                   {.row_tokens = 8, .rows_per_step = 4, .seed = 7});
  ASSERT_TRUE(loader.ok()) << loader.status().message();
  const int64_t samples = 10240;
  std::array<int64_t, 3> counts{};
  std::array<std::set<std::pair<int64_t, int64_t>>, 3> seen;
  for (int64_t sample = 0; sample < samples; ++sample) {
    const Loader::Place place = loader->place_of(sample);
    ++counts[place.source];
    EXPECT_TRUE(seen[place.source].insert({place.epoch, place.row}).second);
  }
  EXPECT_NEAR(static_cast<double>(counts[0]), 5120, 3);
  EXPECT_NEAR(static_cast<double>(counts[1]), 3072, 3);
  EXPECT_NEAR(static_cast<double>(counts[2]), 2048, 3);
  // Each source goes on to an epoch only when it has given all rows of the one before.
  for (size_t source = 0; source < 3; ++source) {
    const int64_t rows = loader->rows_per_epoch(source);
    std::vector<int64_t> per_epoch(static_cast<size_t>(counts[source] / rows + 1));
    for (const auto& [epoch, row] : seen[source]) ++per_epoch[static_cast<size_t>(epoch)];
    for (size_t epoch = 0; epoch + 1 < per_epoch.size(); ++epoch) EXPECT_EQ(per_epoch[epoch], rows);
  }
  const Batch batch = fill(*loader, 100, 0, 4);
  for (size_t i = 0; i + 1 < batch.tokens.size(); ++i) EXPECT_EQ(batch.targets[i], batch.tokens[i] + 1);
}

TEST(Loader, FillsFromManyThreads) {
  const TemporaryDirectory directory;
  write_directory(directory / "d", {{30000, 10000}, {20000}});
  const LoaderOptions options = {.row_tokens = 100, .rows_per_step = 10, .seed = 1};
  const auto loader = Loader::open(local_files(), {{directory / "d"}}, options),
             alone = Loader::open(local_files(), {{directory / "d"}}, options);
  std::vector<std::vector<Batch>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] {
      for (int64_t step = 0; step < 30; ++step) result.push_back(fill(*loader, step, 0, 10));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int64_t step = 0; step < 30; ++step) {
    for (const auto& result : results) EXPECT_TRUE(result[static_cast<size_t>(step)] == fill(*alone, step, 0, 10));
  }
}

TEST(Loader, RefusesWhatCannotWork) {
  const TemporaryDirectory directory;
  write_directory(directory / "d", {{100}});
  write_directory(directory / "other", {{100}}, 0, {.vocab_size = kVocab, .tokenizer_hash = 10});
  const LoaderOptions options = {.row_tokens = 8, .rows_per_step = 1};
  const auto message = [&](const std::vector<DataSource>& sources, const LoaderOptions& with) {
    return Loader::open(local_files(), sources, with).status().message();
  };
  EXPECT_THAT(message({}, options), HasSubstr("no data"));
  EXPECT_THAT(message({{directory / "d", 0.0}}, options), HasSubstr("weight"));
  EXPECT_THAT(message({{directory / "d", -1.0}}, options), HasSubstr("weight"));
  EXPECT_THAT(message({{directory / "d", std::nan("")}}, options), HasSubstr("weight"));
  EXPECT_THAT(message({{directory / "d"}}, {.row_tokens = 100, .rows_per_step = 1}), HasSubstr("needs 101"));
  EXPECT_EQ(message({{directory / "d"}}, {.row_tokens = 99, .rows_per_step = 1}), "");
  EXPECT_THAT(message({{directory / "d"}}, {.row_tokens = 0, .rows_per_step = 1}), HasSubstr("at least 1"));
  EXPECT_THAT(message({{directory / "d"}, {directory / "other"}}, options), HasSubstr("different tokenizers"));
}

TEST(Loader, DamageIsFoundWhenItIsRead) {
  const TemporaryDirectory directory;
  const ShardIdentity large = {.vocab_size = 1000000,
                               .tokenizer_hash = 9};  // the damage is not in the last block, which open() reads
  write_directory(directory / "d", {{600000}}, 0, large);
  const std::string path = directory / "d/train-0.tokens";
  std::string bytes = *read_file(local_files(), path);
  bytes[100] = static_cast<char>(bytes[100] ^ 1);
  ASSERT_TRUE(write_file_atomically(local_files(), path, bytes).ok());
  const auto loader =
      Loader::open(local_files(), {{directory / "d"}}, {.row_tokens = 8, .rows_per_step = 1, .shuffle = false});
  ASSERT_TRUE(loader.ok());
  Batch batch(8);
  const Status filled = loader->fill(0, 0, 1, batch.tokens, batch.targets, batch.starts);
  EXPECT_EQ(filled.code(), ErrorCode::kCorrupt);
  EXPECT_THAT(filled.message(), HasSubstr(path));
  // A shard that is whole but another one than the index lists.
  write_directory(directory / "e", {{500}}, 5, large);
  ASSERT_TRUE(
      write_file_atomically(local_files(), path, *read_file(local_files(), directory / "e/train-0.tokens")).ok());
  EXPECT_THAT(
      Loader::open(local_files(), {{directory / "d"}}, {.row_tokens = 8, .rows_per_step = 1}).status().message(),
      HasSubstr("index.json lists"));
}

}  // namespace
}  // namespace colossus
