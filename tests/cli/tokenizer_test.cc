// `colossus tokenizer convert` and `evaluate` on every kind of file, and on what is none.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/base64.h"
#include "place.h"
#include "small_run.h"
#include "text/sentencepiece.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr int kWrong = 2, kMissing = 3, kExhausted = 4, kCorrupt = 5;

// As many ranks as GPT-2's: all bytes, then pairs of them.
int pair_rank(int first, int second) { return 256 + 200 * first + second; }
std::string gpt2_sized_ranks() {
  std::string out;
  const auto add = [&](const std::string& bytes, int rank) {
    out += encode_base64(bytes) + " " + std::to_string(rank) + "\n";
  };
  for (int byte = 0; byte < 256; ++byte) add(std::string(1, static_cast<char>(byte)), byte);
  for (int first = 0; first < 250; ++first) {
    for (int second = 0; second < 200; ++second) {
      add({static_cast<char>(first), static_cast<char>(second)}, pair_rank(first, second));
    }
  }
  return out;
}

std::string small_sentencepiece(SentencePieceModel::Type type) {
  SentencePieceModel model;
  model.type = static_cast<uint64_t>(type);
  model.pieces = {
      {"<unk>", 0, PieceType::kUnknown}, {"<s>", 0, PieceType::kControl}, {"[INST]", 0, PieceType::kUserDefined}};
  const auto add = [&](std::string text) {
    model.pieces.push_back({std::move(text), -static_cast<float>(model.pieces.size()) / 7, PieceType::kNormal});
  };
  for (const char* piece : {"th", "the", "\u2581th", "\u2581the", "\u2581s", "ea", "\u2581sea", "\u2581"}) add(piece);
  for (char letter = 'a'; letter <= 'z'; ++letter) add(std::string(1, letter));
  return write_sentencepiece(model);
}

// Files of all kinds.
class Tokenizers : public Place {
 public:
  Tokenizers() {
    write("text.txt", small_text(200));
    must_succeed({"tokenizer", "train", "--vocab", "300", "--out", "bytes.json", "text.txt"});
    must_succeed({"tokenizer", "train", "--kind", "char", "--out", "characters.json", "text.txt"});
    write("ranks.tiktoken", gpt2_sized_ranks());
    write("bpe.model", small_sentencepiece(SentencePieceModel::Type::kBpe));
    write("unigram.model", small_sentencepiece(SentencePieceModel::Type::kUnigram));
  }
  std::string ids(const std::string& tokenizer, const std::string& text) const {
    return must_succeed({"tokenizer", "encode", tokenizer}, text).out;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const FileEntry& entry : local_files().list(directory()).value()) {
      if (!entry.name.starts_with('.')) names.push_back(entry.name);
    }
    return names;
  }
};

TEST(TokenizerConvert, EveryKindBecomesATokenizerJsonOfTheSameIds) {
  const Tokenizers place;
  const struct {
    std::string from;
    std::string said;  // on stderr
  } kCases[] = {{"bytes.json", ""},
                {"characters.json", ""},
                {"ranks.tiktoken", ""},
                {"bpe.model", "user-defined pieces are added tokens now"},
                {"unigram.model", "scores are added as doubles"}};
  for (const auto& [from, said] : kCases) {
    SCOPED_TRACE(from);
    const Outcome outcome = place.must_succeed({"tokenizer", "convert", from, "to.json"});
    EXPECT_THAT(outcome.out, AllOf(StartsWith("to.json: "), HasSubstr(" tokens\n")));
    EXPECT_THAT(outcome.err, said.empty() ? testing::Eq("") : testing::Matcher<std::string>(HasSubstr(said)));
    EXPECT_THAT(place.read("to.json"), Not(HasSubstr("SentencePiece")));
    for (const std::string text : {"the sea saw the ship", "a", "  the  sea  "}) {
      const std::string wanted = place.ids(from, text);
      EXPECT_EQ(place.ids("to.json", text), wanted) << text;
      EXPECT_NE(wanted, "");
    }
  }
  EXPECT_EQ(place.ids("ranks.tiktoken", "ab c"),
            std::to_string(pair_rank('a', 'b')) + " " + std::to_string(pair_rank(' ', 'c')) + "\n");
}

