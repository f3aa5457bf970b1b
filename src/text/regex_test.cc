// Our expressions against PCRE2, where both mean the same.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <gtest/gtest.h>
#include <pcre2.h>

#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "text/utf8.h"

namespace colossus {
namespace {

using Matches = std::vector<std::pair<size_t, size_t>>;

Matches matches_of(const Regex& regex, std::string_view text) {
  Matches matches;
  const Status status = regex.for_each_match(text, [&](size_t begin, size_t end) { matches.emplace_back(begin, end); });
  EXPECT_TRUE(status.ok()) << status.message();
  return matches;
}

Matches matches_of_pcre2(const std::string& pattern, std::string_view text) {
  int error = 0;
  size_t offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset, nullptr);
  EXPECT_NE(code, nullptr) << pattern << " at " << offset;
  pcre2_match_data* data = pcre2_match_data_create(16, nullptr);
  Matches matches;
  for (size_t at = 0; at < text.size();) {
    if (pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at, PCRE2_NOTEMPTY, data, nullptr) <
        0)
      break;
    const size_t* found = pcre2_get_ovector_pointer(data);
    matches.emplace_back(found[0], found[1]);
    at = found[1];
  }
  pcre2_match_data_free(data);
  pcre2_code_free(code);
  return matches;
}

TEST(Regex, AgreesWithPcre2) {
  const std::vector<std::string> patterns = {
      R"('s|'t|'re| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
      R"((?i:'s|'ll)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++(?!\S)|\s+)",
      R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+)",
      R"((ab|a)(c|bcd)*d?)",
      R"((?:a|b|ab)+?c)",
      R"(a{2,3}b{0,2}|b{2}|(?:ab){2,}|(?:ba){1,2}?a)",
      R"(\ba\w*\b|\B.)",
      R"(^a+|b+$|\Aa|c\z)",
      R"((?=ab)a|(?!ab)a.|b)",
      R"((?>a+)b|a)",
      R"([^ab]+|[a-c]{2}?)",
      R"((?i:stra|E)|\d\D\d|\S\s\S)",
      R"(\x41|\x{e9}+|[\x{4e00}-\x{9fff}]+)",
      R"((?:a+|b)+c|.)",
      R"(\p{Lu}\p{Ll}*|\P{L}|\p{^Lu}\p{Nd}?)",
      R"(\p{Han}+|[\p{Hiragana}\p{Katakana}]+)",
  };
  const std::vector<std::string> alphabet = {"a", "a", "b",      "b",      "c",      "d",      " ",     " ", "\n",
                                             "'", "s", "S",      "l",      "L",      "1",      "2",     "A", "E",
                                             "-", "!", "\u00e9", "\u4e2d", "\u3042", "\u30a2", "\u0301"};
  for (size_t p = 0; p < patterns.size(); ++p) {
    const auto regex = Regex::compile(patterns[p]);
    ASSERT_TRUE(regex.ok()) << regex.status().message();
    const RngKey key{.seed = 11, .step = p};
    uint64_t draw = 0;
    for (int trial = 0; trial < 3000; ++trial) {
      std::string text;
      const uint32_t length = 1 + random_bits(key, draw++) % 12;
      for (uint32_t i = 0; i < length; ++i) text += alphabet[random_bits(key, draw++) % alphabet.size()];
      ASSERT_EQ(matches_of(*regex, text), matches_of_pcre2(patterns[p], text)) << patterns[p] << " in '" << text << "'";
    }
  }
}

TEST(Regex, ClassesIntersectAsInRuby) {
  const auto regex = Regex::compile(R"([\p{Lo}&&[^\p{Han}]]+|[a-z&&[^aeiou]&&[^x]])");
  ASSERT_TRUE(regex.ok()) << regex.status().message();
  EXPECT_EQ(matches_of(*regex, "\u3042\u4e2daxb"), (Matches{{0, 3}, {8, 9}}));
}

TEST(Regex, BytesThatAreNoCharactersAreOneEach) {
  EXPECT_EQ(matches_of(Regex::compile(R"([^a]+b|\P{L})").value(),
                       "\xC3\xA9\xFF\xE4\xB8"
                       "ba\xFF"),
            (Matches{{0, 6}, {7, 8}}));
}

TEST(Regex, WhatIsNotUnderstoodIsRefused) {
  const struct {
    const char* pattern;
    const char* message;
  } kCases[] = {
      {"", "may match nothing"},
      {"a*", "may match nothing"},
      {"a|", "may match nothing"},
      {"(a", "a ( without its )"},
      {"a)", "a ) without its ("},
      {"[a", "a [ without its ]"},
      {"[]", "an empty class"},
      {"[b-a]", "ends before it begins"},
      {"(?<=a)b", "this kind of group"},
      {"(a)\\1", "\\1 is not supported"},
      {"\\p{Klingon}", "'Klingon'"},
      {"+a", "nothing to repeat"},
      {"(?:a?)+", "a repeat of what may match nothing"},
      {"a{3,2}", "wanted {least,most}"},
      {"a{2000}", "wanted a count"},
      {"(?:(?:a{9}b){999}c){999}", "too large"},
      {"\\p{N}{1,3}+", "{..}+"},
      {"[[:alpha:]]", "[:..:]"},
      {"a\\", "a backslash at the end"},
      {"\xFF", "not UTF-8"},
      {"\\xZZ", "no such character"},
  };
  for (const auto& [pattern, message] : kCases) {
    const auto regex = Regex::compile(pattern);
    ASSERT_FALSE(regex.ok()) << pattern;
    EXPECT_NE(regex.status().message().find(message), std::string::npos) << regex.status().message();
  }
  EXPECT_FALSE(Regex::compile(std::string(100000, '(')).ok());
  EXPECT_FALSE(Regex::compile(std::string(5000, '(') + "a" + std::string(5000, ')')).ok());
  std::string alternatives = "a";
  for (int i = 0; i < 2000; ++i) alternatives += "|b";
  EXPECT_FALSE(Regex::compile(alternatives).ok());
}

TEST(Regex, ARunawayEndsInAnError) {
  const auto regex = Regex::compile("(?:a|aa)+b|(?:a+a+)+c");
  ASSERT_TRUE(regex.ok());
  const Status status = regex->for_each_match(std::string(5000, 'a'), [](size_t, size_t) {});
  EXPECT_EQ(status.code(), ErrorCode::kExhausted);
  EXPECT_NE(status.message().find("runs away"), std::string::npos) << status.message();
}

TEST(Regex, AMegabyteOfOneCharacterIsNoTrap) {
  const auto regex = Regex::compile(R"( ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+)");
  ASSERT_TRUE(regex.ok());
  for (const char* c : {"a", " ", "\n", "!", "\u4e2d"}) {
    std::string text;
    while (text.size() < (1 << 20)) text += c;
    EXPECT_EQ(matches_of(*regex, text), (Matches{{0, text.size()}})) << c;
  }
}

}  // namespace
}  // namespace colossus
