// Tokenizers of Hugging Face directories in each of their kinds, and how their models' texts begin and end.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "convert/export_model.h"
#include "convert/import_model.h"
#include "convert/testing.h"
#include "io/config.h"
#include "text/sentencepiece.h"
#include "text/tokenizer.h"

namespace colossus {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class HfTexts : public testing::Test {
 protected:
  HfTexts() { write_foreign_model(dir_ / "theirs", model_, *find_family("llama"), DType::kF32); }

  void write(const std::string& name, const std::string& text) const { write_text(dir_ / ("theirs/" + name), text); }
  void set_config(const Json& more) const {
    Json config = write_hf_config(model_, family_of(model_), "float32");
    config.update(more);
    write("config.json", config.dump());
  }
  ModelToImport open() const {
    auto model = open_import(local_files(), dir_ / "theirs", "");
    CHECK(model.ok(), model.status().message().c_str());
    return std::move(*model);
  }
  static GenerationTokens generation_of(const ModelToImport& model) {
    return *parse_config<GenerationTokens>(model.state.texts.at(kGenerationFile), "generation.toml");
  }
  static Tokenizer tokenizer_of(const ModelToImport& model) {
    auto tokenizer = Tokenizer::from_json(model.state.texts.at("tokenizer.json"));
    CHECK(tokenizer.ok(), tokenizer.status().message().c_str());
    return std::move(*tokenizer);
  }
  // Llama 2's kind, with merges for "▁ab".
  static std::string sentencepiece_file() {
    SentencePieceModel model{.pieces = {{"<unk>", 0, PieceType::kUnknown},
                                        {"<s>", 0, PieceType::kControl},
                                        {"</s>", 0, PieceType::kControl},
                                        {"\xE2\x96\x81", -5, PieceType::kNormal},
                                        {"a", -6, PieceType::kNormal},
                                        {"b", -7, PieceType::kNormal},
                                        {"ab", -1, PieceType::kNormal},
                                        {"\xE2\x96\x81"
                                         "ab",
                                         -2, PieceType::kNormal}},
                             .type = static_cast<uint64_t>(SentencePieceModel::Type::kBpe),
                             .remove_extra_whitespaces = false};
    return write_sentencepiece(model);
  }

