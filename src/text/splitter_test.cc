// The hand-written splitters against PCRE2 and against our own matcher running the published expressions; and what they
// cost.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/splitter.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <pcre2.h>

#include <filesystem>
#include <memory>
#include <vector>

#include "base/rng.h"
#include "io/file_system.h"
#include "text/regex.h"
#include "text/unicode_classes.h"
#include "text/utf8.h"

namespace colossus {
namespace {

constexpr SplitPattern kPatterns[] = {SplitPattern::kGpt2, SplitPattern::kCl100k, SplitPattern::kQwen2,
                                      SplitPattern::kO200k};

class Pcre2 {
 public:
  explicit Pcre2(const char* regex) {
    int error = 0;
    size_t offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(regex), PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &error,
                              &offset, nullptr));
    CHECK(code_ != nullptr, regex);
    // Without its JIT PCRE2 still answers, only slower.
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
    match_.reset(pcre2_match_data_create(4, nullptr));
  }

  // The end of the match at `begin`; `begin` if there is none. `text` must be UTF-8.
  size_t match_end(std::string_view text, size_t begin) const {
    const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), begin,
                                  PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK, match_.get(), nullptr);
    return found < 0 ? begin : pcre2_get_ovector_pointer(match_.get())[1];
  }

 private:
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
    void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
  };
  std::unique_ptr<pcre2_code, Free> code_;
  std::unique_ptr<pcre2_match_data, Free> match_;
};

std::string utf8(uint32_t code_point) {
  std::string out;
  append_utf8(out, code_point);
  return out;
}

// Where the two differ for the first time, in words; empty when they agree.
std::string first_difference(SplitPattern pattern, const Pcre2& oracle, std::string_view text) {
  std::string difference;
  for_each_piece(split_function(pattern), text, 0, [&](size_t begin, size_t end) {
    const size_t wanted = oracle.match_end(text, begin);
    if (end == wanted || !difference.empty()) return;
    difference = fmt::format("{} at byte {}: got '{}', PCRE2 '{}'", split_pattern_name(pattern), begin,
                             text.substr(begin, end - begin), text.substr(begin, wanted - begin));
  });
  return difference;
}

bool is_code_point(uint32_t c) { return c < 0xD800 || (c > 0xDFFF && c < 0x110000); }

// Code points whose classes PCRE2 (an older Unicode) and our table tell apart: for these no comparison is possible.
std::vector<bool> code_points_of_another_version() {
  const struct {
    Pcre2 regex;
    ClassMask mask;
  } kClasses[] = {{Pcre2(R"([\p{Lu}\p{Lt}])"), kUpper},   {Pcre2(R"(\p{Ll})"), kLower},
                  {Pcre2(R"([\p{Lm}\p{Lo}])"), kNeutral}, {Pcre2(R"(\p{M})"), kMark},
                  {Pcre2(R"(\p{N})"), kNumber},           {Pcre2(R"(\s)"), kSpace}};
  std::vector<bool> differs(0x110000);
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (!is_code_point(c)) continue;
    const std::string text = utf8(c);
    for (const auto& [regex, mask] : kClasses) {
      if ((regex.match_end(text, 0) != 0) != ((unicode_classes()[c] & mask) != 0)) differs[c] = true;
    }
  }
  return differs;
}

const std::vector<bool>& skipped_code_points() {
  static const std::vector<bool> skipped = code_points_of_another_version();
  return skipped;
}

TEST(Splitter, ClassesDifferFromPcre2OnlyWhereItsUnicodeIsOlder) {
  const Pcre2 unassigned(R"(\p{Cn})");
  for (uint32_t c = 0; c < 0x110000; ++c) {
    // PCRE2's \s keeps U+180E, which left White_Space with Unicode 6.3; a few characters were given another category.
    if (!skipped_code_points()[c] || c == 0x180E) continue;
    EXPECT_NE(unassigned.match_end(utf8(c), 0), 0u) << std::hex << c;
  }
  EXPECT_EQ(unicode_classes()['a'], kLower);
  EXPECT_EQ(unicode_classes()['\n'], kSpace | kNewline);
  EXPECT_EQ(unicode_classes()[0x3000], kSpace);
  EXPECT_EQ(unicode_classes()[0x10FFFF], 0);
}

