#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "base/rng.h"
#include "io/testing.h"
#include "text/bpe_trainer.h"
#include "text/chat.h"
#include "text/tiktoken.h"

namespace colossus {
namespace {

const std::string kShared = COLOSSUS_SOURCE_DIR "/../shared/data";

Tokenizer trained_tokenizer() {
  std::string text;
  for (int i = 0; i < 30; ++i)
    text += "The quick brown fox, the lazy dog; then 12345 gr\u00FC\u00DFe \u4E16\u754C!\n  aaaa";
  auto trained = train_bpe(
      {.vocab_size = 330, .special_tokens = chat_special_tokens()}, [&](DocumentSink sink) { return sink(text); },
      [](const TrainProgress&) {});
  return std::move(trained.value().tokenizer);
}

std::string shared_file(const std::string& name) {
  auto text = read_file(local_files(), kShared + "/" + name);
  CHECK(text.ok(), name.c_str());
  return std::move(*text);
}

std::vector<int32_t> encoded(const Tokenizer& tokenizer, std::string_view text, EncodeOptions options = {}) {
  return tokenizer.encode(text, options).value();
}

TEST(Tokenizer, Gpt2GivesKnownIds) {
  if (!std::filesystem::exists(kShared)) GTEST_SKIP() << "needs ../shared";
  const auto tokenizer = load_tokenizer(local_files(), kShared + "/tokenizers/gpt2/tokenizer.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_EQ(tokenizer->vocab_size(), 50257);
  EXPECT_EQ(tokenizer->special("<|endoftext|>"), 50256);

  const auto known = nlohmann::json::parse(shared_file("tokenizers/gpt2/gpt2_encoded_tokens.json"));
  EXPECT_EQ(encoded(*tokenizer, known["text"].get<std::string>()), known["token_ids"].get<std::vector<int32_t>>());

  const std::string separator = "\n__ggml_vocab_test__\n";
  const std::string texts = shared_file("tokenizers/llamacpp/ggml-vocab-gpt-2.gguf.inp");
  std::istringstream answers(shared_file("tokenizers/llamacpp/ggml-vocab-gpt-2.gguf.out"));
  int num_cases = 0;
  std::string line;
  for (size_t begin = 0; begin < texts.size() && std::getline(answers, line); ++num_cases) {
    const size_t end = std::min(texts.find(separator, begin), texts.size());
    std::istringstream numbers(line);
    const std::vector<int32_t> wanted{std::istream_iterator<int32_t>(numbers), {}};
    EXPECT_EQ(encoded(*tokenizer, std::string_view(texts).substr(begin, end - begin)), wanted) << "case " << num_cases;
    begin = end + separator.size();
  }
  EXPECT_EQ(num_cases, 46);
}

// Known answers of one encoding in TestPlans.txt; returns how many there were.
int check_plans(const Tokenizer& tokenizer, const std::string& plans, const std::string& encoding) {
  int num_cases = 0;
  const std::string heading = "EncodingName: " + encoding + "\nSample: ";
  for (size_t at = plans.find(heading); at != std::string::npos; at = plans.find(heading, at + 1)) {
    const size_t begin = at + heading.size();
    const size_t end = plans.find("\nEncoded: ", begin);
    const size_t ids_begin = end + std::string_view("\nEncoded: ").size();
    const auto wanted = nlohmann::json::parse(plans.substr(ids_begin, plans.find('\n', ids_begin) - ids_begin));
    const std::string text = plans.substr(begin, end - begin);
    EXPECT_EQ(encoded(tokenizer, text, {.allow_special = true}), wanted.get<std::vector<int32_t>>())
        << encoding << ": " << text;
    ++num_cases;
  }
  return num_cases;
}

TEST(Tokenizer, TiktokenVocabulariesGiveKnownIds) {
  if (!std::filesystem::exists(kShared)) GTEST_SKIP() << "needs ../shared";
  const std::string plans = shared_file("tokenizers/tiktoken/TestPlans.txt");
  const struct {
    const char* name;
    SplitPattern pattern;
    std::vector<AddedToken> added;
    int num_cases;
  } kEncodings[] = {
      {"r50k_base", SplitPattern::kGpt2, {{50256, "<|endoftext|>"}}, 64},
      {"cl100k_base",
       SplitPattern::kCl100k,
       {{100257, "<|endoftext|>"},
        {100258, "<|fim_prefix|>"},
        {100259, "<|fim_middle|>"},
        {100260, "<|fim_suffix|>"},
        {100276, "<|endofprompt|>"}},
       64},
      {"o200k_base", SplitPattern::kO200k, {{199999, "<|endoftext|>"}, {200018, "<|endofprompt|>"}}, 57},
  };
  for (const auto& [name, pattern, added, num_cases] : kEncodings) {
    const auto tokenizer =
        tokenizer_from_tiktoken(shared_file("tokenizers/tiktoken/" + std::string(name) + ".tiktoken"), pattern, added);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    EXPECT_EQ(check_plans(*tokenizer, plans, name), num_cases);
    if (pattern != SplitPattern::kCl100k) continue;
    const auto again = Tokenizer::from_json(tokenizer->to_json());
    ASSERT_TRUE(again.ok()) << again.status().message();
    EXPECT_EQ(again->vocab_size(), 100277);
    EXPECT_EQ(check_plans(*again, plans, name), num_cases);
  }
}

TEST(Tokenizer, EveryFileOfRealTextSurvives) {
  if (!std::filesystem::exists(kShared)) GTEST_SKIP() << "needs ../shared";
  const auto tokenizer = load_tokenizer(local_files(), kShared + "/tokenizers/gpt2/tokenizer.json");
  ASSERT_TRUE(tokenizer.ok());
  int num_files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kShared + "/text")) {
    if (!entry.is_regular_file()) continue;
    const auto text = read_file(local_files(), entry.path());
    ASSERT_TRUE(text.ok());
    EXPECT_TRUE(tokenizer->decode(encoded(*tokenizer, *text)) == *text) << entry.path();
    ++num_files;
  }
  EXPECT_GT(num_files, 40);
}

TEST(Tokenizer, AnyBytesSurvive) {
  const Tokenizer tokenizer = trained_tokenizer();
  EXPECT_TRUE(tokenizer.encodes_any_bytes());
  const RngKey key{.seed = 9};
  std::string text;
  for (int i = 0; i < 200000; ++i) text += static_cast<char>(random_bits(key, i));
  text += "<|end|><|bos|";
  for (const bool allow_special : {false, true}) {
    EXPECT_TRUE(tokenizer.decode(encoded(tokenizer, text, {.allow_special = allow_special})) == text);
  }
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{-1, tokenizer.vocab_size()}), "\uFFFD\uFFFD");
}

