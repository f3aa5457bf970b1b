#include "data/build.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "io/faulty_files.h"
#include "io/testing.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kEos = 256;

// A token is a byte.
const TokenizeFunction kBytes = [](std::string_view text, std::vector<int32_t>& tokens) {
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return ok_status();
};

const auto go_on = [](const BuildProgress&) { return true; };

BuildOptions options_for(const TemporaryDirectory& directory) {
  BuildOptions options;
  options.inputs = {directory / "text"};
  options.out = directory / "shards";
  options.identity = {.vocab_size = 257, .tokenizer_hash = 1};
  options.eos_token = kEos;
  options.num_threads = 2;
  return options;
}

void write_text(const TemporaryDirectory& directory, const std::string& name, const std::string& text) {
  ASSERT_TRUE(local_files().make_directories(directory / "text").ok());
  ASSERT_TRUE(write_file_atomically(local_files(), directory / ("text/" + name), text).ok());
}

std::string all_tokens(const std::string& directory, const std::string& split) {
  const auto set = ShardSet::open(local_files(), directory, split);
  CHECK(set.ok());
  std::vector<int32_t> tokens(static_cast<size_t>(set->num_tokens()));
  CHECK(set->read_tokens(0, tokens).ok());
  std::string text;
  for (const int32_t token : tokens) text += token == kEos ? '\f' : static_cast<char>(token);
  return text;
}

std::string shakespeare(size_t lines) {
  std::string text;
  for (size_t i = 0; i < lines; ++i) text += "LINE " + std::to_string(i) + ": words, words, w\xC3\xB6rds\n";
  return text;
}

