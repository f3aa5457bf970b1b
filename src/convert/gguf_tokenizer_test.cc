// Tokenizers as GGUF files have them, there and back.

#include "convert/gguf_tokenizer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "convert/export_model.h"
#include "convert/gguf_testing.h"
#include "convert/import_model.h"
#include "text/chat.h"

namespace colossus {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

// Written by tests/oracle/compare_tokenizers.py.
Json golden(const std::string& name) {
  const auto text = read_file(local_files(), COLOSSUS_SOURCE_DIR "/tests/oracle/goldens/tokenizers.json");
  CHECK(text.ok());
  const Json families = Json::parse(*text);
  const auto found = std::ranges::find_if(families, [&](const Json& family) { return family["name"] == name; });
  CHECK(found != families.end(), name.c_str());
  return *found;
}

Tokenizer tokenizer_of(const Json& family) {
  auto tokenizer = Tokenizer::from_json(family["tokenizer"].dump());
  CHECK(tokenizer.ok(), tokenizer.status().message().c_str());
  return *std::move(tokenizer);
}

class GgufTokenizers : public testing::Test {
 protected:
  // Written into a file and read from it.
  GgufTokenizer there_and_back(const GgufTokenizerKeys& keys, int64_t vocab_size) {
    GgufToWrite file{.metadata = keys.metadata, .lists = keys.lists, .tensors = {}};
    CHECK(local_files().remove_all(dir_ / "t.gguf").ok());
    write_small_gguf(dir_ / "t.gguf", file);
    const auto opened = GgufFile::open(local_files(), dir_ / "t.gguf");
    CHECK(opened.ok(), opened.status().message().c_str());
    auto read = read_gguf_tokenizer(*opened, vocab_size);
    CHECK(read.ok(), read.status().message().c_str());
    return *read;
  }