  const TemporaryDirectory dir_;
  const ModelConfig model_ = small_model_of("llama");  // a vocabulary of 19
};

TEST_F(HfTexts, EndsAreGenerationConfigsThenConfigs) {
  set_config({{"bos_token_id", 1}, {"eos_token_id", 2}});
  EXPECT_THAT(generation_of(open()).begin, ElementsAre(1));
  EXPECT_FALSE(generation_of(open()).add_begin);
  EXPECT_THAT(generation_of(open()).end, ElementsAre(2));
  write("generation_config.json", R"({"bos_token_id": 3, "eos_token_id": [4, 5, 6]})");
  EXPECT_THAT(generation_of(open()).begin, ElementsAre(3));
  EXPECT_THAT(generation_of(open()).end, ElementsAre(4, 5, 6));
  write("generation_config.json", "{}");
  set_config({{"eos_token_id", {7, 8}}, {"bos_token_id", nullptr}});
  EXPECT_THAT(generation_of(open()).begin, IsEmpty());
  EXPECT_THAT(generation_of(open()).end, ElementsAre(7, 8));
}

TEST_F(HfTexts, IdsThatTheModelLacksAreToldAndPassedOver) {
  set_config({{"bos_token_id", -1}, {"eos_token_id", {2, 19, "x", 1e30}}});
  const ModelToImport model = open();
  EXPECT_THAT(generation_of(model).begin, IsEmpty());
  EXPECT_THAT(generation_of(model).end, ElementsAre(2));
  for (const char* told : {"bos_token_id = -1", "eos_token_id = 19", "eos_token_id = \"x\"", "eos_token_id = 1e+30"})
    EXPECT_THAT(model.report.notes, Contains(HasSubstr(told)));
  write("generation_config.json", "[1]");
  EXPECT_THAT(open_import(local_files(), dir_ / "theirs", "").status().message(),
              HasSubstr("generation_config.json] is [1]; needed an object"));
}

TEST_F(HfTexts, ASentencePieceModelAloneIsTheTokenizer) {
  write("tokenizer.model", sentencepiece_file());
  const ModelToImport model = open();
  const Tokenizer tokenizer = tokenizer_of(model);
  EXPECT_THAT(*tokenizer.encode("ab b", {.add_special = true}), ElementsAre(1, 7, 3, 5));
  EXPECT_THAT(generation_of(model).begin, ElementsAre(1));
  EXPECT_TRUE(generation_of(model).add_begin);

  write("tokenizer_config.json", R"({"add_bos_token": false, "eos_token": {"content": "</s>"}})");
  EXPECT_THAT(*tokenizer_of(open()).encode("ab", {.add_special = true}), ElementsAre(7));
  EXPECT_FALSE(generation_of(open()).add_begin);
  EXPECT_THAT(generation_of(open()).end, ElementsAre(2));
  write("tokenizer_config.json", R"({"tokenizer_class": "SomeTokenizer", "bos_token": "<s>"})");
  EXPECT_THAT(generation_of(open()).begin, ElementsAre(1));
  EXPECT_FALSE(generation_of(open()).add_begin);

  write("tokenizer.model", sentencepiece_file().substr(0, 40));
  EXPECT_THAT(open_import(local_files(), dir_ / "theirs", "").status().message(), HasSubstr("tokenizer.model]"));
}

TEST_F(HfTexts, TokensAddedBehindThePiecesComeAlong) {
  write("tokenizer.model", sentencepiece_file());
  write("added_tokens.json", R"({"<|b|>": 9, "<|a|>": 8, "<s>": 1, "<|far|>": 12})");
  const ModelToImport model = open();
  EXPECT_EQ(tokenizer_of(model).special("<|a|>"), 8);
  EXPECT_EQ(tokenizer_of(model).special("<|b|>"), 9);
  EXPECT_THAT(model.report.notes, Contains(HasSubstr("<|far|>")));
  write("added_tokens.json", R"({"<|a|>": 8, "<|b|>": 8})");
  EXPECT_THAT(open_import(local_files(), dir_ / "theirs", "").status().message(),
              HasSubstr("two tokens have the id 8"));
}

TEST_F(HfTexts, TokenizersGoBackInTheKindTheyCame) {
  write("tokenizer.model", sentencepiece_file());
  ASSERT_TRUE(import_model(local_files(), dir_ / "theirs", dir_ / "ours").ok());
  ASSERT_TRUE(export_hf(local_files(), dir_ / "ours", dir_ / "again").ok());
  EXPECT_EQ(*read_file(local_files(), dir_ / "again/tokenizer.model"), sentencepiece_file());
  EXPECT_FALSE(local_files().stat(dir_ / "again/tokenizer.json").ok());
}

TEST_F(HfTexts, VocabAndMergesMakeATokenizer) {
  write("vocab.json", R"({"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġab": 4, "<|endoftext|>": 6, "<": 7, ">": 8, "<a": 9,
                          "<a>": 10})");
  write("merges.txt", "#version: 0.2\na b\nĠ ab\n< a\n<a >\n");
  const Tokenizer tokenizer = tokenizer_of(open());
  EXPECT_THAT(*tokenizer.encode("ab ab"), ElementsAre(3, 4));
  EXPECT_EQ(tokenizer.special("<|endoftext|>"), 6);
  EXPECT_EQ(tokenizer.special("<a>"), std::nullopt);  // merges make it of ordinary text
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{3, 4}), "ab ab");
  const auto refusal = [&](const char* vocab, const char* merges) {
    write("vocab.json", vocab);
    write("merges.txt", merges);
    return open_import(local_files(), dir_ / "theirs", "").status().message();
  };
  EXPECT_THAT(refusal(R"({"a": 0, "b": 0})", ""), HasSubstr("both have the id 0"));
  EXPECT_THAT(refusal(R"({"a": 4000000000})", ""), HasSubstr("4000000000"));
  EXPECT_THAT(refusal(R"({"a": 0})", "a a"), HasSubstr("merges[0]"));
  EXPECT_THAT(refusal(R"({"a": 0})", "a\n"), HasSubstr("merges.txt:1]"));
}

TEST_F(HfTexts, WhatBeginsAndEndsIsInAConfigOfOurs) {
  set_config({{"bos_token_id", 1}, {"eos_token_id", {2, 3}}});
  ASSERT_TRUE(import_model(local_files(), dir_ / "theirs", dir_ / "ours").ok());
  // As another family it cannot be the imported file.
  const auto exported = export_hf(local_files(), dir_ / "ours", dir_ / "again", {.family = "mistral"});
  ASSERT_TRUE(exported.ok()) << exported.status().message();
  const auto config = read_checked_json(local_files(), dir_ / "again/config.json");
  ASSERT_TRUE(config.ok());
  EXPECT_EQ((*config)["bos_token_id"], 1);
  EXPECT_EQ((*config)["eos_token_id"], Json({2, 3}));
}

}  // namespace
}  // namespace colossus
