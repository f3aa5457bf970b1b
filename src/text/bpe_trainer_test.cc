#include "text/bpe_trainer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/rng.h"
#include "text/byte_alphabet.h"

namespace colossus {
namespace {

const std::string kShared = COLOSSUS_SOURCE_DIR "/../shared/data";

Result<TrainedTokenizer> train(const BpeTrainOptions& options, const std::vector<std::string>& documents) {
  const auto source = [&](DocumentSink sink) {
    for (const std::string& document : documents) RETURN_IF_ERROR(sink(document));
    return ok_status();
  };
  return train_bpe(options, source, [](const TrainProgress&) {});
}

// Training by its definition: count all pairs anew for every merge.
std::vector<std::pair<std::string, std::string>> train_plainly(const std::vector<std::string>& documents,
                                                               SplitPattern pattern, size_t num_merges,
                                                               int64_t min_count) {
  std::map<std::string, int64_t> counts;
  for (const std::string& text : documents) {
    for_each_piece(split_function(pattern), text, 0,
                   [&](size_t begin, size_t end) { ++counts[text.substr(begin, end - begin)]; });
  }
  std::vector<std::pair<std::vector<std::string>, int64_t>> words;
  for (const auto& [piece, count] : counts) {
    words.emplace_back();
    for (const char byte : piece) words.back().first.emplace_back(1, byte);
    words.back().second = count;
  }
  std::vector<std::pair<std::string, std::string>> merges;
  while (merges.size() < num_merges) {
    std::map<std::pair<std::string, std::string>, int64_t> pairs;
    for (const auto& [word, count] : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) pairs[{word[i], word[i + 1]}] += count;
    }
    auto best = pairs.end();
    for (auto it = pairs.begin(); it != pairs.end(); ++it) {
      if (it->second >= min_count && (best == pairs.end() || it->second >= best->second))
        best = it;  // the greatest pair
    }
    if (best == pairs.end()) break;
    merges.push_back(best->first);
    for (auto& [word, count] : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) {
        if (word[i] != best->first.first || word[i + 1] != best->first.second) continue;
        word[i] += word[i + 1];
        word.erase(word.begin() + i + 1);
      }
    }
  }
  return merges;
}

std::vector<std::pair<std::string, std::string>> merges_of(const Tokenizer& tokenizer) {
  std::vector<std::pair<std::string, std::string>> merges;
  for (const auto& [left, right] : tokenizer.spec().merges) {
    merges.emplace_back(tokenizer.token_bytes(left), tokenizer.token_bytes(right));
  }
  return merges;
}

TEST(BpeTrainer, ReproducesTheReferenceVocabularyAndMerges) {
  const std::string folder = kShared + "/tokenizers/bpe_train";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "needs ../shared";
  const auto corpus = read_file(local_files(), folder + "/corpus.en");
  const auto merges = read_file(local_files(), folder + "/train-bpe-reference-merges.txt");
  const auto vocab = read_file(local_files(), folder + "/train-bpe-reference-vocab.json");
  ASSERT_TRUE(corpus.ok() && merges.ok() && vocab.ok());
  for (const int num_threads : {1, 3}) {
    const auto trained = train({.vocab_size = 500,
                                .pattern = SplitPattern::kGpt2,
                                .special_tokens = {"<|endoftext|>"},
                                .num_threads = num_threads},
                               {*corpus});
    ASSERT_TRUE(trained.ok()) << trained.status().message();
    std::string got;
    for (const auto& [left, right] : merges_of(trained->tokenizer)) {
      append_byte_alphabet(got, left);
      got += ' ';
      append_byte_alphabet(got, right);
      got += '\n';
    }
    EXPECT_EQ(got, *merges);
    EXPECT_EQ(nlohmann::json::parse(trained->tokenizer.to_json())["model"]["vocab"], nlohmann::json::parse(*vocab));
  }
}

TEST(BpeTrainer, AgreesWithCountingAnewEachTime) {
  const RngKey key{.seed = 21};
  uint64_t draw = 0;
  for (int trial = 0; trial < 30; ++trial) {
    // Few letters, long runs: overlapping pairs (aaaa, abab) and ties everywhere.
    std::vector<std::string> documents(3);
    for (std::string& document : documents) {
      for (int i = 0; i < 400; ++i) {
        const uint32_t pick = random_bits(key, draw++);
        document.append(1 + (pick >> 8) % 4, "aaab c\n"[pick % 7]);
      }
    }
    const int64_t min_count = 1 + trial % 3;
    const auto expected = train_plainly(documents, SplitPattern::kCl100k, 60, min_count);
    for (const int num_threads : {1, 2, 3}) {
      const auto trained =
          train({.vocab_size = 256 + 60, .num_threads = num_threads, .min_count = min_count}, documents);
      ASSERT_TRUE(trained.ok());
      ASSERT_EQ(merges_of(trained->tokenizer), expected) << "trial " << trial;
    }
  }
}