TEST(Build, OneFileHoldsOutItsLastTenth) {
  const TemporaryDirectory directory;
  const std::string text = shakespeare(1000);
  write_text(directory, "input.txt", text);
  const auto report = build_shards(local_files(), options_for(directory), kBytes, go_on);
  ASSERT_TRUE(report.ok()) << report.status().message();
  size_t cut = static_cast<size_t>(static_cast<double>(text.size()) * 0.9);
  while ((static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;
  EXPECT_EQ(all_tokens(directory / "shards", kTrainSplit), text.substr(0, cut));
  EXPECT_EQ(all_tokens(directory / "shards", kValidationSplit), text.substr(cut) + "\f");
  EXPECT_EQ(report->index.totals(kTrainSplit).num_source_bytes, static_cast<int64_t>(cut));
  EXPECT_EQ(report->index.totals(kValidationSplit).num_source_bytes, static_cast<int64_t>(text.size() - cut));
  EXPECT_EQ(report->index.totals(kValidationSplit).num_documents, 1);
}

TEST(Build, BeginAndEndTokensStandAroundWholeDocuments) {
  const TemporaryDirectory directory;
  write_text(directory, "a.txt", "0123456789");
  write_text(directory, "b.txt", "abcdefghij");
  BuildOptions options = options_for(directory);
  options.bos_token = '^';
  ASSERT_TRUE(build_shards(local_files(), options, kBytes, go_on).ok());
  EXPECT_EQ(all_tokens(options.out, kTrainSplit), "^012345678^abcdefghi");
  EXPECT_EQ(all_tokens(options.out, kValidationSplit), "9\fj\f");
  options.validation_fraction = 0.0;
  ASSERT_TRUE(build_shards(local_files(), options, kBytes, go_on).ok());
  EXPECT_EQ(all_tokens(options.out, kTrainSplit), "^0123456789\f^abcdefghij\f");
  EXPECT_EQ(read_shard_index(local_files(), options.out)->bos_token, '^');
}

TEST(Build, TheCutDoesNotDependOnThePieces) {
  const TemporaryDirectory directory;
  write_text(directory, "input.txt", shakespeare(1000));
  BuildOptions options = options_for(directory);
  ASSERT_TRUE(build_shards(local_files(), options, kBytes, go_on).ok());
  const std::string train = all_tokens(options.out, kTrainSplit),
                    validation = all_tokens(options.out, kValidationSplit);
  for (const size_t piece : {size_t{100}, size_t{777}, size_t{5000}}) {
    options.source.max_piece_bytes = piece;
    ASSERT_TRUE(build_shards(local_files(), options, kBytes, go_on).ok());
    EXPECT_EQ(all_tokens(options.out, kTrainSplit), train);
    EXPECT_EQ(all_tokens(options.out, kValidationSplit), validation);
  }
}

TEST(Build, ManyDocumentsAreHeldOutWholeAndNeverOnBothSides) {
  const TemporaryDirectory directory;
  std::string lines;
  for (int i = 0; i < 6000; ++i) lines += "{\"text\":\"document " + std::to_string(i % 3000) + ".\"}\n";  // each twice
  write_text(directory, "many.jsonl", lines);
  BuildOptions options = options_for(directory);
  options.validation_fraction = 0.1;
  const auto report = build_shards(local_files(), options, kBytes, go_on);
  ASSERT_TRUE(report.ok()) << report.status().message();
  const auto documents = [&](const char* split) {
    std::map<std::string, int> found;
    const std::string text = all_tokens(options.out, split);
    for (size_t at = 0; at < text.size();) {
      const size_t end = text.find('\f', at);
      ++found[text.substr(at, end - at)];
      at = end + 1;
    }
    return found;
  };
  const auto train = documents(kTrainSplit), validation = documents(kValidationSplit);
  EXPECT_EQ(train.size() + validation.size(), 3000u);
  EXPECT_NEAR(static_cast<double>(validation.size()), 300, 80);
  for (const auto& [text, count] : validation) {
    EXPECT_FALSE(train.contains(text)) << text;
    EXPECT_EQ(count, 2);
  }
  options.source.dedupe = true;
  const auto deduped = build_shards(local_files(), options, kBytes, go_on);
  ASSERT_TRUE(deduped.ok());
  EXPECT_EQ(deduped->counts.num_documents, 3000);
  EXPECT_EQ(deduped->counts.num_duplicates, 3000);
}

TEST(Build, SameBitsForAnyNumberOfThreads) {
  const TemporaryDirectory directory;
  for (int i = 0; i < 30; ++i)
    write_text(directory, std::to_string(i) + ".txt", shakespeare(static_cast<size_t>(i * i * 30)));
  BuildOptions options = options_for(directory);
  options.shard_tokens = 700000;
  std::set<std::string> indexes;
  for (const int threads : {1, 2, 5}) {
    options.num_threads = threads;
    const auto report = build_shards(local_files(), options, kBytes, go_on);
    ASSERT_TRUE(report.ok());
    EXPECT_GT(report->index.train.size(), 3u);
    indexes.insert(*read_file(local_files(), options.out + "/index.json"));
  }
  EXPECT_EQ(indexes.size(), 1u);  // the shards' checksums are in there
}

TEST(Build, ErrorsOfTheTokenizerAndBadOptionsStopIt) {
  const TemporaryDirectory directory;
  write_text(directory, "a.txt", "hello");
  BuildOptions options = options_for(directory);
  const TokenizeFunction failing = [](std::string_view, std::vector<int32_t>&) { return invalid("no such symbol"); };
  EXPECT_THAT(build_shards(local_files(), options, failing, go_on).status().message(), HasSubstr("no such symbol"));
  const TokenizeFunction outside = [](std::string_view, std::vector<int32_t>& tokens) {
    return tokens.push_back(257), ok_status();
  };
  EXPECT_THAT(build_shards(local_files(), options, outside, go_on).status().message(), HasSubstr("257"));
  EXPECT_EQ(build_shards(local_files(), options, kBytes, [](const BuildProgress&) { return false; }).status().code(),
            ErrorCode::kInterrupted);
  EXPECT_TRUE(local_files().list(options.out)->empty());
  options.validation_fraction = 1.0;
  EXPECT_FALSE(build_shards(local_files(), options, kBytes, go_on).ok());
  options = options_for(directory);
  options.eos_token = 257;
  EXPECT_FALSE(build_shards(local_files(), options, kBytes, go_on).ok());
  options = options_for(directory);
  write_text(directory, "a.txt", "");
  EXPECT_THAT(build_shards(local_files(), options, kBytes, go_on).status().message(), HasSubstr("no text"));
}

// A disk that fills up, fails or a process that dies, at every single operation: the directory holds the old shards or
// the new ones, readable; and after an error that leaves the process alive, no litter.
TEST(Build, FaultsAtEveryOperationLeaveOldOrNew) {
  const TemporaryDirectory directory;
  BuildOptions options = options_for(directory);
  options.num_threads = 1;
  options.shard_tokens = 3000;
  write_text(directory, "input.txt", shakespeare(300));
  FaultyFiles files(local_files());
  ASSERT_TRUE(build_shards(files, options, kBytes, go_on).ok());
  const int64_t operations = files.operations();
  const std::string new_tokens = all_tokens(options.out, kTrainSplit);
  EXPECT_GT(operations, 20);
  for (const Fault fault : {Fault::kError, Fault::kDiskFull, Fault::kShortWrite, Fault::kKilled}) {
    for (int64_t k = 0; k < operations; ++k) {
      ASSERT_TRUE(local_files().remove_all(options.out).ok());
      write_text(directory, "input.txt", "the old text, which is short\n");
      ASSERT_TRUE(build_shards(local_files(), options, kBytes, go_on).ok());
      const std::string old_tokens = all_tokens(options.out, kTrainSplit);
      write_text(directory, "input.txt", shakespeare(300));
      files.arm(k, fault);
      const auto report = build_shards(files, options, kBytes, go_on);
      const std::string found = all_tokens(options.out, kTrainSplit);
      ASSERT_TRUE(found == old_tokens || found == new_tokens) << "operation " << k;
      EXPECT_TRUE(!report.ok() || found == new_tokens);
      const auto index = read_shard_index(local_files(), options.out);
      if (fault == Fault::kDiskFull || fault == Fault::kShortWrite) {
        EXPECT_EQ(local_files().list(options.out)->size(), index->train.size() + index->validation.size() + 1)
            << "operation " << k;
      }
    }
  }
  // After a kill the next build cleans up.
  ASSERT_TRUE(build_shards(local_files(), options, kBytes, go_on).ok());
  const auto index = read_shard_index(local_files(), options.out);
  EXPECT_EQ(local_files().list(options.out)->size(), index->train.size() + index->validation.size() + 1);
}

}  // namespace
}  // namespace colossus
