#include "data/document_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>

#include "base/platform.h"
#include "io/testing.h"
#include "io/testing_compression.h"

namespace colossus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Documents : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& bytes) {
    const std::string path = directory_ / name;
    ASSERT_TRUE(local_files().make_directories(path.substr(0, path.rfind('/'))).ok());
    ASSERT_TRUE(write_file_atomically(local_files(), path, bytes).ok());
  }
  // The texts, pieces of one document joined; the status is the last one.
  std::vector<std::string> read(const std::vector<std::string>& names, const SourceOptions& options = {}) {
    std::vector<std::string> inputs, texts;
    for (const std::string& name : names) inputs.push_back(directory_ / name);
    auto reader = DocumentReader::open(local_files(), inputs, options);
    status_ = reader.status();
    if (!reader.ok()) return {};
    Document document;
    for (num_pieces_ = 0;; ++num_pieces_) {
      const auto more = reader->next(document);
      status_ = more.status();
      if (!more.ok() || !*more) break;
      if (document.starts) texts.emplace_back();
      texts.back() += document.text;
      EXPECT_LE(document.text.size(), std::max<size_t>(options.max_piece_bytes, 1000000));
    }
    counts_ = reader->counts();
    EXPECT_TRUE(!status_.ok() || counts_.consumed_bytes == counts_.total_bytes);
    return texts;
  }

  const TemporaryDirectory directory_;
  Status status_;
  SourceCounts counts_;
  int64_t num_pieces_ = 0;
};

TEST_F(Documents, EveryFormatAndCompression) {
  write("a.txt", "plain\n");
  write("b.md.gz", gzip("# markdown\n"));
  write("c.jsonl.zst", zstd("{\"text\":\"one\"}\n\n{\"id\":3,\"text\":\"t\\u00e9l\"}"));
  write("d.1.gz", gzip(".TH D 1\n.SH NAME\nd \\- a page\n"));
  write("e.1", "not a page\n");
  write("f.misnamed", gzip("found by its bytes"));
  EXPECT_THAT(read({"."}), ElementsAre("plain\n", "# markdown\n", "one", "tél", "D(1)\n\nNAME\nd - a page\n",
                                       "not a page\n", "found by its bytes"));
  EXPECT_TRUE(status_.ok()) << status_.message();
  EXPECT_EQ(counts_.num_documents, 7);
}

TEST_F(Documents, DirectoriesPatternsAndLinks) {
  write("t/a.txt", "a");
  write("t/sub/b.txt", "b");
  write("t/sub/deep/c.txt", "c");
  write("t/sub/deep/c.md", "m");
  write("t/.hidden/d.txt", "d");
  std::filesystem::create_directory_symlink(".", directory_ / "t/circle");
  std::filesystem::create_symlink("nowhere", directory_ / "t/dangling");
  EXPECT_THAT(read({"t"}), ElementsAre("a", "b", "m", "c"));
  EXPECT_THAT(read({"t/**/*.txt"}), ElementsAre("a", "b", "c"));
  EXPECT_THAT(read({"t/*/*.txt"}), ElementsAre("a", "b"));  // the circle, when it is asked for: one round
  EXPECT_THAT(read({"t/sub/**"}), ElementsAre("b", "m", "c"));
  EXPECT_THAT(read({"t/sub/b.txt", "t/sub", "t/[a-b].*"}), ElementsAre("b", "m", "c", "a"));
  EXPECT_TRUE(read({"t/*.nothing"}).empty());
  EXPECT_EQ(status_.code(), ErrorCode::kNotFound);
  EXPECT_TRUE(read({"missing.txt"}).empty());
  EXPECT_EQ(status_.code(), ErrorCode::kNotFound);
}

TEST(Patterns, MatchLikeAShell) {
  EXPECT_TRUE(matches_pattern("abc.txt", "*.txt"));
  EXPECT_TRUE(matches_pattern("abc", "a?c"));
  EXPECT_TRUE(matches_pattern("x]", "x[]]"));
  EXPECT_TRUE(matches_pattern("b", "[!a]"));
  EXPECT_FALSE(matches_pattern("a", "[!a]"));
  EXPECT_FALSE(matches_pattern(".hidden", "*"));
  EXPECT_TRUE(matches_pattern(".hidden", ".*"));
  EXPECT_TRUE(matches_pattern("a[b", "a[b"));
  EXPECT_FALSE(matches_pattern(std::string(5000, 'a'), "*a*a*a*a*a*a*a*a*a*b"));  // not exponential
}

