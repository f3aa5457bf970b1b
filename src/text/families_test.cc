// Tokenizers of the families that others publish, small, with what Hugging Face's library makes of nasty strings: the
// golden is written by tests/oracle/compare_tokenizers.py.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/rng.h"
#include "text/gguf_vocabulary.h"
#include "text/sentencepiece.h"
#include "text/tiktoken.h"
#include "text/tokenizer.h"
#include "text/tokenizer_convert.h"

namespace colossus {
namespace {

using Json = nlohmann::json;

const std::string kShared = COLOSSUS_SOURCE_DIR "/../shared/data";

const Json& golden() {
  static const Json json = [] {
    auto text = read_file(local_files(), COLOSSUS_SOURCE_DIR "/tests/oracle/goldens/tokenizers.json");
    CHECK(text.ok(), "the golden of the tokenizers");
    return Json::parse(*text);
  }();
  return json;
}

std::string shared_file(const std::string& name) {
  auto text = read_file(local_files(), kShared + "/" + name);
  CHECK(text.ok(), name.c_str());
  return std::move(*text);
}

// What the library shows where bytes are no characters, it shows for a whole run of them.
bool shows_bytes(const std::string& text) { return text.find("\uFFFD") != std::string::npos; }

class TokenizerFamily : public testing::TestWithParam<size_t> {
 protected:
  const Json& family() const { return golden()[GetParam()]; }
};

TEST_P(TokenizerFamily, EncodesAndDecodesAsTheLibrary) {
  const auto tokenizer = Tokenizer::from_json(family()["tokenizer"].dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  int num_decoded = 0;
  for (size_t i = 0; i < family()["strings"].size(); ++i) {
    const std::string text = family()["strings"][i];
    const std::vector<int32_t> wanted = family()["ids"][i];
    const auto ids = tokenizer->encode(text, {.allow_special = true, .add_special = true});
    ASSERT_TRUE(ids.ok()) << ids.status().message();
    EXPECT_EQ(*ids, wanted) << "'" << text << "'";
    const std::string decoded = family()["decoded"][i];
    if (shows_bytes(decoded)) continue;
    EXPECT_EQ(tokenizer->decode(wanted), decoded) << "'" << text << "'";
    ++num_decoded;
  }
  EXPECT_GT(num_decoded, 10);
}

TEST_P(TokenizerFamily, SurvivesItsFile) {
  const auto tokenizer = Tokenizer::from_json(family()["tokenizer"].dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  const auto again = Tokenizer::from_json(tokenizer->to_json());
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(again->to_json(), tokenizer->to_json());
  for (const std::string text : family()["strings"]) {
    EXPECT_EQ(again->encode(text, {.allow_special = true, .add_special = true}).value(),
              tokenizer->encode(text, {.allow_special = true, .add_special = true}).value());
  }
}

TEST_P(TokenizerFamily, DecodesAsTokensCome) {
  const auto tokenizer = Tokenizer::from_json(family()["tokenizer"].dump());
  ASSERT_TRUE(tokenizer.ok());
  for (const auto& entry : family()["ids"]) {
    const std::vector<int32_t> ids = entry;
    TokenDecoder decoder(*tokenizer);
    std::string text;
    for (const int32_t id : ids) {
      const std::string part = decoder.push(id);
      EXPECT_EQ(find_invalid_utf8(part), std::string::npos);
      text += part;
    }
    text += decoder.flush();
    const std::string whole = tokenizer->decode(ids);
    if (find_invalid_utf8(whole) != std::string::npos) continue;
    EXPECT_EQ(text, whole);
  }
}

TEST_P(TokenizerFamily, SpansAreInOrderAndNameTheText) {
  const auto tokenizer = Tokenizer::from_json(family()["tokenizer"].dump());
  ASSERT_TRUE(tokenizer.ok());
  for (const std::string text : family()["strings"]) {
    const auto encoding = tokenizer->encode_with_spans(text, {.allow_special = true, .add_special = true});
    ASSERT_TRUE(encoding.ok());
    EXPECT_EQ(encoding->ids, tokenizer->encode(text, {.allow_special = true, .add_special = true}).value());
    ASSERT_EQ(encoding->spans.size(), encoding->ids.size());
    size_t begin = 0;
    for (const TextSpan& span : encoding->spans) {
      EXPECT_LE(span.begin, span.end);
      EXPECT_LE(span.end, text.size());
      EXPECT_LE(begin, span.begin) << "'" << text << "'";
      begin = span.begin;
    }
  }
}

TEST_P(TokenizerFamily, AnyBytesAreNoTrap) {
  const auto tokenizer = Tokenizer::from_json(family()["tokenizer"].dump());
  ASSERT_TRUE(tokenizer.ok());
  const RngKey key{.seed = 4, .step = GetParam()};
  std::string text;
  for (int i = 0; i < 20000; ++i) text += static_cast<char>(random_bits(key, i));
  std::vector<int32_t> ids;
  const Status status = tokenizer->encode(text, ids);
  EXPECT_TRUE(status.ok() || !tokenizer->encodes_any_bytes()) << status.message();
  if (tokenizer->spec().normalizer.empty() && tokenizer->spec().pre_tokenizer.empty() && status.ok()) {
    EXPECT_TRUE(tokenizer->decode(ids) == text);
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerFamily, testing::Range<size_t>(0, golden().size()),
                         [](const auto& info) { return golden()[info.param]["name"].template get<std::string>(); });

// The vocabulary of a tokenizer.json as a GGUF file would have it.
TEST(GgufVocabulary, BytesAsInTokenizerJson) {
  for (const Json& family : golden()) {
    if (family["name"] != "llama3") continue;
    GgufVocabulary vocabulary{.model = "gpt2", .pre = "llama-bpe", .bos_id = 0, .add_bos = true};
    const Json& model = family["tokenizer"]["model"];
    vocabulary.tokens.resize(model["vocab"].size());
    vocabulary.types.assign(vocabulary.tokens.size(), 1);
    for (const auto& [name, id] : model["vocab"].items()) vocabulary.tokens[id.get<size_t>()] = name;
    for (const Json& token : family["tokenizer"]["added_tokens"]) vocabulary.types[token["id"].get<size_t>()] = 3;
    for (const Json& merge : model["merges"]) {
      vocabulary.merges.push_back(merge.is_string() ? merge.get<std::string>()
                                                    : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
    }
    const auto tokenizer = tokenizer_from_gguf(vocabulary);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    for (size_t i = 0; i < family["strings"].size(); ++i) {
      EXPECT_EQ(tokenizer->encode(family["strings"][i].get<std::string>(), {.allow_special = true, .add_special = true})
                    .value(),
                family["ids"][i].get<std::vector<int32_t>>());
    }
    vocabulary.pre = "klingon";
    EXPECT_NE(tokenizer_from_gguf(vocabulary).status().message().find("known are gpt-2"), std::string::npos);
    vocabulary.types.pop_back();
    EXPECT_NE(tokenizer_from_gguf(vocabulary).status().message().find("token_type has"), std::string::npos);
    vocabulary.model = "bert";
    EXPECT_FALSE(tokenizer_from_gguf(vocabulary).ok());
  }
}

TEST(GgufVocabulary, PiecesAsInSentencePiece) {
  if (!std::filesystem::exists(kShared)) GTEST_SKIP() << "needs ../shared";
  const std::string file = shared_file("tokenizers/sentencepiece/grok1_tokenizer.model");
  const auto model = read_sentencepiece(file);
  ASSERT_TRUE(model.ok());
  GgufVocabulary vocabulary{
      .model = "llama", .bos_id = 1, .add_bos = true, .add_space_prefix = model->add_dummy_prefix};
  for (const ScoredPiece& piece : model->pieces) {
    vocabulary.tokens.push_back(piece.text);
    vocabulary.scores.push_back(piece.score);
    vocabulary.types.push_back(static_cast<int32_t>(piece.type));
  }
  const auto tokenizer = tokenizer_from_gguf(vocabulary);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  const auto wanted = tokenizer_from_sentencepiece(file);
  ASSERT_TRUE(wanted.ok());
  const std::string text = shared_file("text/multi/udhr_many_scripts.txt");
  std::vector<int32_t> ids = wanted->encode(text).value();
  ids.insert(ids.begin(), 1);
  EXPECT_TRUE(tokenizer->encode(text, {.add_special = true}).value() == ids);
}

TEST(Tiktoken, KnownIdsComeBack) {
  if (!std::filesystem::exists(kShared)) GTEST_SKIP() << "needs ../shared";
  for (const auto& [ranks, answers] :
       {std::pair("r50k_base", "ms_tokens_gpt2"), {"cl100k_base", "ms_tokens_gpt_3.5_turbo"}}) {
    const auto tokenizer = read_tokenizer(shared_file(std::string("tokenizers/tiktoken/") + ranks + ".tiktoken"));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    EXPECT_TRUE(tokenizer->special("<|endoftext|>").has_value());
    const auto ids =
        Json::parse(shared_file(std::string("tokenizers/tiktoken/") + answers + ".json")).get<std::vector<int32_t>>();
    EXPECT_TRUE(tokenizer->encode(tokenizer->decode(ids)).value() == ids) << ranks;
  }
}

TEST(Tiktoken, RanksAreWrittenAsTheyWereRead) {
  if (!std::filesystem::exists(kShared)) GTEST_SKIP() << "needs ../shared";
  const std::string file = shared_file("tokenizers/tiktoken/cl100k_base.tiktoken");
  const auto tokenizer = read_tokenizer(file);
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_TRUE(tiktoken_ranks(*tokenizer).value() == file);
}

TEST(Tiktoken, RunsOfBlanksThatNoTwoRanksMake) {
  // "aaaaa" is three parts by the ranks below it (aa aa a), and a merge of any two tokens that spell it.
  const auto tokenizer =
      tokenizer_from_tiktoken("YQ== 0\nYWE= 1\nYWFhYQ== 2\nYWFhYWFhYQ== 4\nYWFhYWE= 3\n", SplitPattern::kNone, {});
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_EQ(tokenizer->encode("aaaaa").value(), (std::vector<int32_t>{3}));
  const auto again = Tokenizer::from_json(tokenizer->to_json());
  ASSERT_TRUE(again.ok()) << again.status().message();
  for (size_t size = 1; size < 40; ++size) {
    const std::string text(size, 'a');
    EXPECT_EQ(again->encode(text).value(), tokenizer->encode(text).value());
  }
}

}  // namespace
}  // namespace colossus
