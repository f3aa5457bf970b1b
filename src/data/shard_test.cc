#include "data/shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/shard_layout.h"
#include "data/shard_set.h"
#include "io/testing.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

constexpr ShardIdentity kNarrow = {.vocab_size = 50000, .tokenizer_hash = 42},
                        kWide = {.vocab_size = 100000, .tokenizer_hash = 43};

int32_t token_at(int64_t i, const ShardIdentity& identity) {
  return static_cast<int32_t>(i * 7919 % identity.vocab_size);
}

// Documents of 1, 2, 3, ... tokens.
uint64_t write_shard(const std::string& path, const ShardIdentity& identity, int64_t num_documents) {
  auto writer = ShardWriter::create(local_files(), path, identity);
  CHECK(writer.ok());
  int64_t next = 0;
  for (int64_t document = 1; document <= num_documents; ++document) {
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < document; ++i) tokens.push_back(token_at(next++, identity));
    CHECK(writer->append(tokens).ok());
    writer->end_document();
    writer->end_document();  // an empty one does not count
    writer->add_source_bytes(10);
  }
  return *writer->finish();
}

TEST(Shard, RoundTripInBothWidths) {
  const TemporaryDirectory directory;
  for (const ShardIdentity& identity : {kNarrow, kWide}) {
    const uint64_t contents = write_shard(directory / "s", identity, 2000);  // 2,001,000 tokens: several blocks
    const auto shard = Shard::open(local_files(), directory / "s");
    ASSERT_TRUE(shard.ok()) << shard.status().message();
    EXPECT_EQ(shard->identity(), identity);
    EXPECT_EQ(shard->counts(), (ShardCounts{.num_tokens = 2001000, .num_documents = 2000, .num_source_bytes = 20000}));
    EXPECT_EQ(shard->contents_checksum(), contents);
    EXPECT_TRUE(shard->verify().ok());
    for (const int64_t first : {0, 1, 524287, 1048570, 2000000}) {
      std::vector<int32_t> tokens(1000);
      ASSERT_TRUE(shard->read_tokens(first, tokens).ok());
      for (size_t i = 0; i < tokens.size(); ++i)
        ASSERT_EQ(tokens[i], token_at(first + static_cast<int64_t>(i), identity));
    }
    for (int64_t document = 0, first = 0; document < 2000; first += ++document) {
      EXPECT_EQ(*shard->document_of(first), document);
      EXPECT_EQ(*shard->document_of(first + document), document);  // its last token
    }
  }
}

TEST(Shard, RefusesTokensOutsideTheVocabulary) {
  const TemporaryDirectory directory;
  auto writer = ShardWriter::create(local_files(), directory / "s", kNarrow);
  ASSERT_TRUE(writer.ok());
  EXPECT_FALSE(writer->append(std::vector<int32_t>{50000}).ok());
  EXPECT_FALSE(writer->append(std::vector<int32_t>{-1}).ok());
}

TEST(Shard, BrokenFilesAreNamed) {
  const TemporaryDirectory directory;
  const std::string path = directory / "s";
  write_shard(path, kNarrow, 2000);
  const std::string good = *read_file(local_files(), path);
  const auto verdict = [&](std::string bytes) {
    CHECK(write_file_atomically(local_files(), path, bytes).ok());
    const auto shard = Shard::open(local_files(), path);
    return shard.ok() ? shard->verify() : shard.status();
  };
  const auto with_byte = [&](size_t at) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ 4);
    return bytes;
  };
  EXPECT_TRUE(verdict(good).ok());
  // Cut at every kind of place.
  for (const size_t size : {size_t{0}, size_t{10}, size_t{64}, size_t{127}, size_t{128}, size_t{1000000},
                            good.size() - 64, good.size() - 1}) {
    const Status cut = verdict(good.substr(0, size));
    ASSERT_FALSE(cut.ok()) << size;
    EXPECT_THAT(cut.message(), HasSubstr(path));
  }
  EXPECT_FALSE(verdict(good + "x").ok());
  EXPECT_FALSE(verdict("x" + good).ok());
  EXPECT_THAT(verdict(with_byte(0)).message(), HasSubstr("not a token shard"));
  EXPECT_THAT(verdict(with_byte(8)).message(), HasSubstr("version"));
  EXPECT_THAT(verdict(with_byte(16)).message(), HasSubstr("header was changed"));
  EXPECT_THAT(verdict(with_byte(63)).message(), HasSubstr("header was changed"));
  // One bit in the tokens, in the document ends, in the checksums, in every field of the footer.
  EXPECT_THAT(verdict(with_byte(64)).message(), HasSubstr("bytes 64 to 1048639"));
  EXPECT_THAT(verdict(with_byte(64 + (size_t{3} << 20))).message(), HasSubstr("were changed"));
  EXPECT_FALSE(verdict(with_byte(64 + 2 * 2001000 + 100)).ok());
  EXPECT_THAT(verdict(with_byte(good.size() - 65)).message(), HasSubstr("table of checksums"));
  for (size_t at = good.size() - 64; at < good.size(); ++at)
    EXPECT_FALSE(verdict(with_byte(at)).ok()) << at - good.size();
  EXPECT_EQ(verdict(with_byte(good.size() - 1)).code(), ErrorCode::kCorrupt);
}