TEST(Tokenizer, AMegabyteOfOneCharacterIsNoTrap) {
  const Tokenizer tokenizer = trained_tokenizer();
  for (const char* character : {"a", " ", "\n", "!", "7", "\u4E16"}) {
    std::string text;
    while (text.size() < (1 << 20)) text += character;
    EXPECT_TRUE(tokenizer.decode(encoded(tokenizer, text)) == text);
  }
}

TEST(Tokenizer, SpecialTokensComeOnlyWhereAllowed) {
  const Tokenizer tokenizer = trained_tokenizer();
  const int32_t end = *tokenizer.special("<|end|>");
  const std::vector<int32_t> plain = encoded(tokenizer, "a<|end|>b");
  EXPECT_EQ(std::count(plain.begin(), plain.end(), end), 0);
  const std::vector<int32_t> special = encoded(tokenizer, "a<|end|>b", {.allow_special = true});
  EXPECT_EQ(special, (std::vector<int32_t>{*tokenizer.token_id("a"), end, *tokenizer.token_id("b")}));
  EXPECT_TRUE(tokenizer.is_special(end));
  EXPECT_FALSE(tokenizer.is_special(special[0]));
  EXPECT_FALSE(tokenizer.is_special(-1));
}

TEST(Tokenizer, ThreadsAndTokenizersDoNotDisturbEachOther) {
  const Tokenizer a = trained_tokenizer();
  const auto b = train_bpe(
      {.vocab_size = 262}, [](DocumentSink sink) { return sink("the the the"); }, [](const TrainProgress&) {});
  ASSERT_TRUE(b.ok());
  const std::string text = "the then the lazy dog";
  const std::vector<int32_t> ids_a = encoded(a, text);
  const std::vector<int32_t> ids_b = encoded(b->tokenizer, text);
  ASSERT_NE(ids_a, ids_b);
  std::vector<std::thread> threads;
  std::array<bool, 4> right{};
  for (size_t i = 0; i < right.size(); ++i) {
    threads.emplace_back([&, i] {
      right[i] = true;
      for (int n = 0; n < 200; ++n) right[i] &= encoded(a, text) == ids_a && encoded(b->tokenizer, text) == ids_b;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const bool ok : right) EXPECT_TRUE(ok);
}

TEST(Tokenizer, SurvivesItsFile) {
  const TemporaryDirectory directory;
  const Tokenizer tokenizer = trained_tokenizer();
  ASSERT_TRUE(save_tokenizer(local_files(), directory / "t.json", tokenizer).ok());
  const auto again = load_tokenizer(local_files(), directory / "t.json");
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(again->to_json(), tokenizer.to_json());
  const std::string text = "The lazy fox \u4E16\u754C 1234<|end|>\"\\\x01\n";
  EXPECT_EQ(encoded(*again, text), encoded(tokenizer, text));
  EXPECT_EQ(load_tokenizer(local_files(), directory / "none.json").status().code(), ErrorCode::kNotFound);
}

TEST(Tokenizer, TiktokenFilesAreChecked) {
  const auto message = [](const char* ranks) {
    return tokenizer_from_tiktoken(ranks, SplitPattern::kCl100k, {}).status().message();
  };
  EXPECT_NE(message("YQ== 0\n!!!! 1\n").find("line 2"), std::string::npos);
  EXPECT_NE(message("YQ== 0\nYg== 0\n").find("stands twice"), std::string::npos);
  EXPECT_NE(message("YQ== 4000000000\n").find("out of range"), std::string::npos);
  EXPECT_NE(message("YQ== 0\nYWFh 1\n").find("3 parts"), std::string::npos);
  EXPECT_NE(message("").find("no ranks"), std::string::npos);
}

}  // namespace
}  // namespace colossus