// Where every alternative and every backtrack of the expressions begins.
const std::vector<std::string>& alphabet() {
  static const std::vector<std::string> strings = {
      " ",      " ",      "'",      "s",      "S",      "\u017F", "t",      "r",          "e",      "E",
      "v",      "l",      "L",      "m",      "d",      "\n",     "\r",     "\t",         "/",      "1",
      "2",      "A",      "b",      "\u00E9", "\u01C5", "\u02B0", "\u4E2D", "\u0301",     "\u0903", "\u0664",
      "\u2163", "\u00A0", "\u0085", "\u3000", "\u2028", ".",      "-",      "\U0001F600", "\u200D", "\u212A"};
  return strings;
}

TEST(Splitter, AgreesWithPcre2OnRandomText) {
  for (const SplitPattern pattern : kPatterns) {
    const Pcre2 oracle(split_pattern_regex(pattern));
    const RngKey key{.seed = 7, .step = static_cast<uint64_t>(pattern)};
    uint64_t draw = 0;
    for (int trial = 0; trial < 40000; ++trial) {
      std::string text;
      const uint32_t length = 1 + random_bits(key, draw++) % 14;
      for (uint32_t i = 0; i < length; ++i) {
        const uint32_t pick = random_bits(key, draw++);
        uint32_t any = pick >> 8 & 0x1FFFF;
        const bool rare = (pick & 15) == 0 && is_code_point(any) && !skipped_code_points()[any];
        text += rare ? utf8(any) : alphabet()[(pick >> 8) % alphabet().size()];
      }
      ASSERT_EQ(first_difference(pattern, oracle, text), "") << "in '" << text << "'";
    }
  }
}

TEST(Splitter, AgreesWithPcre2OnRealText) {
  const std::string root = COLOSSUS_SOURCE_DIR "/../shared/data/text";
  if (!std::filesystem::exists(root)) GTEST_SKIP() << "needs ../shared";
  for (const char* name :
       {"/en/ethereum_eips_cc0.txt", "/multi/udhr_many_scripts.txt", "/multi/naughty_strings.json",
        "/multi/react_docs.ar.txt", "/multi/opensource_guide.hi.txt", "/multi/opensource_guide.ko.txt"}) {
    auto text = read_file(local_files(), root + name);
    ASSERT_TRUE(text.ok()) << text.status().message();
    std::string kept;
    for (size_t at = 0; at < text->size();) {
      const Utf8Char c = decode_utf8(std::string_view(*text).substr(at));
      ASSERT_NE(c.code_point, kInvalidCodePoint);
      if (!skipped_code_points()[c.code_point]) kept.append(*text, at, c.num_bytes);
      at += c.num_bytes;
    }
    for (const SplitPattern pattern : kPatterns) {
      EXPECT_EQ(first_difference(pattern, Pcre2(split_pattern_regex(pattern)), kept), "") << name;
    }
  }
}

using Pieces = std::vector<std::pair<size_t, size_t>>;

Pieces pieces_of(SplitPattern pattern, std::string_view text) {
  Pieces pieces;
  for_each_piece(split_function(pattern), text, 0, [&](size_t begin, size_t end) { pieces.emplace_back(begin, end); });
  return pieces;
}

// Our matcher knows the same Unicode and bytes that are no characters: nothing has to be left out.
TEST(Splitter, AgreesWithTheGeneralMatcherOnAnyBytes) {
  for (const SplitPattern pattern : kPatterns) {
    const auto regex = Regex::compile(split_pattern_regex(pattern));
    ASSERT_TRUE(regex.ok()) << regex.status().message();
    const RngKey key{.seed = 23, .step = static_cast<uint64_t>(pattern)};
    uint64_t draw = 0;
    const auto below = [&](uint32_t n) { return random_bits(key, draw++) % n; };
    for (int trial = 0; trial < 100000; ++trial) {
      std::string text;
      for (uint32_t left = 1 + below(14); left > 0; --left) {
        switch (below(8)) {
          case 0: text += static_cast<char>(below(256)); break;
          case 1: append_utf8(text, below(0x110000)); break;  // surrogates too, which are no characters
          case 2: append_utf8(text, below(0x800)); break;
          default: text += alphabet()[below(static_cast<uint32_t>(alphabet().size()))]; break;
        }
      }
      Pieces wanted;
      const Status status =
          regex->for_each_match(text, [&](size_t begin, size_t end) { wanted.emplace_back(begin, end); });
      ASSERT_TRUE(status.ok()) << status.message();
      ASSERT_EQ(pieces_of(pattern, text), wanted)
          << split_pattern_name(pattern) << " in " << testing::PrintToString(text);
    }
  }
}