TEST_F(Documents, BadJsonLinesNameFileAndLine) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{\"text\":\"a\"}\n{\"text\":", "not JSON"},
      {"{\"text\":\"a\"}\n[1]", "not a JSON object"},
      {"{\"text\":\"a\"}\n{\"body\":\"b\"}", "no field \"text\"; it has: body"},
      {"{\"text\":\"a\"}\n{\"text\":3}", "no text but number"},
      {"{\"text\":\"a\"}\n{\"text\":\"\xff\"}", "not JSON"}};
  for (const auto& [bytes, message] : cases) {
    write("x.jsonl", bytes);
    EXPECT_EQ(read({"x.jsonl"}).size(), 1u);
    EXPECT_THAT(status_.message(), ::testing::AllOf(HasSubstr("x.jsonl:2"), HasSubstr(message)));
  }
  write("y.jsonl", "{\"body\":\"b\"}\n");
  EXPECT_THAT(read({"y.jsonl"}, {.json_field = "body"}), ElementsAre("b"));
}

TEST_F(Documents, BinaryFilesAreLeftOutAndNamed) {
  write("a.bin", std::string("text\0more", 9));
  write("b.bin", std::string(1000, '\x80'));
  write("c.txt", "caf\xe9 in Latin-1 is text\n");
  write("d.txt", "");
  EXPECT_EQ(read({"."}).size(), 1u);
  EXPECT_EQ(counts_.num_binary_files, 2);
  EXPECT_EQ(counts_.num_empty, 1);
  EXPECT_THAT(counts_.binary_files, ElementsAre(HasSubstr("a.bin"), HasSubstr("b.bin")));
}

TEST_F(Documents, LongFilesComeInPiecesCutAtLines) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += "zeile " + std::to_string(i) + " äöü\n";
  write("long.txt", text);
  write("oneline.txt.gz", gzip([] {
          std::string line;
          for (int i = 0; i < 4000; ++i) line += "ä€😀";
          return line;
        }()));
  for (const size_t piece : {size_t{1000}, size_t{4096}, size_t{100000}}) {
    const auto texts = read({"long.txt", "oneline.txt.gz"}, {.max_piece_bytes = piece});
    ASSERT_EQ(texts.size(), 2u);
    EXPECT_EQ(texts[0], text);
    EXPECT_EQ(texts[1].size(), 9u * 4000);
  }
  auto reader = DocumentReader::open(local_files(), {directory_ / "."}, {.max_piece_bytes = 1000});
  Document document;
  while (*reader->next(document)) {
    EXPECT_LE(document.text.size(), 1000u);
    EXPECT_NE(static_cast<unsigned char>(document.text[0]) & 0xC0, 0x80);  // no character is cut
    EXPECT_TRUE(document.ends || !document.place.ends_with("long.txt") || document.text.back() == '\n');
  }
}

TEST_F(Documents, DuplicatesAreLeftOut) {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += std::to_string(i) + "\n";
  write("a.txt", text);
  write("b.txt.gz", gzip(text));
  write("c.txt", text.substr(0, text.size() - 2) + "x\n");  // differs in the last piece only
  write("d.jsonl", "{\"text\":\"same\"}\n{\"text\":\"same\"}\n");
  write("e.txt", "same");
  EXPECT_EQ(read({"."}, {.max_piece_bytes = 1000}).size(), 6u);
  EXPECT_EQ(read({"."}, {.dedupe = true, .max_piece_bytes = 1000}).size(), 3u);
  EXPECT_EQ(counts_.num_duplicates, 3);
}

TEST_F(Documents, CutFilesAreErrorsThatNameThem) {
  const std::string good = gzip(std::string(100000, 'x') + "\n");
  write("cut.txt.gz", good.substr(0, good.size() / 2));
  read({"cut.txt.gz"});
  EXPECT_EQ(status_.code(), ErrorCode::kCorrupt);
  EXPECT_THAT(status_.message(), HasSubstr("cut.txt.gz"));
}

// 192 MiB of text behind gzip: memory stays near the size of a piece.
TEST_F(Documents, MemoryDoesNotGrowWithTheFile) {
  const std::string member = gzip([] {
    std::string block;
    for (int line = 0; block.size() < (size_t{1} << 20); ++line)
      block += "line " + std::to_string(line * 7919) + " of those that compress well\n";
    return block;
  }());
  std::string large;
  for (int i = 0; i < 192; ++i) large += member;
  write("large.txt.gz", large);
  const int64_t before = peak_resident_bytes();
  auto reader = DocumentReader::open(local_files(), {directory_ / "large.txt.gz"}, {});
  Document document;
  int64_t bytes = 0;
  while (*reader->next(document)) bytes += static_cast<int64_t>(document.text.size());
  EXPECT_GE(bytes, int64_t{192} << 20);
  EXPECT_LE(peak_resident_bytes() - before, int64_t{48} << 20);
}

}  // namespace
}  // namespace colossus