TEST(BpeTrainer, StopsWhenNothingIsLeftToMerge) {
  const auto trained = train({.vocab_size = 1000}, {"abab abab"});
  ASSERT_TRUE(trained.ok());
  EXPECT_EQ(merges_of(trained->tokenizer),
            (std::vector<std::pair<std::string, std::string>>{{"a", "b"}, {"ab", "ab"}}));
  EXPECT_EQ(trained->tokenizer.vocab_size(), 258);
}

TEST(BpeTrainer, SpecialTokensNeverEnterMerges) {
  std::string text;
  for (int i = 0; i < 50; ++i) text += "x<|end|>y";
  const auto trained = train({.vocab_size = 300, .special_tokens = {"<|end|>", "<|bos|>"}}, {text});
  ASSERT_TRUE(trained.ok());
  EXPECT_TRUE(trained->tokenizer.spec().merges.size() == 1) << "only yx, between two markers, is a pair";
  EXPECT_EQ(trained->tokenizer.special("<|end|>"), 0);
  EXPECT_EQ(trained->tokenizer.special("<|bos|>"), 1);
}

TEST(BpeTrainer, ForgetsTheRarestTheSameForAnyNumberOfThreads) {
  std::vector<std::string> documents;
  const RngKey key{.seed = 4};
  uint64_t draw = 0;
  for (int i = 0; i < 300; ++i) {
    documents.emplace_back();
    for (int word = 0; word < 200; ++word) {
      const uint32_t pick = random_bits(key, draw++);
      documents.back() += " w" + std::to_string(pick % 2 ? pick >> 20 : 7 * (pick >> 28));
    }
  }
  std::string first;
  for (const int num_threads : {1, 2, 4}) {
    const auto trained =
        train({.vocab_size = 400, .pattern = SplitPattern::kNone, .num_threads = num_threads}, documents);
    const auto bounded = train({.vocab_size = 400, .num_threads = num_threads, .max_memory_bytes = 20000}, documents);
    ASSERT_TRUE(trained.ok() && bounded.ok());
    EXPECT_GT(bounded->forgotten_up_to, 0);
    EXPECT_EQ(trained->forgotten_up_to, 0);
    if (first.empty()) first = bounded->tokenizer.to_json();
    EXPECT_EQ(bounded->tokenizer.to_json(), first);
  }
}

TEST(BpeTrainer, RefusesBadOptions) {
  EXPECT_NE(train({.vocab_size = 255}, {"a"}).status().message().find("wanted 256"), std::string::npos);
  EXPECT_NE(train({.special_tokens = {"x"}}, {"a"}).status().message().find("special token 'x'"), std::string::npos);
  EXPECT_NE(train({.special_tokens = {"<a>", "<a>"}}, {"a"}).status().message().find("named twice"), std::string::npos);
  EXPECT_NE(train({}, {}).status().message().find("no text"), std::string::npos);
  const auto broken = train_bpe(
      {}, [](DocumentSink) { return not_found("gone"); }, [](const TrainProgress&) {});
  EXPECT_EQ(broken.status().message(), "gone");
}

TEST(CharacterTrainer, HasOneTokenPerCharacter) {
  const std::string path = kShared + "/text/en/tinyshakespeare.txt";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "needs ../shared";
  const auto text = read_file(local_files(), path);
  ASSERT_TRUE(text.ok());
  const auto trained = train_characters(
      {}, [&](DocumentSink sink) { return sink(*text); }, [](const TrainProgress&) {});
  ASSERT_TRUE(trained.ok());
  EXPECT_EQ(trained->tokenizer.vocab_size(), 65);
  EXPECT_EQ(trained->tokenizer.token_bytes(0), "\n");
  const auto ids = trained->tokenizer.encode(*text);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(ids->size(), text->size());
  EXPECT_EQ(trained->tokenizer.decode(*ids), *text);
}

TEST(CharacterTrainer, RefusesWhatItDoesNotKnow) {
  const std::string text = "gr\u00FC\u00DFe, \u4E16\u754C";
  const auto source = [&](DocumentSink sink) { return sink(text); };
  const auto trained = train_characters({"<|bos|>"}, source, [](const TrainProgress&) {});
  ASSERT_TRUE(trained.ok());
  EXPECT_EQ(trained->tokenizer.vocab_size(), 1 + 9);
  const auto again = Tokenizer::from_json(trained->tokenizer.to_json());
  ASSERT_TRUE(again.ok()) << again.status().message();
  std::vector<int32_t> ids;
  EXPECT_TRUE(again->encode(text, ids).ok());
  EXPECT_EQ(again->decode(ids), text);
  const Status unknown = again->encode("gr\u00FCn", ids);
  EXPECT_NE(unknown.message().find("text at byte 4: 'n'"), std::string::npos) << unknown.message();
  EXPECT_NE(again->encode("r\xFF", ids).message().find("text at byte 1: bytes FF"), std::string::npos);

  const auto bad = train_characters(
      {}, [](DocumentSink sink) { return sink("ab\x80"); }, [](const TrainProgress&) {});
  EXPECT_NE(bad.status().message().find("byte 2: 0x80 is not UTF-8"), std::string::npos) << bad.status().message();
}

}  // namespace
}  // namespace colossus
