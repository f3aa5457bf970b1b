// Categories, scripts and white space of all code points against the Unicode character database.
#include "text/unicode_data.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "io/file_system.h"
#include "text/unicode_classes.h"

namespace colossus {
namespace {

const std::string kDatabase = COLOSSUS_SOURCE_DIR "/../shared/data/tokenizers/unicode16/";

// Lines "0041..005A ; Lu # ..." as one name for each code point; `otherwise` where no line names any.
std::vector<std::string> names_of(const std::string& file, const std::string& otherwise,
                                  const std::vector<std::string>& wanted = {}) {
  std::vector<std::string> names(0x110000, otherwise);
  auto text = read_file(local_files(), kDatabase + file);
  CHECK(text.ok(), file.c_str());
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    line.resize(std::min(line.find('#'), line.size()));
    std::replace(line.begin(), line.end(), ';', ' ');
    std::istringstream words(line);
    std::string range, name;
    if (!(words >> range >> name)) continue;
    const size_t dots = range.find("..");
    const size_t first = std::stoul(range, nullptr, 16);
    const size_t last = dots == std::string::npos ? first : std::stoul(range.substr(dots + 2), nullptr, 16);
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), name) == wanted.end()) continue;
    for (size_t c = first; c <= last; ++c) names[c] = name;
  }
  return names;
}

TEST(UnicodeData, CategoriesAndClassesAreTheDatabases) {
  if (!std::filesystem::exists(kDatabase)) GTEST_SKIP() << "needs ../shared";
  const std::vector<std::string> categories = names_of("DerivedGeneralCategory.txt", "");
  const std::vector<std::string> spaces = names_of("PropList.txt", "", {"White_Space"});
  for (uint32_t c = 0; c < 0x110000; ++c) {
    const std::string& name = categories[c];
    ASSERT_EQ(category_bit(c), category_mask(name).value()) << std::hex << c;
    ClassMask wanted = 0;
    if (name == "Lu" || name == "Lt") wanted = kUpper;
    if (name == "Ll") wanted = kLower;
    if (name == "Lm" || name == "Lo") wanted = kNeutral;
    if (name[0] == 'M') wanted = kMark;
    if (name[0] == 'N') wanted = kNumber;
    if (!spaces[c].empty()) wanted |= kSpace;
    if (c == '\r' || c == '\n') wanted |= kNewline;
    ASSERT_EQ(unicode_classes()[c], wanted) << std::hex << c;
    ASSERT_EQ(is_white_space(c), !spaces[c].empty()) << std::hex << c;
  }
}

TEST(UnicodeData, ScriptsAreTheDatabases) {
  if (!std::filesystem::exists(kDatabase)) GTEST_SKIP() << "needs ../shared";
  const std::vector<std::string> scripts = names_of("Scripts.txt", "");
  int num_known = 0;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    ASSERT_EQ(script_of(c), script_named(scripts[c]).value_or(Script::kOther)) << std::hex << c;
    num_known += script_of(c) != Script::kOther;
  }
  EXPECT_GT(num_known, 100000);  // most of them Han
}

TEST(UnicodeData, RunsOfCategoriesCoverAll) {
  uint32_t done = 0;
  for_each_category_run([&](uint32_t first, uint32_t end, Category category) {
    ASSERT_EQ(first, done);
    ASSERT_LT(first, end);
    EXPECT_EQ(category_of(first), category);
    EXPECT_EQ(category_of(end - 1), category);
    done = end;
  });
  EXPECT_EQ(done, 0x110000u);
}

TEST(UnicodeData, LowerCases) {
  const auto lower = [](uint32_t c) {
    std::vector<uint32_t> out;
    append_lower_case(out, c);
    return out;
  };
  EXPECT_EQ(lower('Q'), std::vector<uint32_t>{'q'});
  EXPECT_EQ(lower(0xC9), std::vector<uint32_t>{0xE9});
  EXPECT_EQ(lower(0x130), (std::vector<uint32_t>{'i', 0x307}));
  EXPECT_EQ(lower(0x1E9E), std::vector<uint32_t>{0xDF});
  EXPECT_EQ(lower(0x13A0), std::vector<uint32_t>{0xAB70});  // Cherokee, whose capitals folding keeps
  EXPECT_EQ(lower(0x1E921), std::vector<uint32_t>{0x1E943});
  EXPECT_EQ(lower(0x4E2D), std::vector<uint32_t>{0x4E2D});
}

}  // namespace
}  // namespace colossus