TEST(TokenizerConvert, RanksComeBackAsTheyWere) {
  const Tokenizers place;
  place.must_succeed({"tokenizer", "convert", "ranks.tiktoken", "there.json"});
  EXPECT_EQ(place.must_succeed({"tokenizer", "convert", "there.json", "back.tiktoken"}).out,
            "back.tiktoken: 50257 tokens\n");
  EXPECT_EQ(place.read("back.tiktoken"), place.read("ranks.tiktoken"));
  // The name decides only where nothing else does.
  place.must_succeed({"tokenizer", "convert", "there.json", "back.txt", "--as", "tiktoken"});
  EXPECT_EQ(place.read("back.txt"), place.read("ranks.tiktoken"));
  place.must_succeed({"tokenizer", "convert", "ranks.tiktoken", "again.tiktoken", "--as", "json"});
  EXPECT_EQ(place.read("again.tiktoken"), place.read("there.json"));
}

TEST(TokenizerConvert, ExactKeepsASentencePieceModelWhole) {
  const Tokenizers place;
  EXPECT_EQ(place.must_succeed({"tokenizer", "convert", "unigram.model", "exact.json", "--exact"}).err, "");
  EXPECT_THAT(place.read("exact.json"), HasSubstr("\"SentencePiece\""));
  EXPECT_EQ(place.ids("exact.json", "the sea"), place.ids("unigram.model", "the sea"));
}

TEST(TokenizerConvert, WhatIsNoTokenizerIsRefusedAndNothingIsWritten) {
  const Tokenizers place;
  const std::string model = place.read("bpe.model");
  place.write("cut.model", model.substr(0, model.size() / 2));
  place.write("words.model", small_sentencepiece(SentencePieceModel::Type::kWord));
  place.write("few.tiktoken", "YQ== 0\nYg== 1\n");
  place.write("twice.tiktoken", "YQ== 0\nYg== 0\n");
  place.write("no_base64.tiktoken", "YQ== 0\n?? 1\n");
  place.write("cut.json", place.read("bytes.json").substr(0, 2000));
  place.write("text.json", "hello");
  place.write("empty.json", "");
  place.write("weights.gguf", std::string("GGUF\x03\0\0\0", 8));
  const struct {
    std::vector<std::string> words;  // behind "tokenizer convert"
    int exit_code;
    std::vector<std::string> said;
  } kCases[] = {
      {{"absent.json", "out.json"}, kMissing, {"absent.json"}},
      {{"cut.model", "out.json"}, kCorrupt, {"cut.model", "longer than what holds it"}},
      {{"words.model", "out.json"},
       kWrong,
       {"words.model", "the model's type is 3; supported are 1 (unigram) and 2 (bpe)"}},
      {{"few.tiktoken", "out.json"},
       kWrong,
       {"few.tiktoken", "2 ranks are none of the published", "cl100k_base (100256)"}},
      {{"twice.tiktoken", "out.json"}, kWrong, {"twice.tiktoken", "line 2: rank 0 stands twice"}},
      {{"no_base64.tiktoken", "out.json"}, kWrong, {"no_base64.tiktoken", "line 2 is '?? 1'; wanted base64"}},
      {{"cut.json", "out.json"}, kCorrupt, {"cut.json"}},
      {{"text.json", "out.json"}, kCorrupt, {"text.json"}},
      {{"empty.json", "out.json"}, kCorrupt, {"empty.json"}},
      {{"weights.gguf", "out.json"}, kCorrupt, {"weights.gguf"}},
      {{"bpe.model", "out.tiktoken"}, kWrong, {"bpe.model", "its tokens are not merged from bytes"}},
      {{"characters.json", "out.tiktoken"}, kWrong, {"characters.json", "its tokens are not merged from bytes"}},
      {{"bytes.json", "absent/out.json"}, kMissing, {"absent/out.json"}},
      {{"bytes.json", "out.json", "--as", "model"}, kWrong, {"--as"}},
      {{"bytes.json"}, kWrong, {"to is required"}},
  };
  const std::vector<std::string> before = place.names();
  for (const auto& [words, exit_code, said] : kCases) {
    std::vector<std::string> command = {"tokenizer", "convert"};
    command.insert(command.end(), words.begin(), words.end());
    const Outcome outcome = place.run(command);
    EXPECT_EQ(outcome.exit_code, exit_code) << words[0] << ": " << outcome.err;
    EXPECT_EQ(outcome.out, "");
    for (const std::string& part : said) EXPECT_THAT(outcome.err, HasSubstr(part));
    EXPECT_EQ(place.names(), before) << words[0];
  }
}

