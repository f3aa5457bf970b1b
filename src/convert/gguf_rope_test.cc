#include "convert/gguf_rope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace colossus {
namespace {

using testing::HasSubstr;

// 32 pairs, of which neighbours turn 0.75 times as fast; within 8192 tokens the 22nd to 24th turn 2.32, 1.74 and 1.30
// times.
ModelConfig model_of(double factor, double low_turns, double high_turns, int64_t tokens) {
  ModelConfig m;
  m.head_dim = 64;
  m.rope_theta = 10000;
  m.rope_factor = factor;
  m.rope_low_turns = low_turns;
  m.rope_high_turns = high_turns;
  m.rope_original_context = tokens;
  return m;
}

ModelConfig plain() { return model_of(1, 1, 4, 8192); }

// The network that a table is taken for makes the same table.
void expect_taken(const std::vector<float>& table, double factor) {
  ModelConfig taken = plain();
  const Status status = take_rope_freqs(table, taken);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_NEAR(taken.rope_factor, factor, 1e-4);
  EXPECT_GT(taken.rope_low_turns, 0);
  EXPECT_GT(taken.rope_high_turns, taken.rope_low_turns);
  const std::vector<float> again = rope_freqs_of(taken);
  ASSERT_EQ(again.size(), table.size());
  for (size_t i = 0; i < table.size(); ++i) EXPECT_NEAR(again[i] / table[i], 1, 2e-5) << "pair " << i;
}

TEST(GgufRope, TablesOfAStretchThatIsWrittenDownAreTakenAsItIs) {
  const ModelConfig model = model_of(8, 1, 4, 4096);
  ModelConfig taken = plain();
  ASSERT_TRUE(take_rope_freqs(rope_freqs_of(model), taken).ok());
  EXPECT_EQ(taken.rope_factor, 8);
  EXPECT_EQ(taken.rope_low_turns, 1);
  EXPECT_EQ(taken.rope_high_turns, 4);
  EXPECT_EQ(taken.rope_original_context, 4096);
}

TEST(GgufRope, OtherStretchesAreFoundByThePairsBetween) {
  expect_taken(rope_freqs_of(model_of(8, 1.2, 2.2, 8192)), 8);  // two pairs between fast and slow
  expect_taken(rope_freqs_of(model_of(8, 1.5, 2.0, 8192)), 8);  // one
  expect_taken(rope_freqs_of(model_of(8, 1.8, 2.2, 8192)), 8);  // none
  expect_taken(rope_freqs_of(model_of(2.5, 1.2, 2.2, 8192)), 2.5);
}

TEST(GgufRope, TablesOfOnesChangeNothing) {
  ModelConfig taken = plain();
  ASSERT_TRUE(take_rope_freqs(std::vector<float>(32, 1.0F), taken).ok());
  EXPECT_EQ(taken.rope_factor, 1);
  EXPECT_TRUE(rope_freqs_of(taken).empty());
}

TEST(GgufRope, OtherTablesAreRefusedAndLeaveTheNetworkAsItWas) {
  ModelConfig m = plain();
  const auto refusal = [&](const std::vector<float>& table) {
    const Status status = take_rope_freqs(table, m);
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(m.rope_factor, 1);
    return status.message();
  };
  EXPECT_THAT(refusal(std::vector<float>(31, 8.0F)), HasSubstr("has 31 numbers; needed 32"));
  EXPECT_THAT(refusal({}), HasSubstr("has 0 numbers"));
  std::vector<float> table(32, 1.0F);
  for (const float wrong : {0.5F, 0.0F, -8.0F, std::nanf(""), HUGE_VALF}) {
    table[7] = wrong;
    EXPECT_THAT(refusal(table), HasSubstr("only pairs that turn slower are there"));
  }
  // Slow, fast, slow again: no line from one to the other.
  for (size_t i = 0; i < table.size(); ++i) table[i] = i % 2 == 0 ? 1.0F : 8.0F;
  EXPECT_THAT(refusal(table), HasSubstr("is no stretch of the rotary embedding"));
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<float>(i + 1);
  EXPECT_THAT(refusal(table), HasSubstr("is no stretch of the rotary embedding"));
}

}  // namespace
}  // namespace colossus
