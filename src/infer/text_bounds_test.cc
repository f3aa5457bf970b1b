#include "infer/text_bounds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "infer/testing.h"
#include "text/chat.h"

namespace colossus {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Texts = std::map<std::string, std::string>;

// Ids 0 to 255 are bytes; behind them these.
Tokenizer with_special(const std::vector<std::string>& special, const std::vector<int32_t>& prefix = {}) {
  TokenizerSpec spec = byte_tokenizer().spec();
  for (const std::string& text : special) {
    spec.added.push_back({.id = static_cast<int32_t>(spec.tokens.size()), .text = text});
    spec.tokens.push_back(text);
  }
  spec.prefix = prefix;
  auto made = Tokenizer::create(std::move(spec));
  CHECK(made.ok(), made.status().message().c_str());
  return std::move(*made);
}

GenerationTokens bounds_of(const Texts& texts, const Tokenizer& tokenizer) {
  const auto bounds = text_bounds(texts, tokenizer, 300, "place");
  CHECK(bounds.ok(), bounds.status().message().c_str());
  return *bounds;
}

TEST(TextBounds, AreThoseOfTheFile) {
  const Tokenizer tokenizer = with_special({std::string(kBosToken)}, {256});
  const auto bounds = bounds_of({{kGenerationFile, "begin = [7]\nadd_begin = true\nend = [2, 260]\n"}}, tokenizer);
  EXPECT_THAT(bounds.begin, ElementsAre(7));
  EXPECT_TRUE(bounds.add_begin);
  EXPECT_THAT(bounds.end, ElementsAre(2, 260));
}

TEST(TextBounds, WhatTheFileLeavesOpenIsTheTokenizers) {
  const Tokenizer chat = with_special({std::string(kBosToken), std::string(kEndToken)});
  const auto bounds = bounds_of({{kGenerationFile, "end = [9]\n"}}, chat);
  EXPECT_THAT(bounds.begin, ElementsAre(256));
  EXPECT_FALSE(bounds.add_begin);
  EXPECT_THAT(bounds.end, ElementsAre(9));
}

TEST(TextBounds, OfARunAreItsTokenizersSpecialTokens) {
  EXPECT_THAT(bounds_of({}, byte_tokenizer()).begin, IsEmpty());
  EXPECT_THAT(bounds_of({}, byte_tokenizer()).end, IsEmpty());
  const auto chat = bounds_of({}, with_special({std::string(kBosToken), std::string(kEndToken)}));
  EXPECT_THAT(chat.begin, ElementsAre(256));
  EXPECT_THAT(chat.end, ElementsAre(257, 256));
  const auto gpt = bounds_of({}, with_special({"<|endoftext|>"}));
  EXPECT_THAT(gpt.begin, ElementsAre(256));
  EXPECT_FALSE(gpt.add_begin);
  EXPECT_THAT(gpt.end, ElementsAre(256));
  const auto llama = bounds_of({}, with_special({"<s>", "</s>"}, {256}));
  EXPECT_THAT(llama.begin, ElementsAre(256));
  EXPECT_TRUE(llama.add_begin);
  EXPECT_THAT(llama.end, ElementsAre(257));
}

TEST(TextBounds, IdsBeyondTheModelAreRefused) {
  for (const char* text : {"end = [300]\n", "begin = [-1]\n"}) {
    const auto bounds = text_bounds({{kGenerationFile, text}}, byte_tokenizer(), 300, "place");
    ASSERT_FALSE(bounds.ok()) << text;
    EXPECT_THAT(bounds.status().message(), HasSubstr("[place/generation.toml]"));
    EXPECT_THAT(bounds.status().message(), HasSubstr("0 to 299"));
  }
}

TEST(EncodePrompt, AnEmptyOneIsTheBeginningAlone) {
  const Tokenizer tokenizer = byte_tokenizer();
  const auto plain = *tokenizer.encode("ab");
  EXPECT_EQ(*encode_prompt(tokenizer, {.begin = {7, 8}}, "ab"), plain);
  EXPECT_THAT(*encode_prompt(tokenizer, {.begin = {7, 8}}, ""), ElementsAre(7, 8));
  EXPECT_THAT(*encode_prompt(tokenizer, {.begin = {7, 8}, .add_begin = true}, "ab"),
              ElementsAre(7, 8, plain[0], plain[1]));
  const auto none = encode_prompt(tokenizer, {}, "");
  ASSERT_FALSE(none.ok());
  EXPECT_THAT(none.status().message(), HasSubstr("empty"));
}

}  // namespace
}  // namespace colossus