// Right checksums around wrong contents: someone else's writer.
TEST(Shard, ContentsAreCheckedBeyondTheirChecksums) {
  const TemporaryDirectory directory;
  const std::string path = directory / "s";
  const auto forge = [&](uint64_t num_tokens, uint64_t num_documents, std::vector<uint16_t> tokens,
                         std::vector<uint32_t> ends) {
    shard_layout::Header header{};
    std::memcpy(header.magic, shard_layout::kMagic.data(), 8);
    header.version = 1;
    header.token_bytes = 2;
    header.vocab_size = 50000;
    header.block_bytes = kShardBlockBytes;
    header.checksum = checksum(std::as_bytes(std::span(&header, 1)).first(56));
    std::string payload(reinterpret_cast<const char*>(tokens.data()), tokens.size() * 2);
    payload.append(reinterpret_cast<const char*>(ends.data()), ends.size() * 4);
    const uint64_t sum = checksum(payload);
    shard_layout::Footer footer{};
    footer.num_tokens = num_tokens;
    footer.num_documents = num_documents;
    footer.header_checksum = header.checksum;
    footer.checksums_checksum = checksum(std::as_bytes(std::span(&sum, 1)));
    footer.checksum = checksum(std::as_bytes(std::span(&footer, 1)).first(48));
    std::memcpy(footer.magic, shard_layout::kEndMagic.data(), 8);
    std::string bytes(reinterpret_cast<const char*>(&header), 64);
    bytes += payload + std::string(reinterpret_cast<const char*>(&sum), 8) +
             std::string(reinterpret_cast<const char*>(&footer), 64);
    CHECK(write_file_atomically(local_files(), path, bytes).ok());
    const auto shard = Shard::open(local_files(), path);
    return shard.ok() ? shard->verify() : shard.status();
  };
  EXPECT_TRUE(forge(4, 2, {1, 2, 3, 4}, {1, 4}).ok());
  EXPECT_THAT(forge(4, 2, {1, 2, 50001, 4}, {1, 4}).message(), HasSubstr("50001"));
  EXPECT_FALSE(forge(4, 2, {1, 2, 3, 4}, {1, 3}).ok());     // tokens behind the last document
  EXPECT_FALSE(forge(4, 3, {1, 2, 3, 4}, {3, 1, 4}).ok());  // ends that fall
  EXPECT_FALSE(forge(4, 0, {1, 2, 3, 4}, {}).ok());
  EXPECT_FALSE(
      forge(uint64_t{1} << 62, 2, {1, 2, 3, 4}, {1, 4}).ok());  // counts no file has: no memory is taken for them
  EXPECT_FALSE(forge(4, uint64_t{1} << 62, {1, 2, 3, 4}, {1, 4}).ok());
}

TEST(ShardIndex, BrokenIndexesAreRefused) {
  const TemporaryDirectory directory;
  ShardIndex index = {
      .identity = kNarrow, .bos_token = {}, .eos_token = 7, .split_rule = "rule", .train = {}, .validation = {}};
  index.train.push_back({.file = "a.tokens",
                         .counts = {.num_tokens = 5, .num_documents = 1, .num_source_bytes = 9},
                         .contents_checksum = ~uint64_t{0}});
  ASSERT_TRUE(write_shard_index(local_files(), directory.path(), index).ok());
  const auto again = read_shard_index(local_files(), directory.path());
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(again->identity, kNarrow);
  EXPECT_EQ(again->eos_token, 7);
  EXPECT_EQ(again->train[0].contents_checksum, ~uint64_t{0});
  EXPECT_EQ(again->totals(kTrainSplit), index.train[0].counts);
  EXPECT_EQ(ShardSet::open(local_files(), directory.path(), kTrainSplit).status().code(), ErrorCode::kNotFound);
  EXPECT_EQ(ShardSet::open(local_files(), directory.path(), "test").status().code(), ErrorCode::kInvalid);

  const std::string good = *read_file(local_files(), directory / "index.json");
  const std::vector<std::pair<std::string, std::string>> breaks = {{"\"version\": 1", "\"version\": 2"},
                                                                   {"50000", "-1"},
                                                                   {"50000", "1e99"},
                                                                   {"\"eos_token\": 7", "\"eos_token\": 50000"},
                                                                   {"a.tokens", "../a.tokens"},
                                                                   {"ffffffffffffffff", "fffffffffffffffg"},
                                                                   {"\"num_tokens\": 5", "\"num_tokens\": 9999999999"},
                                                                   {"\"validation\": []", "\"validation\": {}"},
                                                                   {"colossus token shards", "others"}};
  for (const auto& [from, to] : breaks) {
    std::string broken = good;
    broken.replace(broken.find(from), from.size(), to);
    ASSERT_TRUE(write_file_atomically(local_files(), directory / "index.json", broken).ok());
    const auto refused = read_shard_index(local_files(), directory.path());
    ASSERT_FALSE(refused.ok()) << to;
    EXPECT_THAT(refused.status().message(), HasSubstr("index.json"));
  }
  ASSERT_TRUE(write_file_atomically(local_files(), directory / "index.json", good.substr(0, good.size() / 2)).ok());
  EXPECT_FALSE(read_shard_index(local_files(), directory.path()).ok());
  EXPECT_THAT(read_shard_index(local_files(), directory / "none").status().message(), HasSubstr("colossus data build"));
}

}  // namespace
}  // namespace colossus
