#include "infer/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "infer/testing.h"

namespace colossus {
namespace {

using Tokens = std::vector<int32_t>;

// Random weights with tied embeddings repeat their last token unless the draw is nearly even.
constexpr double kWarm = 40;

// Pieces as a stream shows them, "|" between, the last one from flush().
std::string shown(const std::string& text, std::vector<std::string> stops) {
  const Tokenizer tokenizer = byte_tokenizer();
  TextStream stream(tokenizer, std::move(stops));
  std::string result;
  const auto tokens = tokenizer.encode(text);
  for (const int32_t token : *tokens) result += stream.push(token) + "|";
  return result + stream.flush();
}

std::string without_bars(std::string text) {
  std::erase(text, '|');
  return text;
}

TEST(TextStream, ShowsWholeCharactersOnly) {
  EXPECT_EQ(shown("ab", {}), "a|b|");
  EXPECT_EQ(shown("é", {}), "|é|");
  EXPECT_EQ(shown("a🙂b", {}), "a||||🙂|b|");
  EXPECT_EQ(shown("a\xf0\x9f", {}), "a|||\xef\xbf\xbd");  // what never became a character
}

TEST(TextStream, NeverShowsAPartOfAStopString) {
  EXPECT_EQ(shown("xENDy", {"END"}), "x|||||");
  EXPECT_EQ(shown("xENy", {"END"}), "x|||ENy|");
  EXPECT_EQ(shown("xEN", {"END"}), "x|||EN");
  EXPECT_EQ(shown("EEND", {"END"}), "|E|||");
  EXPECT_EQ(without_bars(shown("aababac", {"abac"})), "aab");
  EXPECT_EQ(without_bars(shown("one two", {"tw", "ne"})), "o");
  EXPECT_EQ(without_bars(shown("one two", {""})), "one two");
  EXPECT_EQ(without_bars(shown("aéb", {"éb"})), "a");
}

class Generate : public testing::Test {
 protected:
  std::vector<Generation> run(const std::vector<Tokens>& prompts, const GenerateOptions& options,
                              const std::atomic<bool>* stop = nullptr) {
    const auto session = model_.session({.batch = static_cast<int64_t>(prompts.size()), .prefill_tokens = 5});
    heard_.assign(prompts.size(), "");
    auto made = generate(
        *session, tokenizer_, prompts, options,
        [&](int64_t sequence, std::string_view text) { heard_[static_cast<size_t>(sequence)] += text; }, stop);
    CHECK(made.ok(), made.status().message().c_str());
    for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(heard_[i], (*made)[i].text);
    return *made;
  }