TEST(TokenizerConvert, AFullDiskLeavesWhatWasThere) {
  const Tokenizers place;
  place.write("out.json", "what was there");
  const std::vector<std::string> before = place.names();
  for (const char* more : {"", " --exact", " --as tiktoken"}) {
    const Outcome outcome = place.shell(std::string("ulimit -f 1; exec ") + COLOSSUS_BINARY +
                                        " tokenizer convert bytes.json out.json" + more);
    EXPECT_EQ(outcome.exit_code, kExhausted) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("File too large"));
    EXPECT_EQ(place.read("out.json"), "what was there");
    EXPECT_EQ(place.names(), before);
  }
}

struct Counts {
  int64_t num_tokens = 0;
  int64_t num_bytes = 0;
  std::string ratio() const {
    return num_tokens == 0 ? "-"
                           : fmt::format("{:.3f}", static_cast<double>(num_bytes) / static_cast<double>(num_tokens));
  }
};

// What `encode --count` says: "5 tokens, 20 bytes, 4.000 bytes per token".
Counts counts_of(const Tokenizers& place, const std::string& tokenizer, const std::string& text) {
  const std::string said = place.must_succeed({"tokenizer", "encode", tokenizer, text, "--count"}).out;
  return {std::stoll(said), std::stoll(said.substr(said.find(", ") + 2))};
}

TEST(TokenizerEvaluate, CountsAsEncodeDoes) {
  const Tokenizers place;
  place.write("other.txt", "the sea saw the sea");
  place.write("empty.txt", "");
  const std::vector<std::string> tokenizers = {"bytes.json", "bpe.model", "unigram.model", "ranks.tiktoken"};
  std::vector<std::string> command = {"tokenizer", "evaluate",  "bytes.json", "text.txt",
                                      "other.txt", "empty.txt", "--csv"};
  for (size_t i = 1; i < tokenizers.size(); ++i) command.insert(command.end(), {"--beside", tokenizers[i]});
  std::string wanted = "text,bytes,bytes.json,bpe.model,unigram.model,ranks.tiktoken\n";
  std::vector<Counts> all(tokenizers.size());
  for (const std::string text : {"text.txt", "other.txt", "empty.txt"}) {
    wanted += text + "," + std::to_string(place.read(text).size());
    for (size_t i = 0; i < tokenizers.size(); ++i) {
      const Counts counts = counts_of(place, tokenizers[i], text);
      all[i].num_tokens += counts.num_tokens;
      all[i].num_bytes += counts.num_bytes;
      wanted += "," + counts.ratio();
    }
    wanted += "\n";
  }
  wanted += "all," + std::to_string(all[0].num_bytes);
  for (const Counts& counts : all) wanted += "," + counts.ratio();
  EXPECT_EQ(place.must_succeed(command).out, wanted + "\n");

  const std::string table = place.must_succeed({"tokenizer", "evaluate", "bytes.json", "other.txt"}).out;
  EXPECT_THAT(table, AllOf(StartsWith("bytes per token\n"), HasSubstr("other.txt"),
                           HasSubstr(counts_of(place, "bytes.json", "other.txt").ratio())));
}

TEST(TokenizerEvaluate, FailuresNameTheTokenizerAndTheText) {
  const Tokenizers place;
  place.write("foreign.txt", "the sea \u4e2d");
  const struct {
    std::vector<std::string> words;
    int exit_code;
    std::vector<std::string> said;
  } kCases[] = {
      {{"characters.json", "text.txt", "foreign.txt"}, kWrong, {"characters.json, foreign.txt", "at byte 8", "\u4e2d"}},
      {{"bytes.json", "foreign.txt", "--beside", "characters.json"}, kWrong, {"characters.json, foreign.txt"}},
      {{"bytes.json", "absent.txt"}, kMissing, {"absent.txt"}},
      {{"absent.json", "text.txt"}, kMissing, {"absent.json"}},
      {{"bytes.json", "text.txt", "--beside", "text.txt"}, kCorrupt, {"text.txt"}},
      {{"bytes.json"}, kWrong, {"texts is required"}},
  };
  for (const auto& [words, exit_code, said] : kCases) {
    std::vector<std::string> command = {"tokenizer", "evaluate"};
    command.insert(command.end(), words.begin(), words.end());
    const Outcome outcome = place.run(command);
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    for (const std::string& part : said) EXPECT_THAT(outcome.err, HasSubstr(part));
  }
}

}  // namespace
}  // namespace colossus
