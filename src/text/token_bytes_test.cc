#include "text/token_bytes.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace colossus {
namespace {

// Tokens around the length that is copied in one go, and more of them than the buffer between holds.
TEST(TokenBytes, AppendsWhatTheTokensAre) {
  TokenBytes tokens;
  std::vector<std::string> wanted;
  for (size_t size : {0, 1, 2, 15, 16, 17, 40, 5000, 3, 16}) {
    wanted.emplace_back(size, static_cast<char>('a' + wanted.size()));
    tokens.add(wanted.back());
  }
  ASSERT_EQ(tokens.num_tokens(), 10);
  for (int32_t id = 0; id < 10; ++id) EXPECT_EQ(tokens.of(id), wanted[static_cast<size_t>(id)]);
  std::vector<int32_t> ids;
  std::string text = "before ", all = text;
  for (uint32_t i = 0; i < 5000; ++i) {
    const int32_t id = static_cast<int32_t>(random_bits({.seed = 9}, i) % 12) - 1;  // -1 and 10 are no tokens
    ids.push_back(id);
    all += id >= 0 && id < 10 ? wanted[static_cast<size_t>(id)] : "\uFFFD";
  }
  tokens.append(ids, text);
  EXPECT_EQ(text, all);
  tokens.append({}, text);
  EXPECT_EQ(text, all);
}

TEST(TokenBytes, WithoutTokensEveryIdIsUnknown) {
  std::string text;
  TokenBytes().append(std::vector<int32_t>{0, 7}, text);
  EXPECT_EQ(text, "\uFFFD\uFFFD");
}

}  // namespace
}  // namespace colossus