  const TemporaryDirectory dir_;
};

TEST_F(GgufTokenizers, EncodeAndDecodeAsBefore) {
  for (const std::string name : {"llama2", "gemma", "llama3", "qwen2", "o200k"}) {
    SCOPED_TRACE(name);
    const Json family = golden(name);
    const Tokenizer before = tokenizer_of(family);
    const int64_t vocab_size = before.vocab_size() + 3;
    const auto keys = gguf_tokenizer(before, vocab_size, {});
    ASSERT_TRUE(keys.ok()) << keys.status().message();
    const GgufTokenizer read = there_and_back(*keys, vocab_size);
    ASSERT_NE(read.json, "") << read.notes.front();
    const auto after = Tokenizer::from_json(read.json);
    ASSERT_TRUE(after.ok()) << after.status().message();
    EXPECT_GE(after->vocab_size(), before.vocab_size());
    EXPECT_LE(after->vocab_size(), vocab_size);
    for (size_t i = 0; i < family["strings"].size(); ++i) {
      const auto text = family["strings"][i].get<std::string>();
      if (name == "qwen2" && family["ids"][i] != *after->encode(text, {.allow_special = true, .add_special = true}))
        continue;                                             // NFC, which a note tells of
      if (text.find("<unk>") != std::string::npos) continue;  // no text becomes a piece that is unknown
      EXPECT_EQ(Json(*after->encode(text, {.allow_special = true, .add_special = true})), family["ids"][i]) << text;
    }
    EXPECT_EQ(keys->notes.empty(), name != "qwen2") << name << (keys->notes.empty() ? "" : keys->notes.front());
  }
}

TEST_F(GgufTokenizers, ThatHaveNoNameThereAreLeftOut) {
  for (const std::string name : {"deepseek", "unigram", "words", "unknown_fused"}) {
    const Tokenizer tokenizer = tokenizer_of(golden(name));
    const auto keys = gguf_tokenizer(tokenizer, tokenizer.vocab_size(), {});
    ASSERT_TRUE(keys.ok()) << keys.status().message();
    EXPECT_EQ(*keys->metadata.at("tokenizer.ggml.model").text(), "none") << name;
    ASSERT_EQ(keys->notes.size(), 1U);
    EXPECT_THAT(keys->notes[0], HasSubstr("left out"));
    const GgufTokenizer read = there_and_back(*keys, tokenizer.vocab_size());
    EXPECT_EQ(read.json, "");
    EXPECT_THAT(read.notes, testing::ElementsAre(HasSubstr("no tokenizer")));
  }
}

// Added tokens that want to be whole words, or take the blanks beside them.
TEST_F(GgufTokenizers, ThatDifferAreToldOf) {
  const Tokenizer tokenizer = tokenizer_of(golden("llama2_added"));
  const auto keys = gguf_tokenizer(tokenizer, tokenizer.vocab_size(), {});
  ASSERT_TRUE(keys.ok()) << keys.status().message();
  EXPECT_EQ(*keys->metadata.at("tokenizer.ggml.model").text(), "llama");
  EXPECT_THAT(keys->notes, testing::ElementsAre(HasSubstr("into other tokens")));
}

TEST_F(GgufTokenizers, LargerThanTheModelAreRefused) {
  const Tokenizer tokenizer = tokenizer_of(golden("llama3"));
  EXPECT_FALSE(gguf_tokenizer(tokenizer, tokenizer.vocab_size() - 1, {}).ok());
}

// Our own: the chat markers, and a template that says docs/formats.md.
TEST_F(GgufTokenizers, OfOurOwnChat) {
  TokenizerSpec spec{.pattern = SplitPattern::kCl100k, .tokens = chat_special_tokens(), .added = {}, .merges = {}};
  for (int32_t id = 0; id < 5; ++id) spec.added.push_back({.id = id, .text = spec.tokens[static_cast<size_t>(id)]});
  for (int byte = 0; byte < 256; ++byte) spec.tokens.emplace_back(1, static_cast<char>(byte));
  const auto tokenizer = Tokenizer::create(spec);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  const auto keys = gguf_tokenizer(*tokenizer, 261, {});
  ASSERT_TRUE(keys.ok());
  EXPECT_EQ(keys->metadata.at("tokenizer.ggml.bos_token_id").whole(), 0);
  EXPECT_EQ(keys->metadata.at("tokenizer.ggml.eos_token_id").whole(), 4);
  EXPECT_EQ(keys->metadata.at("tokenizer.ggml.add_bos_token").flag(), false);
  const GgufTokenizer read = there_and_back(*keys, 261);
  EXPECT_THAT(read.chat_template, HasSubstr("<|bos|>"));
  EXPECT_EQ(read.begin_ids, std::vector<int32_t>{0});
  EXPECT_EQ(read.end_ids, std::vector<int32_t>{4});
  const auto after = Tokenizer::from_json(read.json);
  ASSERT_TRUE(after.ok()) << after.status().message();
  const std::string text = "Hi, there's <|end|> é\n";
  EXPECT_EQ(*after->encode(text, {.allow_special = true}), *tokenizer->encode(text, {.allow_special = true}));
}

TEST_F(GgufTokenizers, WhatCameAlongIsKept) {
  const Tokenizer tokenizer = tokenizer_of(golden("llama2"));
  const auto keys =
      gguf_tokenizer(tokenizer, tokenizer.vocab_size(), {.chat_template = "{{ x }}", .begin_id = 7, .end_id = 9});
  ASSERT_TRUE(keys.ok());
  const GgufTokenizer read = there_and_back(*keys, tokenizer.vocab_size());
  EXPECT_EQ(read.chat_template, "{{ x }}");
  EXPECT_EQ(read.end_ids, std::vector<int32_t>{9});
  EXPECT_NE(read.begin_ids, std::vector<int32_t>{7});  // the tokenizer itself puts <s> before a text
}

// What only this program reads becomes what others read.
TEST_F(GgufTokenizers, LeaveForHuggingFace) {
  const Json family = golden("llama2");
  const Tokenizer tokenizer = tokenizer_of(family);
  ModelConfig model = small_model_of("llama");
  model.vocab_size = tokenizer.vocab_size();
  GgufToWrite file = small_gguf(model);
  const auto keys = gguf_tokenizer(tokenizer, model.vocab_size, {});
  ASSERT_TRUE(keys.ok());
  file.metadata.insert(keys->metadata.begin(), keys->metadata.end());
  file.lists = keys->lists;
  write_small_gguf(dir_ / "model.gguf", file);
  const auto imported = import_model(local_files(), dir_ / "model.gguf", dir_ / "ours");
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  const auto exported = export_hf(local_files(), dir_ / "ours", dir_ / "hf");
  ASSERT_TRUE(exported.ok()) << exported.status().message();
  EXPECT_EQ(exported->family, "llama");
  const auto json = read_file(local_files(), dir_ / "hf/tokenizer.json");
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(Json::parse(*json)["model"]["type"], "BPE");
  const auto after = Tokenizer::from_json(*json);
  ASSERT_TRUE(after.ok()) << after.status().message();
  EXPECT_TRUE(load_tokenizer(local_files(), dir_ / "hf/tokenizer.model").ok());
  const std::string text = "Hello there, 345  people";
  EXPECT_EQ(*after->encode(text), *tokenizer.encode(text));
  const auto generation = read_file(local_files(), dir_ / "hf/generation_config.json");
  ASSERT_TRUE(generation.ok());
  EXPECT_EQ(Json::parse(*generation)["eos_token_id"], 2);
}

// llama.cpp's converter fills vocabularies of pieces up with unused tokens.
TEST_F(GgufTokenizers, UnusedPiecesDoNoHarm) {
  GgufToWrite file;
  add_small_vocabulary(file, 12);
  std::get<std::vector<int32_t>>(file.lists["tokenizer.ggml.token_type"])[11] = 5;
  std::get<std::vector<std::string>>(file.lists["tokenizer.ggml.tokens"])[11] = "[PAD11]";
  const GgufTokenizer read = there_and_back({.metadata = file.metadata, .lists = file.lists, .notes = {}}, 12);
  ASSERT_NE(read.json, "") << read.notes.front();
}

}  // namespace
}  // namespace colossus
