// Files that were made to take a reader's memory, its stack or its time: one test for each hole that readers of these
// formats have had, at a size at which falling into it ends the test (by its memory, its stack, or its time limit).
// What small inputs can show is in the corpus (corpus/<target>/bad-*), and beside the readers.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

#include "base/base64.h"
#include "checkpoint/manifest.h"
#include "comm/etcd_messages.h"
#include "io/checked_json.h"
#include "convert/hf_config.h"
#include "convert/llama2c.h"
#include "convert/tensor_files.h"
#include "convert/vocab_merges.h"
#include "data/document_reader.h"
#include "data/shard_set.h"
#include "fuzz/fuzz.h"
#include "fuzz/memory_files.h"
#include "io/checksum.h"
#include "io/config.h"
#include "io/csv.h"
#include "io/s3/xml.h"
#include "io/testing.h"
#include "io/testing_compression.h"
#include "node_check/fleet.h"
#include "node_check/kernel_log.h"
#include "node_check/nvidia_smi.h"
#include "text/regex.h"
#include "text/sentencepiece.h"
#include "text/tiktoken.h"
#include "train/recovery/run_records.h"
#include "train/run_config.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr size_t kMega = size_t{1} << 20;

std::string times(size_t count, std::string_view text) {
  std::string all;
  all.reserve(count * text.size());
  for (size_t i = 0; i < count; ++i) all += text;
  return all;
}

// A million levels of lists.
std::string deep(const std::string& before, const std::string& behind) {
  return before + std::string(kMega, '[') + std::string(kMega, ']') + behind;
}

// Refused, with these words, and without taking more memory than twice the text.
template <class Read>
void expect_refused(const std::string& text, const std::string& words, const Read& read) {
  const HeapLimit limit(text.size());
  const Status status = internal::to_status(read(text));
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.message(), HasSubstr(words));
}

TEST(HostileTokenizerJson, AMillionDeep) {
  expect_refused(deep(R"({"model":)", "}"), "deep", [](const auto& text) { return Tokenizer::from_json(text); });
}

TEST(HostileTokenizerJson, HugeListsOfNothing) {
  expect_refused(R"({"added_tokens":[)" + times(kMega / 4, "[],") + "[]]}", "$",
                 [](const auto& text) { return Tokenizer::from_json(text); });
}

TEST(HostileRegex, ExpressionsThatRunAwayEnd) {
  const std::string text(kMega / 16, 'a');
  for (const char* pattern :
       {"(?:a|aa)+b", "(?:a+)+b", "(?:(?:a|a)+)+b", "(?:a?a?a?a?a?a?a?a?a)+b", "(?=(?:a|aa)+b)a"}) {
    const auto regex = Regex::compile(pattern);
    if (!regex.ok()) continue;  // one that may be refused instead
    const Status found = regex->for_each_match(text, [](size_t, size_t) { ADD_FAILURE() << "there is no b"; });
    EXPECT_FALSE(found.ok()) << pattern;
  }
}

TEST(HostileRegex, AMillionGroups) {
  for (const char* open : {"(", "(?:", "[", "(?=", "(?>"}) {
    const std::string pattern = times(kMega, open);
    const HeapLimit limit(pattern.size());
    EXPECT_FALSE(Regex::compile(pattern).ok()) << open;
  }
}

TEST(HostileTiktoken, RanksBeyondAnyFile) {
  for (const char* rank : {"2147483648", "4294967295", "4294967296", "99999999999999999999"})
    expect_refused(std::string("IQ== 0\nIg== ") + rank + "\n", "line 2",
                   [](const auto& text) { return tokenizer_from_tiktoken(text, SplitPattern::kNone, {}); });
}

TEST(HostileTiktoken, ATokenOfAMegabyte) {
  const std::string ranks = "YQ== 0\nYWE= 1\n" + encode_base64(std::string(kMega, 'a')) + " 2\n";
  expect_refused(ranks, "rank 2",
                 [](const auto& text) { return tokenizer_from_tiktoken(text, SplitPattern::kNone, {}); });
}

// Fields of sentencepiece_model.proto.
std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
std::string field(uint64_t number, const std::string& bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + bytes;
}
std::string piece(const std::string& text, int type) {
  return field(1, field(1, text) + varint(3 << 3) + varint(static_cast<uint64_t>(type)));
}

TEST(HostileSentencePiece, LengthsBeyondTheFile) {
  for (const uint64_t length : {uint64_t{1} << 31, uint64_t{1} << 32, ~uint64_t{0}, ~uint64_t{0} - 8})
    expect_refused(varint(1 << 3 | 2) + varint(length) + "abc", "longer",
                   [](const auto& text) { return read_sentencepiece(text); });
}

TEST(HostileSentencePiece, APieceOfAMegabyte) {
  const std::string trainer = field(2, varint(3 << 3) + varint(2));
  const std::string model =
      piece("<unk>", 2) + piece("a", 1) + piece("aa", 1) + piece(std::string(kMega, 'a'), 1) + trainer;
  const HeapLimit limit(model.size());
  EXPECT_FALSE(tokenizer_from_sentencepiece(model).ok());
}

