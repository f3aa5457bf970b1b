// Ways to break a tokenizer.json, and what the reader says to each.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>

#include "base/rng.h"
#include "text/bpe_trainer.h"
#include "text/tokenizer.h"

namespace colossus {
namespace {

using Json = nlohmann::ordered_json;

std::string sound_file() {
  const auto trained = train_bpe(
      {.vocab_size = 262, .special_tokens = {"<|end|>"}},
      [](DocumentSink sink) { return sink("the then the then lazy lazy"); }, [](const TrainProgress&) {});
  return trained->tokenizer.to_json();
}

struct Breakage {
  const char* name;
  void (*breaks)(Json& json);
  const char* message;  // a part of what must be said
};

void PrintTo(const Breakage& breakage, std::ostream* out) { *out << breakage.name; }

class BrokenTokenizerFile : public testing::TestWithParam<Breakage> {};

TEST_P(BrokenTokenizerFile, IsRefusedByName) {
  Json json = Json::parse(sound_file());
  GetParam().breaks(json);
  const auto tokenizer = Tokenizer::from_json(json.dump());
  ASSERT_FALSE(tokenizer.ok());
  EXPECT_NE(tokenizer.status().message().find(GetParam().message), std::string::npos) << tokenizer.status().message();
}

const Breakage kBreakages[] = {
    {"not_an_object", [](Json& j) { j = Json::array(); }, "$ is []; wanted an object"},
    {"no_model", [](Json& j) { j.erase("model"); }, "$.model is missing"},
    {"model_is_text", [](Json& j) { j["model"] = "BPE"; }, "$.model is \"BPE\"; wanted an object"},
    {"another_model", [](Json& j) { j["model"]["type"] = "WordPiece"; }, "$.model.type is \"WordPiece\""},
    {"bytes_for_unigram",
     [](Json& j) {
       j["model"] = {{"type", "Unigram"}, {"vocab", Json::array({Json::array({"a", -1.5})})}};
     },
     "$.pre_tokenizer makes bytes of the text"},
    {"unknown_key", [](Json& j) { j["model"]["magic"] = 1; }, "$.model.magic is not supported: 1"},
    {"unknown_top_key", [](Json& j) { j["extra"] = 1; }, "$.extra is not supported"},
    {"normalizer",
     [](Json& j) {
       j["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Nmt"}}}}};
     },
     "$.normalizer.normalizers[1].type is \"Nmt\"; wanted NFC"},
    {"normalizer_option",
     [](Json& j) {
       j["normalizer"] = {{"type", "NFC"}, {"strict", true}};
     },
     "$.normalizer.strict is not supported"},
    {"normalizer_expression",
     [](Json& j) {
       j["normalizer"] = {{"type", "Replace"}, {"pattern", {{"Regex", "a(?<=b)"}}}, {"content", ""}};
     },
     "$.normalizer.pattern.Regex: the expression 'a(?<=b)' at byte 3: this kind of group is not supported"},
    {"normalizer_map",
     [](Json& j) {
       j["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "/////w=="}};
     },
     "$.normalizer.precompiled_charsmap: the map of characters says its trie has 4294967295 bytes"},
    {"truncation",
     [](Json& j) {
       j["truncation"] = {{"max_length", 5}};
     },
     "$.truncation is"},
    {"dropout", [](Json& j) { j["model"]["dropout"] = 0.1; }, "$.model.dropout is 0.1"},
    {"unknown_token", [](Json& j) { j["model"]["unk_token"] = "<unk>"; },
     "$.model.unk_token is \"<unk>\"; wanted null or a token"},
    {"byte_fallback", [](Json& j) { j["model"]["byte_fallback"] = 7; },
     "$.model.byte_fallback is 7; wanted true or false"},
    {"no_vocab", [](Json& j) { j["model"].erase("vocab"); }, "$.model.vocab is null; wanted an object of tokens"},
    {"empty_vocab", [](Json& j) { j["model"]["vocab"] = Json::object(); }, "$.model.vocab is {}"},
    {"vocab_is_a_list",
     [](Json& j) {
       j["model"]["vocab"] = {"a", "b"};
     },
     "$.model.vocab is [\"a\",\"b\"]"},
    {"same_id_twice", [](Json& j) { j["model"]["vocab"]["zz"] = 5; }, "$.model.vocab: the id 5 of"},
    {"negative_id", [](Json& j) { j["model"]["vocab"]["zz"] = -1; },
     "$.model.vocab[\"zz\"] is -1; wanted an id from 0 to"},
    {"huge_id", [](Json& j) { j["model"]["vocab"]["zz"] = 2000000000; },
     "$.model.vocab[\"zz\"] is 2000000000; wanted an id"},
    {"id_beyond_64_bits", [](Json& j) { j["model"]["vocab"]["zz"] = 1e300; },
     "$.model.vocab[\"zz\"] is 1e+300; wanted an id"},
    {"greatest_number", [](Json& j) { j["model"]["vocab"]["zz"] = UINT64_MAX; }, "wanted an id from 0 to"},
    {"fractional_id", [](Json& j) { j["model"]["vocab"]["zz"] = 7.5; }, "wanted an id, a whole number"},
    {"id_is_text", [](Json& j) { j["model"]["vocab"]["zz"] = "7"; }, "$.model.vocab[\"zz\"] is \"7\""},
    {"empty_token", [](Json& j) { j["model"]["vocab"][""] = 262; }, "the empty token"},
    {"token_not_bytes", [](Json& j) { j["model"]["vocab"]["\u4E16"] = 262; }, "outside of the byte alphabet"},
    {"no_merges", [](Json& j) { j["model"].erase("merges"); }, "$.model.merges is null; wanted an array"},
    {"merge_is_a_number", [](Json& j) { j["model"]["merges"][1] = 3; }, "$.model.merges[1] is 3; wanted two tokens"},
    {"merge_of_one", [](Json& j) { j["model"]["merges"][0] = "th"; }, "$.model.merges[0] is \"th\"; wanted two tokens"},
    {"merge_of_three", [](Json& j) { j["model"]["merges"][0] = "t h e"; }, "$.model.merges[0] is \"t h e\""},
    {"merge_names_unknown", [](Json& j) { j["model"]["merges"][0] = "t qqq"; },
     "names 'qqq', which is not in $.model.vocab"},
    {"merge_makes_unknown", [](Json& j) { j["model"]["merges"].push_back("q q"); }, "model.vocab lacks 'qq'"},
    {"merge_twice", [](Json& j) { j["model"]["merges"].push_back(j["model"]["merges"][0]); }, "repeats the merge of"},
    {"added_is_an_object", [](Json& j) { j["added_tokens"] = Json::object(); },
     "$.added_tokens is {}; wanted an array"},
    {"added_without_id", [](Json& j) { j["added_tokens"][0].erase("id"); }, "$.added_tokens[0].id is null"},
    {"added_without_text", [](Json& j) { j["added_tokens"][0].erase("content"); },
     "$.added_tokens[0].content is missing"},
    {"added_empty", [](Json& j) { j["added_tokens"][0]["content"] = ""; }, "$.added_tokens[0].content is empty"},
    {"added_other_id", [](Json& j) { j["added_tokens"][0]["id"] = 300; }, "is 0, but $.added_tokens gives it 300"},
    {"added_twice", [](Json& j) { j["added_tokens"].push_back(j["added_tokens"][0]); }, "'<|end|>' is added twice"},
    {"added_strips", [](Json& j) { j["added_tokens"][0]["lstrip"] = "yes"; }, "$.added_tokens[0].lstrip is \"yes\""},
    {"prefix_space",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", 1}};
     },
     "$.pre_tokenizer.add_prefix_space is 1; wanted true or false"},
    {"pre_tokenizer_type",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
     },
     "$.pre_tokenizer.type is \"BertPreTokenizer\""},
    {"no_pre_tokenizers", [](Json& j) { j["pre_tokenizer"].erase("pretokenizers"); },
     "$.pre_tokenizer.pretokenizers is null"},
    {"another_pattern", [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\w*"; },
     "$.pre_tokenizer.pretokenizers[0].pattern.Regex: the expression '\\w*' at byte 3: it may match nothing"},
    {"split_removes", [](Json& j) { j["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Kept"; },
     "$.pre_tokenizer.pretokenizers[0].behavior is \"Kept\""},
    {"bytes_twice",
     [](Json& j) {
       Json& steps = j["pre_tokenizer"]["pretokenizers"];
       const Json bytes = steps[1];
       steps.push_back(bytes);
     },
     "$.pre_tokenizer.pretokenizers[2] is the second ByteLevel"},
    {"decoder",
     [](Json& j) {
       j["decoder"] = {{"type", "WordPiece"}};
     },
     "$.decoder.type is \"WordPiece\""},
    {"post_processor",
     [](Json& j) {
       j["post_processor"] = {{"type", "TemplateProcessing"}};
     },
     "$.post_processor.single is null; wanted an array"},
    {"post_processor_type",
     [](Json& j) {
       j["post_processor"] = {{"type", "Bert"}};
     },
     "$.post_processor.type is \"Bert\"; wanted ByteLevel, TemplateProcessing"},
    {"post_processor_pair",
     [](Json& j) {
       j["post_processor"] = {{"type", "RobertaProcessing"}, {"cls", {"<s>"}}, {"sep", {"</s>", 2}}};
     },
     "$.post_processor.cls is [\"<s>\"]; wanted [token, id]"},
    {"metaspace_of_two",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "__"}};
     },
     "$.pre_tokenizer.replacement is \"__\"; wanted one character"},
    {"metaspace_prefix",
     [](Json& j) {
       j["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "last"}};
     },
     "$.pre_tokenizer.prepend_scheme is \"last\"; wanted always, first or never"},
    {"metaspace_contradicts_itself",
     [](Json& j) {
       j["pre_tokenizer"] = {
           {"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "first"}, {"add_prefix_space", false}};
     },
     "$.pre_tokenizer.prepend_scheme is \"first\"; wanted \"never\", as add_prefix_space is false"},
};

INSTANTIATE_TEST_SUITE_P(All, BrokenTokenizerFile, testing::ValuesIn(kBreakages),
                         [](const auto& info) { return info.param.name; });

// <|end|> has the id 0.
TEST(TokenizerJson, BeginAndEndAreReadOfEveryKindOfPostProcessor) {
  const std::vector<int32_t> plain = *Tokenizer::from_json(sound_file())->encode("the lazy", {});
  const Json special = {{"<|end|>", {{"id", "<|end|>"}, {"ids", {0}}, {"tokens", {"<|end|>"}}}}};
  const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
             end = {{"SpecialToken", {{"id", "<|end|>"}, {"type_id", 0}}}};
  const auto encoded = [](const Json& post_processor) {
    Json json = Json::parse(sound_file());
    json["post_processor"] = post_processor;
    const auto tokenizer = Tokenizer::from_json(json.dump());
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    return tokenizer.ok() ? *tokenizer->encode("the lazy", {.add_special = true}) : std::vector<int32_t>();
  };
  std::vector<int32_t> both = plain, behind = plain;
  both.insert(both.begin(), 0);
  both.push_back(0);
  behind.push_back(0);
  EXPECT_EQ(encoded(nullptr), plain);
  for (const char* type : {"RobertaProcessing", "BertProcessing"})
    EXPECT_EQ(encoded({{"type", type}, {"cls", {"<|end|>", 0}}, {"sep", {"<|end|>", 0}}}), both) << type;
  EXPECT_EQ(encoded({{"type", "TemplateProcessing"},
                     {"single", Json::array({text, end})},
                     {"pair", Json::array()},
                     {"special_tokens", special}}),
            behind);
}

TEST(TokenizerJson, CutFilesAreRefused) {
  const std::string file = sound_file();
  const size_t last_brace = file.rfind('}');
  for (size_t size = 0; size <= last_brace; size += 97) {
    const auto tokenizer = Tokenizer::from_json(std::string_view(file).substr(0, size));
    ASSERT_FALSE(tokenizer.ok()) << size;
    EXPECT_EQ(tokenizer.status().code(), ErrorCode::kCorrupt);
    EXPECT_NE(tokenizer.status().message().find("not JSON"), std::string::npos) << tokenizer.status().message();
  }
}

TEST(TokenizerJson, InvalidUtf8IsRefused) {
  std::string file = sound_file();
  file[file.find("<|end|>") + 3] = '\xFF';
  EXPECT_NE(Tokenizer::from_json(file).status().message().find("ill-formed UTF-8"), std::string::npos);
}

TEST(TokenizerJson, AKeyTwiceIsRefused) {
  std::string file = sound_file();
  const size_t vocab = file.find("\"vocab\": {") + 10;
  file.insert(vocab, "\"a\": 259, ");
  EXPECT_TRUE(Tokenizer::from_json(file).status().message().starts_with("$.model.vocab: the key \"a\" stands twice"));
}

TEST(TokenizerJson, DeepNestingIsNoTrap) {
  const std::string deep(1 << 20, '[');
  EXPECT_FALSE(Tokenizer::from_json(deep).ok());
}

TEST(TokenizerJson, ChangedBytesNeverCrash) {
  const std::string file = sound_file();
  const RngKey key{.seed = 2};
  for (uint64_t trial = 0; trial < 1500; ++trial) {
    std::string changed = file;
    for (uint64_t i = 0; i < 1 + trial % 3; ++i) {
      changed[random_bits(key, trial * 8 + 2 * i) % changed.size()] =
          static_cast<char>(random_bits(key, trial * 8 + 2 * i + 1));
    }
    const auto tokenizer = Tokenizer::from_json(changed);
    if (!tokenizer.ok()) continue;
    EXPECT_TRUE(Tokenizer::from_json(tokenizer->to_json()).ok());
  }
}

TEST(TokenizerJson, ReadsMergesAsArraysAndGapsBetweenIds) {
  Json json = Json::parse(sound_file());
  for (Json& merge : json["model"]["merges"]) {
    const std::string text = merge;
    merge = {text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)};
  }
  json["model"]["vocab"]["zz"] = 400;
  const auto tokenizer = Tokenizer::from_json(json.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_EQ(tokenizer->vocab_size(), 401);
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{300, 400}), "zz");
  EXPECT_EQ(Tokenizer::from_json(tokenizer->to_json())->to_json(), tokenizer->to_json());
}

TEST(TokenizerJson, AVocabularyWithoutSomeBytesSaysWhichIsMissing) {
  Json json = Json::parse(sound_file());
  json["model"]["vocab"].erase("Q");
  const auto tokenizer = Tokenizer::from_json(json.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_FALSE(tokenizer->encodes_any_bytes());
  std::vector<int32_t> ids;
  EXPECT_NE(tokenizer->encode("the Q", ids).message().find("text at byte 4: 'Q'"), std::string::npos);
  EXPECT_EQ(tokenizer->decode(ids), "the ");
}

}  // namespace
}  // namespace colossus
