// Models of others through the binary: taken over, or run where they lie.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "place.h"

namespace colossus {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

const std::string kStories = COLOSSUS_SOURCE_DIR "/../shared/data/weights/stories260K";

std::string trimmed(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

class Stories : public testing::Test {
 protected:
  void SetUp() override {
    if (!local_files().stat(kStories).ok()) GTEST_SKIP() << kStories << " is not there";
    place_.must_succeed({"import", kStories + "/stories260K.bin", "stories", "--tokenizer", kStories + "/tok512.bin"});
    expected_ = trimmed(*read_file(local_files(), kStories + "/expected_greedy_200.txt"));
  }
  std::string tell(std::vector<std::string> words) {
    words.insert(words.end(), {"--temperature", "0", "--max-tokens", "200", "--context", "256"});
    return trimmed(place_.must_succeed(std::move(words)).out);
  }

  Place place_;
  std::string expected_;  // what its own program prints
};

TEST_F(Stories, AnEmptyPromptIsTheBeginningOfAText) {
  EXPECT_EQ(tell({"generate", "stories", "--prompt", ""}), expected_);
  EXPECT_EQ(tell({"generate", "stories"}), expected_);
}

// The first words of the story lead to the rest of it only behind the token that begins texts.
TEST_F(Stories, PromptsBeginAsTheTokenizerSays) {
  const std::string first = expected_.substr(0, expected_.find(',') + 1);
  ASSERT_GT(first.size(), 3U);
  EXPECT_THAT(tell({"generate", "stories", "--prompt", first}), StartsWith(expected_));
}

TEST_F(Stories, ATextEndsAtAnyOfItsEndTokens) {
  const auto told = [&](const std::string& model) {
    return nlohmann::json::parse(
        place_.must_succeed({"generate", model, "--json", "--temperature", "0", "--max-tokens", "40"}).out);
  };
  const auto free = told("stories");
  ASSERT_EQ(free["end"], "max_tokens");
  const auto all = free["tokens"].get<std::vector<int>>();
  place_.must_succeed({"export", "stories", "--out", "hf"});
  place_.write("hf/generation_config.json", nlohmann::json{{"eos_token_id", {2, all[20]}}}.dump());
  place_.must_succeed({"import", "hf", "imported"});
  const std::vector<int> kept(all.begin(), std::find(all.begin(), all.end(), all[20]));
  for (const char* model : {"hf", "imported"}) {
    EXPECT_EQ(told(model)["end"], "stop_token");
    EXPECT_EQ(told(model)["tokens"].get<std::vector<int>>(), kept);
  }
}

TEST_F(Stories, AModelIsRunWhereItLies) {
  EXPECT_EQ(tell({"generate", kStories + "/stories260K.bin", "--tokenizer", kStories + "/tok512.bin", "--prompt", ""}),
            expected_);
  place_.must_succeed({"export", "stories", "--out", "hf"});
  EXPECT_EQ(tell({"generate", "hf", "--prompt", ""}), expected_);
  EXPECT_THAT(place_.must_fail({"generate", "stories", "--tokenizer", "x.bin"}), HasSubstr("[--tokenizer]"));
  EXPECT_THAT(place_.must_fail({"generate", kStories + "/README.md"}), HasSubstr("no model that is known here"));
}

}  // namespace
}  // namespace colossus