TEST(HostileSafetensors, AHeaderThatIsNotThere) {
  for (const uint64_t length : {uint64_t{99'999'999}, uint64_t{100'000'001}, uint64_t{1} << 63, ~uint64_t{0}}) {
    std::string file(8, '\0');
    std::memcpy(file.data(), &length, 8);
    expect_refused(file + "{}", "header", [](const auto& text) {
      MemoryFiles files;
      files.put("a", text);
      return SafetensorsFile::open(files, "a");
    });
  }
}

TEST(HostileSafetensors, AListOfAMillionSizes) {
  const std::string json = R"({"a":{"dtype":"F32","shape":[)" + times(kMega, "1,") + R"(1],"data_offsets":[0,4]}})";
  std::string file(8, '\0');
  const uint64_t length = json.size();
  std::memcpy(file.data(), &length, 8);
  expect_refused(file + json + "1234", "more than 64 numbers", [](const auto& text) {
    MemoryFiles files;
    files.put("a", text);
    return SafetensorsFile::open(files, "a");
  });
}

// The hub's own cache is made of links, so links are followed; an index cannot make any.
TEST(HostileTensorIndex, LinksOfTheHubsCacheAreFollowed) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(local_files().make_directories(directory / "blobs").ok());
  ASSERT_TRUE(local_files().make_directories(directory / "snapshot").ok());
  auto writer = SafetensorsWriter::create(local_files(), directory / "blobs/0123", {{"a", "F32", {0}}});
  ASSERT_TRUE(writer.ok() && writer->finish().ok());
  ASSERT_EQ(::symlink("../blobs/0123", (directory / "snapshot/model.safetensors").c_str()), 0);
  const auto opened = open_tensor_files(local_files(), directory / "snapshot");
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  EXPECT_THAT(opened->tensors, SizeIs(1));
}

TEST(HostileHfConfig, AMillionDeep) {
  expect_refused(deep(R"({"model_type":"llama","rope_scaling":)", "}"), "128",
                 [](const auto& text) { return parse_checked_json(text, "config.json"); });
}

std::string llama2c_pieces(const std::vector<std::string>& pieces) {
  std::string bytes(4, '\0');
  for (const std::string& text : pieces) {
    const float score = 0;
    const auto length = static_cast<int32_t>(text.size());
    bytes.append(reinterpret_cast<const char*>(&score), 4).append(reinterpret_cast<const char*>(&length), 4) += text;
  }
  return bytes;
}

TEST(HostileLlama2c, APieceOfAMegabyte) {
  expect_refused(llama2c_pieces({"<unk>", "<s>", "</s>", std::string(kMega, 'a')}), "piece 3", [](const auto& text) {
    MemoryFiles files;
    files.put("a", text);
    return llama2c_tokenizer_json(files, "a", 4);
  });
}