// All pieces at once, or few at a time: where a call ends changes nothing.
TEST(Splitter, PiecesComeInAnyPortions) {
  std::string text;
  for (uint32_t i = 0; i < 3000; ++i) text += alphabet()[random_bits({.seed = 31}, i) % alphabet().size()];
  for (const SplitPattern pattern : kPatterns) {
    const Pieces wanted = pieces_of(pattern, text);
    EXPECT_GT(wanted.size(), 500u);
    for (const size_t portion : {1u, 2u, 7u, 5000u}) {
      Pieces pieces;
      std::vector<size_t> ends(portion);
      for (size_t begin = 0; begin < text.size();) {
        const size_t num_pieces = split_function(pattern)(text, begin, ends);
        ASSERT_GT(num_pieces, 0u);
        for (size_t i = 0; i < num_pieces; ++i) {
          pieces.emplace_back(begin, ends[i]);
          begin = ends[i];
        }
      }
      EXPECT_EQ(pieces, wanted) << portion;
    }
  }
}

// Long runs of each class and of what the expressions backtrack over, and what may stand around a run: four times the
// text costs four times the reads and steps, for the splitters and for the matcher.
TEST(Splitter, RunawayTextCostsInProportionToItsLength) {
  const std::vector<std::string> units = {"a",       "A",      "1",       " ",       "\n",      "!",       "'",
                                          "\u4e2d",  "\u0301", "\u01C5",  "\u00a0",  "\xFF",    "aA",      "A\u4e2d",
                                          "\u4e2dA", " \n",    "\n ",     "\r",      "'s",      " \u0301", "/\n",
                                          "\u00a0 ", " !",     "A\u0301", "\u0301A", "\u0301 ", "\t\u3000"};
  const std::vector<std::string> around = {"", "a", "A", " ", "\n", "!", "\u4e2d", "\u0301"};
  constexpr size_t kShort = 1 << 9, kLong = 4 * kShort;
  const auto text_of = [](const std::string& head, const std::string& unit, size_t size, const std::string& tail) {
    std::string text = head;
    while (text.size() < size) text += unit;
    return text + tail;
  };
  for (const SplitPattern pattern : kPatterns) {
    const auto regex = Regex::compile(split_pattern_regex(pattern));
    ASSERT_TRUE(regex.ok());
    const auto steps_of = [&](std::string_view text) {
      int64_t steps = 0;
      const Status status = regex->for_each_match(
          text, [](size_t, size_t) {}, &steps);
      EXPECT_TRUE(status.ok()) << status.message();
      return steps;
    };
    for (const std::string& unit : units) {
      for (const std::string& head : around) {
        for (const std::string& tail : around) {
          const std::string less = text_of(head, unit, kShort, tail), more = text_of(head, unit, kLong, tail);
          ASSERT_LE(count_split_reads(pattern, more), 4 * count_split_reads(pattern, less) + 1024)
              << split_pattern_name(pattern) << testing::PrintToString(less.substr(0, 20));
          ASSERT_LE(steps_of(more), 4 * steps_of(less) + 1024)
              << split_pattern_name(pattern) << testing::PrintToString(less.substr(0, 20));
        }
      }
      const std::string megabyte = text_of("", unit, 1 << 20, "");
      EXPECT_LE(count_split_reads(pattern, megabyte), 10 * static_cast<int64_t>(megabyte.size()));
      size_t done = 0;
      for_each_piece(split_function(pattern), megabyte, 0, [&](size_t begin, size_t end) {
        ASSERT_EQ(begin, done);
        ASSERT_GT(end, begin);
        done = end;
      });
      EXPECT_EQ(done, megabyte.size());
    }
  }
}

TEST(Splitter, ReadsAreCounted) {
  EXPECT_EQ(count_split_reads(SplitPattern::kGpt2, ""), 0);
  EXPECT_GE(count_split_reads(SplitPattern::kGpt2, "the captain"), 11);
}

TEST(Splitter, NamesAndExpressionsAreFoundAgain) {
  for (const SplitPattern pattern : kPatterns) {
    EXPECT_EQ(split_pattern_named(split_pattern_name(pattern)), pattern);
    EXPECT_EQ(split_pattern_of_regex(split_pattern_regex(pattern)), pattern);
  }
  EXPECT_EQ(split_pattern_of_regex(""), std::nullopt);
  EXPECT_EQ(split_pattern_of_regex("\\w+"), std::nullopt);
}

}  // namespace
}  // namespace colossus
