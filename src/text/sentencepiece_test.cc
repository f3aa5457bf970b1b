// Our reader of SentencePiece's models against SentencePiece.
#include "text/sentencepiece.h"

#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <filesystem>

#include "base/rng.h"
#include "io/file_system.h"
#include "text/tokenizer_convert.h"

namespace colossus {
namespace {

const std::string kShared = COLOSSUS_SOURCE_DIR "/../shared/data";

std::string shared_file(const std::string& name) {
  auto text = read_file(local_files(), kShared + "/" + name);
  CHECK(text.ok(), name.c_str());
  return std::move(*text);
}

// A small model of known pieces.
SentencePieceModel small_model(SentencePieceModel::Type type) {
  SentencePieceModel model;
  const auto add = [&](std::string text, float score, PieceType kind = PieceType::kNormal) {
    model.pieces.push_back({std::move(text), score, kind});
  };
  add("<unk>", 0, PieceType::kUnknown);
  add("<s>", 0, PieceType::kControl);
  add("</s>", 0, PieceType::kControl);
  add("<mask>", 0, PieceType::kUserDefined);
  add("  ", 0, PieceType::kUserDefined);
  for (const char* text :
       {"\u2581a", "ab", "\u2581ab", "aba", "ba", "\u2581\u2581", "abab", "a", "b", "\u2581", "c", "\u00e9"}) {
    add(text, -static_cast<float>(model.pieces.size()) / 3);
  }
  model.type = static_cast<uint64_t>(type);
  model.remove_extra_whitespaces = false;
  return model;
}

void add_byte_pieces(SentencePieceModel& model) {
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof(name), "<0x%02X>", byte);
    model.pieces.push_back({name, 0, PieceType::kByte});
  }
  model.byte_fallback = true;
}

std::string random_text(uint64_t trial) {
  static const char* const kParts[] = {"a",      "b",       "ab",     "ba",     " ",      "  ",     "c",
                                       "\u00e9", "e\u0301", "\u4e2d", "\u2581", "\n",     "<mask>", "<s>",
                                       "<unk>",  "<0x41>",  "\uff21", "\u3000", "\ufb01", "x"};
  const RngKey key{.seed = 5, .step = trial};
  std::string text;
  const uint32_t length = random_bits(key, 0) % 16;
  for (uint32_t i = 0; i < length; ++i) text += kParts[random_bits(key, 1 + i) % std::size(kParts)];
  return text;
}

void expect_agreement(const std::string& model, const std::vector<std::string>& texts) {
  sentencepiece::SentencePieceProcessor oracle;
  ASSERT_TRUE(oracle.LoadFromSerializedProto(model).ok());
  const auto tokenizer = tokenizer_from_sentencepiece(model);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  for (const std::string& text : texts) {
    const std::vector<int> wanted = oracle.EncodeAsIds(text);
    const auto ids = tokenizer->encode(text);
    ASSERT_TRUE(ids.ok()) << ids.status().message();
    ASSERT_TRUE(*ids == wanted) << text.substr(0, 300)
                                << testing::PrintToString(std::vector<int32_t>(
                                       ids->begin(), ids->begin() + std::min<size_t>(40, ids->size())))
                                << testing::PrintToString(wanted);
    std::string back;
    ASSERT_TRUE(oracle.Decode(wanted, &back).ok());
    ASSERT_TRUE(tokenizer->decode(*ids, {.skip_special = true}) == back) << text.substr(0, 300);
  }
}

TEST(SentencePiece, SmallModelsAgree) {
  std::vector<std::string> texts;
  for (uint64_t trial = 0; trial < 2000; ++trial) texts.push_back(random_text(trial));
  for (const auto type : {SentencePieceModel::Type::kBpe, SentencePieceModel::Type::kUnigram}) {
    for (int settings = 0; settings < 16; ++settings) {
      SentencePieceModel model = small_model(type);
      model.add_dummy_prefix = (settings & 1) != 0;
      model.remove_extra_whitespaces = (settings & 2) != 0;
      model.whitespace_as_suffix = (settings & 4) != 0;
      if ((settings & 8) != 0) add_byte_pieces(model);
      SCOPED_TRACE(settings);
      expect_agreement(write_sentencepiece(model), texts);
    }
  }
}

TEST(SentencePiece, PublishedModelsAgreeOnAllTexts) {
  if (!std::filesystem::exists(kShared)) GTEST_SKIP() << "needs ../shared";
  std::vector<std::string> texts;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kShared + "/text")) {
    if (!entry.is_regular_file()) continue;
    auto text = read_file(local_files(), entry.path());
    ASSERT_TRUE(text.ok());
    texts.push_back(text->substr(0, 1 << 18));  // the whole files are held to it by tests/oracle/compare_tokenizers.py
  }
  ASSERT_GT(texts.size(), 40u);
  for (const char* name : {"grok1_tokenizer", "test_model", "test_ja_model"}) {
    SCOPED_TRACE(name);
    expect_agreement(shared_file(std::string("tokenizers/sentencepiece/") + name + ".model"), texts);
  }
}

