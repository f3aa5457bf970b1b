#include "text/unicode_form.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>

#include "io/file_system.h"
#include "text/utf8.h"

namespace colossus {
namespace {

std::string form(std::string_view text, bool compatibility, bool compose) {
  return std::string(to_unicode_form(AlignedText(text, 0, false), compatibility, compose).text());
}

std::string characters(const std::string& hexadecimal) {
  std::istringstream numbers(hexadecimal);
  std::string out;
  for (uint32_t c; numbers >> std::hex >> c;) append_utf8(out, c);
  return out;
}

TEST(UnicodeForm, KnownForms) {
  EXPECT_EQ(form("e\u0301", false, true), "\u00e9");
  EXPECT_EQ(form("\u00e9", false, false), "e\u0301");
  EXPECT_EQ(form("\ufb01\u2460", true, true), "fi1");
  EXPECT_EQ(form("\ufb01", false, true), "\ufb01");
  EXPECT_EQ(form("\ud55c", false, false), "\u1112\u1161\u11ab");
  EXPECT_EQ(form("\u1112\u1161\u11ab", false, true), "\ud55c");
  EXPECT_EQ(form("a\u0323\u0307", false, true), "\u1ea1\u0307");
  EXPECT_EQ(form("a\u0307\u0323", false, false), "a\u0323\u0307");
  EXPECT_EQ(form("plain\xFF\xCC", true, true), "plain\xFF\xCC");
}

TEST(UnicodeForm, BytesKnowWhereTheyCameFrom) {
  const AlignedText made = to_unicode_form(AlignedText("ae\u0301z", 10, true), false, true);
  ASSERT_EQ(made.text(), "a\u00e9z");
  EXPECT_EQ(made.source_of(0, 1), (TextSpan{10, 11}));
  EXPECT_EQ(made.source_of(1, 3), (TextSpan{11, 14}));
  EXPECT_EQ(made.source_of(3, 4), (TextSpan{14, 15}));
}

// The Unicode consortium's own test: columns source, NFC, NFD, NFKC, NFKD.
TEST(UnicodeForm, TheConsortiumsTest) {
  const std::string path = COLOSSUS_SOURCE_DIR "/../shared/data/tokenizers/unicode16/NormalizationTest.txt";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "needs ../shared";
  auto file = read_file(local_files(), path);
  ASSERT_TRUE(file.ok());
  std::istringstream lines(*file);
  int num_cases = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] == '#' || line[0] == '@') continue;
    std::istringstream columns(line);
    std::string c[5];
    for (std::string& column : c) {
      std::getline(columns, column, ';');
      column = characters(column);
    }
    for (int i = 0; i < 5; ++i) {
      const int from = i < 3 ? 0 : 2;  // columns 4 and 5 have lost what NFC and NFD would keep
      ASSERT_EQ(form(c[i], false, true), c[from == 0 ? 1 : 3]) << line;
      ASSERT_EQ(form(c[i], false, false), c[from == 0 ? 2 : 4]) << line;
      ASSERT_EQ(form(c[i], true, true), c[3]) << line;
      ASSERT_EQ(form(c[i], true, false), c[4]) << line;
    }
    ++num_cases;
  }
  EXPECT_GT(num_cases, 18000);
}

}  // namespace
}  // namespace colossus
