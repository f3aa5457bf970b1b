#include "text/utf8.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace colossus {
namespace {

TEST(Utf8, EveryCodePointSurvives) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, c);
    const Utf8Char back = decode_utf8(text);
    ASSERT_EQ(back.code_point, c);
    ASSERT_EQ(back.num_bytes, text.size());
  }
}

TEST(Utf8, RefusesWhatIsNotACharacter) {
  for (const char* text : {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
                           "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xC3", "\xE2\x82", "\xC3(", "\xE2\x82("}) {
    EXPECT_EQ(decode_utf8(text).code_point, kInvalidCodePoint) << text;
    EXPECT_EQ(find_invalid_utf8(std::string("ok") + text), 2u);
  }
  EXPECT_EQ(find_invalid_utf8("gr\u00FC\u00DFe \U0001F600"), std::string_view::npos);
}

TEST(Utf8Stream, GivesWholeCharactersHoweverTheBytesCome) {
  const std::string text = "a\u00E9\u4E2D\U0001F600z\u20AC";
  for (size_t step = 1; step <= 5; ++step) {
    Utf8Stream stream;
    std::string out;
    for (size_t at = 0; at < text.size(); at += step) {
      const std::string part = stream.push(std::string_view(text).substr(at, step));
      EXPECT_EQ(find_invalid_utf8(part), std::string_view::npos);
      out += part;
    }
    EXPECT_EQ(out + stream.flush(), text);
  }
}

TEST(Utf8Stream, ReplacesWhatCannotBecomeACharacter) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xE2\x82"), "a");
  EXPECT_EQ(stream.push("b"), "\uFFFDb");
  // The example of section 3.9: each maximal part is replaced once.
  EXPECT_EQ(stream.push("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"),
            "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
  EXPECT_EQ(stream.push("\xF0\x9F\x98"), "");
  EXPECT_EQ(stream.flush(), "\uFFFD");
  EXPECT_EQ(stream.flush(), "");
}

TEST(Utf8Stream, RandomBytesAlwaysComeOutValid) {
  const RngKey key{.seed = 11};
  Utf8Stream stream;
  for (int i = 0; i < 100000; ++i) {
    const char byte = static_cast<char>(random_bits(key, i));
    ASSERT_EQ(find_invalid_utf8(stream.push({&byte, 1})), std::string_view::npos);
  }
}

}  // namespace
}  // namespace colossus