TEST(HostileLlama2c, AHundredThousandPieces) {
  std::vector<std::string> pieces = {"<unk>", "<s>", "</s>"};
  for (int byte = 0; byte < 256; ++byte) pieces.push_back(fmt::format("<0x{:02X}>", byte));
  for (const char letter : std::string_view("piec0123456789")) pieces.emplace_back(1, letter);
  for (int i = 0; i < 100'000; ++i) pieces.push_back("piece" + std::to_string(i));
  MemoryFiles files;
  files.put("a", llama2c_pieces(pieces));
  const auto json = llama2c_tokenizer_json(files, "a", static_cast<int64_t>(pieces.size()));
  EXPECT_TRUE(json.ok()) << json.status().message();
}

TEST(HostileVocabMerges, AHundredThousandTokens) {
  std::string vocab = R"({"a":0)";
  for (int i = 1; i < 100'000; ++i) vocab += ",\"token" + std::to_string(i) + "\":" + std::to_string(i);
  MemoryFiles files;
  files.put("in/vocab.json", vocab + "}");
  files.put("in/merges.txt", "");
  EXPECT_TRUE(tokenizer_of_vocab_and_merges(files, "in", "gpt-2").ok());
}

Status read_index(const std::string& text) {
  MemoryFiles files;
  files.put("in/index.json", text);
  return read_shard_index(files, "in").status();
}

TEST(HostileShardIndex, AMillionDeep) { expect_refused(deep(R"({"format":)", "}"), "deep", read_index); }

TEST(HostileShardIndex, AHundredThousandKeys) {
  std::string text = "{\"a\":0";
  for (int i = 0; i < 100'000; ++i) text += ",\"key" + std::to_string(i) + "\":0";
  expect_refused(text + "}", "not an index", read_index);
}

TEST(HostileManifest, AMillionDeep) {
  const std::string body = deep(R"({"format":"colossus-checkpoint","version":)", "}");
  expect_refused(body + fmt::format("{:016x}\n", checksum(body)), "deep", parse_manifest);
}

TEST(HostileDocuments, ALineAMillionDeep) {
  expect_refused(deep(R"({"text":)", "}\n"), "a.jsonl:1", [](const auto& text) {
    MemoryFiles files;
    files.put("a.jsonl", text);
    auto reader = DocumentReader::open(files, {"a.jsonl"}, {});
    Document document;
    return reader->next(document);
  });
}

// 4 kB that say they are 128 MiB: each block is one byte and how often it comes.
std::string zstd_bomb() {
  std::string bomb("\x28\xb5\x2f\xfd\x00\x38", 6);
  for (int block = 0; block < 1024; ++block) {
    const uint32_t head = (block == 1023 ? 1 : 0) | 1 << 1 | (1 << 17) << 3;
    bomb.append(reinterpret_cast<const char*>(&head), 3) += 'a';
  }
  return bomb;
}

Status read_to_the_end(const std::string& name, const std::string& bytes) {
  MemoryFiles files;
  files.put(name, bytes);
  auto reader = DocumentReader::open(files, {name}, {});
  Document document;
  while (true) {
    const auto more = reader->next(document);
    if (!more.ok() || !*more) return more.status();
  }
}

TEST(HostileDocuments, BombsOfZstdAndGzipStop) {
  for (const std::string& bomb : {zstd_bomb(), gzip(std::string(100 * kMega, 'a'))}) {
    ASSERT_LT(bomb.size(), 200'000u);
    const HeapLimit limit(bomb.size());
    const Status status = read_to_the_end("a.txt", bomb);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.code(), ErrorCode::kExhausted);
    EXPECT_THAT(status.message(), HasSubstr("100 times"));
  }
  // What is only repetitive is read.
  EXPECT_TRUE(read_to_the_end("a.txt", gzip(std::string(60 * kMega, 'a'))).ok());
}

TEST(HostileEtcd, AMillionDeep) {
  const std::string body = deep(R"({"header":{},"kvs":)", "}");
  expect_refused(body, "etcd", [](const auto& text) { return parse_etcd_range(text, "a"); });
  const HeapLimit limit(body.size());
  EXPECT_FALSE(etcd_error(500, body).ok());
}

TEST(HostileXml, MegabytesOfTagsAndEntitiesWithoutEnd) {
  EXPECT_THAT(xml_elements(times(4 * kMega, "<Keys"), "Key"), SizeIs(0));
  EXPECT_THAT(xml_elements(times(4 * kMega, "<Key "), "Key"), SizeIs(0));
  const std::string ampersands(32 * kMega, '&');
  EXPECT_EQ(xml_decode(ampersands), ampersands);
}

TEST(HostileCsv, HalfAMillionColumns) {
  std::string header = "a";
  for (int i = 0; i < 500'000; ++i) header += "," + std::to_string(i);
  const HeapLimit limit(header.size());
  EXPECT_TRUE(CsvTable::parse(header + "\n", "a.csv").ok());
}

TEST(HostileToml, KeysThatNest) {
  for (const std::string& text : {times(100'000, "a.") + "a = 1\n", "[" + times(100'000, "a.") + "a]\n",
                                  "a = " + std::string(100'000, '['), "a = " + times(100'000, "{a = ")}) {
    const HeapLimit limit(text.size());
    EXPECT_FALSE(parse_toml(text, "a.toml").ok());
  }
}

TEST(HostileToml, KeysThatNobodyKnows) {
  std::string many;
  for (int i = 0; i < 20'000; ++i) many += "unknown_key_" + std::to_string(i) + " = 1\n";
  EXPECT_FALSE(parse_config<RunConfig>(many, "a.toml").ok());
  EXPECT_FALSE(parse_config<RunConfig>(std::string(4 * kMega, 'a') + " = 1\n", "a.toml").ok());
}

TEST(HostileNvidiaSmi, SectionsWithLongNames) {
  const std::string text = "GPU 0\n    " + std::string(kMega / 2, 'a') + "\n" + times(kMega / 24, "        b : 1\n");
  expect_refused(text, "too long", parse_smi_query);
}

TEST(HostileKernelLog, AHundredThousandKindsOfTrouble) {
  std::string log;
  for (int i = 0; i < 300'000; ++i) log += "NVRM: Xid (P" + std::to_string(i) + "): 79, x\n";
  EXPECT_THAT(scan_kernel_log(log, {}), SizeIs(1000));
}

TEST(HostileHostList, NamesThatMultiply) {
  const HeapLimit limit(kMega);
  EXPECT_FALSE(expand_host_list(std::string(kMega, 'a') + "[0-99998]").ok());
  EXPECT_FALSE(expand_host_list("a[0-99998]" + std::string(kMega, 'a')).ok());
}

TEST(HostileRunRecords, ABillionRanks) {
  expect_refused(
      "generation 1 0\nphase running x\nshape 1000000000 1000000000 1 0\nmesh 1 1\nslots 0\nmachine 0 0 i a\n"
      "processes 0 1000000000 1\nprogress 0 0\n",
      "more ranks", parse_assignment);
}

}  // namespace
}  // namespace colossus