TEST(SentencePiece, SurvivesTokenizerJson) {
  for (const auto type : {SentencePieceModel::Type::kBpe, SentencePieceModel::Type::kUnigram}) {
    SentencePieceModel model = small_model(type);
    add_byte_pieces(model);
    const auto tokenizer = tokenizer_from_sentencepiece(write_sentencepiece(model));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    const auto again = Tokenizer::from_json(tokenizer->to_json());
    ASSERT_TRUE(again.ok()) << again.status().message();
    EXPECT_EQ(again->to_json(), tokenizer->to_json());
    const auto portable = portable_json(*tokenizer);
    ASSERT_TRUE(portable.ok()) << portable.status().message();
    EXPECT_EQ(portable->differences.empty(), false);  // user-defined pieces
    const auto spelled = Tokenizer::from_json(portable->json);
    ASSERT_TRUE(spelled.ok()) << spelled.status().message();
    for (const char* text : {"abab ab c\u00e9", " aba", "", "ba\u4e2d"}) {
      EXPECT_EQ(again->encode(text).value(), tokenizer->encode(text).value());
      EXPECT_EQ(spelled->encode(text).value(), tokenizer->encode(text).value()) << text;
      EXPECT_EQ(spelled->decode(spelled->encode(text).value()), tokenizer->decode(tokenizer->encode(text).value()));
    }
  }
}

TEST(SentencePiece, SpansNameTheText) {
  SentencePieceModel model = small_model(SentencePieceModel::Type::kBpe);
  add_byte_pieces(model);
  const auto tokenizer = tokenizer_from_sentencepiece(write_sentencepiece(model));
  ASSERT_TRUE(tokenizer.ok());
  const auto encoding = tokenizer->encode_with_spans("ab \u4e2d");
  ASSERT_TRUE(encoding.ok());
  // U+2581 "ab", U+2581, three bytes
  ASSERT_EQ(encoding->ids, tokenizer->encode("ab \u4e2d").value());
  EXPECT_EQ(encoding->spans, (std::vector<TextSpan>{{0, 2}, {2, 3}, {3, 6}, {3, 6}, {3, 6}}));
}

TEST(SentencePiece, BrokenFilesAreRefused) {
  const std::string sound = write_sentencepiece(small_model(SentencePieceModel::Type::kUnigram));
  for (size_t size = 0; size < sound.size(); size += 3) {
    const auto tokenizer = tokenizer_from_sentencepiece(std::string_view(sound).substr(0, size));
    if (!tokenizer.ok()) continue;
    EXPECT_TRUE(tokenizer->encode("ab").ok());  // cut between fields
  }
  const RngKey key{.seed = 8};
  for (uint64_t trial = 0; trial < 20000; ++trial) {
    std::string changed = sound;
    changed[random_bits(key, 2 * trial) % changed.size()] = static_cast<char>(random_bits(key, 2 * trial + 1));
    const auto tokenizer = tokenizer_from_sentencepiece(changed);
    if (!tokenizer.ok()) continue;
    std::vector<int32_t> ids;
    if (tokenizer->encode(" ab aba\u00e9<mask>  \xFF", ids).ok()) tokenizer->decode(ids);
  }
  const auto message = [](const SentencePieceModel& model) {
    return tokenizer_from_sentencepiece(write_sentencepiece(model)).status().message();
  };
  SentencePieceModel model = small_model(SentencePieceModel::Type::kWord);
  EXPECT_NE(message(model).find("the model's type is 3"), std::string::npos);
  model = small_model(SentencePieceModel::Type::kBpe);
  model.pieces[7].type = PieceType::kUnused;
  EXPECT_NE(message(model).find("unused"), std::string::npos);
  model = small_model(SentencePieceModel::Type::kBpe);
  model.pieces[7].text = "qq";
  EXPECT_NE(message(model).find("'q' is no piece by itself"), std::string::npos);
  model.pieces[0].type = PieceType::kNormal;
  EXPECT_FALSE(tokenizer_from_sentencepiece(write_sentencepiece(model)).ok());
  model = small_model(SentencePieceModel::Type::kBpe);
  model.charsmap = std::string("\x08\x00\x00\x00\xFF\xFF\xFF\xFF", 8);
  EXPECT_NE(message(model).find("the map of characters"), std::string::npos);
}

}  // namespace
}  // namespace colossus