  RandomModel model_{Family::kGrok2};
  const Tokenizer tokenizer_ = byte_tokenizer();
  std::vector<std::string> heard_;
};

TEST_F(Generate, ABatchIsItsPromptsAlone) {
  const std::vector<Tokens> prompts = {random_tokens(1, 3), random_tokens(2, 11), random_tokens(3, 1)};
  const GenerateOptions greedy{.sampler = {.temperature = 0}, .max_tokens = 12, .stop_ids = {}, .stop_strings = {}};
  const auto together = run(prompts, greedy);
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto alone = run({prompts[i]}, greedy);
    EXPECT_EQ(alone[0].tokens, together[i].tokens) << i;
    EXPECT_EQ(alone[0].tokens.size(), 12u);
    EXPECT_EQ(alone[0].reason, EndReason::kMaxTokens);
  }
  // What stands beside it does not change a sequence's draws.
  GenerateOptions warm = greedy;
  warm.sampler.temperature = kWarm;
  EXPECT_EQ(run({prompts[0]}, warm)[0].tokens, run(prompts, warm)[0].tokens);
  EXPECT_NE(run({prompts[0]}, warm)[0].tokens, together[0].tokens);
}

TEST_F(Generate, StopsWhereItShould) {
  const std::vector<Tokens> prompts = {random_tokens(1, 3)};
  GenerateOptions options{
      .sampler = {.temperature = kWarm, .seed = 4}, .max_tokens = 20, .stop_ids = {}, .stop_strings = {}};
  const Tokens tokens = run(prompts, options)[0].tokens;
  ASSERT_EQ(tokens.size(), 20u);

  options.stop_ids = {tokens[6]};
  const auto by_id = run(prompts, options)[0];
  EXPECT_EQ(by_id.reason, EndReason::kStopToken);
  const auto first = std::find(tokens.begin(), tokens.end(), tokens[6]);
  EXPECT_EQ(by_id.tokens, Tokens(tokens.begin(), first));

  options.stop_ids = {};
  options.max_tokens = 1000;
  const auto full = run(prompts, options)[0];
  EXPECT_EQ(full.reason, EndReason::kContextFull);
  EXPECT_EQ(full.tokens.size(), 48u - 3 + 1);

  options.max_tokens = 0;
  EXPECT_THAT(run(prompts, options)[0].tokens, testing::IsEmpty());

  const std::atomic<bool> stop = true;
  options.max_tokens = 20;
  EXPECT_EQ(run(prompts, options, &stop)[0].reason, EndReason::kInterrupted);
}

// Once the session holds its context in tokens, its logits are those of one token more.
TEST_F(Generate, AFullContextStillGivesTheTokenItPredicts) {
  const Tokens whole = random_tokens(5, 48);
  GenerateOptions greedy{.sampler = {.temperature = 0}, .max_tokens = 9, .stop_ids = {}, .stop_strings = {}};
  const auto session = model_.session();
  const Tokens fed[] = {whole};
  ASSERT_TRUE(session->feed(fed).ok());
  const auto logits = session->logits(0);
  const auto expected = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());

  const auto one = run({whole}, greedy)[0];
  EXPECT_EQ(one.tokens, Tokens{expected});
  EXPECT_EQ(one.reason, EndReason::kContextFull);

  // The tokens of a prompt shorter by some are as many more; what goes on beside it does not end with it.
  const Tokens part(whole.begin(), whole.end() - 4), brief = random_tokens(6, 2);
  const auto two = run({part, brief}, greedy);
  EXPECT_EQ(two[0].tokens.size(), 5u);
  EXPECT_EQ(two[0].reason, EndReason::kContextFull);
  EXPECT_EQ(two[1].tokens.size(), 9u);
  EXPECT_EQ(two[1].reason, EndReason::kMaxTokens);

  greedy.max_tokens = 5;  // as many as were asked for: the context is not what ended it
  EXPECT_EQ(run({part}, greedy)[0].tokens, two[0].tokens);
  EXPECT_EQ(run({part}, greedy)[0].reason, EndReason::kMaxTokens);
}

TEST_F(Generate, StopStringsEndOneSequenceAndNotTheOthers) {
  const std::vector<Tokens> prompts = {random_tokens(1, 3), random_tokens(2, 4)};
  GenerateOptions options{
      .sampler = {.temperature = kWarm, .seed = 4}, .max_tokens = 24, .stop_ids = {}, .stop_strings = {}};
  const auto free = run(prompts, options);
  // A character of the first text that the second does not have.
  std::string stop;
  for (size_t at = 4; at < free[0].text.size() && stop.empty(); ++at) {
    const std::string piece = free[0].text.substr(at, 1);
    if (piece[0] > ' ' && piece[0] < 127 && free[1].text.find(piece) == std::string::npos) stop = piece;
  }
  ASSERT_FALSE(stop.empty()) << free[0].text;
  options.stop_strings = {stop};
  const auto stopped = run(prompts, options);
  EXPECT_EQ(stopped[0].reason, EndReason::kStopString);
  EXPECT_EQ(stopped[0].text, free[0].text.substr(0, free[0].text.find(stop)));
  EXPECT_EQ(stopped[1].reason, EndReason::kMaxTokens);
  EXPECT_EQ(stopped[1].text, free[1].text);
}

TEST_F(Generate, AnEmptyPromptIsRefused) {
  const auto session = model_.session();
  const Tokens prompts[] = {{}};
  EXPECT_THAT(generate(*session, tokenizer_, prompts, {}, [](int64_t, std::string_view) {}).status().message(),
              testing::HasSubstr("at least one"));
}

}  // namespace
}  // namespace colossus
