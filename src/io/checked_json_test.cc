#include "io/checked_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/testing.h"

namespace colossus {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(CheckedJson, IsTheTreeThatTheLibraryMakes) {
  for (const char* text :
       {"null", "true", "-3", "18446744073709551615", "1e-3", "\"a\\u00e9\\n\"", "[]", "{}", "[[],[[]],{}]",
        R"({"a":{"b":[1,{"c":null},[2.5]],"a":false},"":{"a":"x"}})", " [ 1 , {\"k\" : [ ] } ] \n"}) {
    const auto json = parse_checked_json(text);
    ASSERT_TRUE(json.ok()) << text << ": " << json.status().message();
    EXPECT_EQ(*json, Json::parse(text)) << text;
  }
}

std::string refusal(const std::string& text) {
  const auto json = parse_checked_json(text, "file.json");
  return json.ok() ? "it was accepted" : json.status().message();
}

TEST(CheckedJson, FaultsSayFilePlaceFoundAndNeeded) {
  EXPECT_THAT(refusal(R"({"a":[0,{"b":1,"c":2,"b":3}]})"),
              AllOf(StartsWith("[file.json] $.a[1]: the key \"b\" stands twice"), HasSubstr("needed once")));
  EXPECT_THAT(refusal(R"({"a":1,"a":1})"), StartsWith("[file.json] $: the key \"a\""));
  EXPECT_THAT(refusal(R"({"a":{"b c":[1,2,tru]}})"), AllOf(StartsWith("[file.json] not JSON, behind $.a.\"b c\"[1]: "),
                                                           HasSubstr("line 1, column 21"), HasSubstr("2,tru]")));
  EXPECT_THAT(refusal("{\"a\":1"), AllOf(HasSubstr("unexpected end of input"), HasSubstr("expected '}'")));
  EXPECT_THAT(refusal("{} {}"), HasSubstr("not JSON"));
  EXPECT_THAT(refusal(""), HasSubstr("not JSON"));
  EXPECT_THAT(refusal("[1e999]"), HasSubstr("number overflow"));
  EXPECT_THAT(refusal("[NaN]"), HasSubstr("not JSON"));
  EXPECT_THAT(refusal("\"\xff\""), HasSubstr("UTF-8"));
  const auto cut = parse_checked_json("[1");
  EXPECT_EQ(cut.status().code(), ErrorCode::kCorrupt);
}

// Names from a file must not make a message that is itself no text, or longer than one reads.
TEST(CheckedJson, MessagesAreShortAndClean) {
  const std::string name(100'000, 'x');
  EXPECT_LT(refusal("{\"" + name + "\":1,\"" + name + "\":2}").size(), 400U);
  EXPECT_LT(refusal("{\"" + name + "\":[\"" + name + "]}").size(), 800U);
  EXPECT_THAT(refusal(R"({"\u001b[2J":{"a":1,"a":1}})"), HasSubstr(R"($."\u001b[2J")"));
  EXPECT_THAT(refusal("[\"\x1b[2J"), Not(HasSubstr("\x1b")));
}

TEST(CheckedJson, NestingEndsAt128) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(parse_checked_json(nested(128)).ok());
  EXPECT_THAT(refusal(nested(129)), HasSubstr("more than 128 deep"));
  EXPECT_THAT(refusal(std::string(10'000'000, '[')), HasSubstr("more than 128 deep"));
  std::string objects;
  for (int i = 0; i < 129; ++i) objects += "{\"a\":";
  EXPECT_THAT(refusal(objects), AllOf(HasSubstr("more than 128 deep"), HasSubstr("$.a.a.a")));
}

TEST(CheckedJson, SizesEnd) {
  std::string many(static_cast<size_t>(kMaxJsonValues) * 2 + 3, ',');
  many.front() = '[';
  for (size_t i = 1; i < many.size(); i += 2) many[i] = '0';
  many.back() = ']';
  EXPECT_THAT(refusal(many), HasSubstr("more than 8388608 values"));
  EXPECT_THAT(refusal(std::string(static_cast<size_t>(kMaxJsonBytes) + 1, ' ')), HasSubstr("268435457 bytes"));
  const TemporaryDirectory directory;
  ASSERT_TRUE(write_file_atomically(local_files(), directory / "a.json", "[1, 2, 3]").ok());
  EXPECT_TRUE(read_checked_json(local_files(), directory / "a.json", 9).ok());
  const auto large = read_checked_json(local_files(), directory / "a.json", 8);
  ASSERT_FALSE(large.ok());
  EXPECT_THAT(large.status().message(), HasSubstr("a.json"));
}

TEST(CheckedJson, BriefTextIsNotCutWithinACharacter) {
  EXPECT_EQ(brief_json(Json("ab")), "\"ab\"");
  for (size_t pad = 50; pad < 60; ++pad) {
    std::string text(pad, 'x');
    for (int i = 0; i < 20; ++i) text += "\xE2\x96\x81";
    EXPECT_NO_THROW(static_cast<void>(Json(brief_json(Json(text))).dump())) << pad;
  }
}

}  // namespace
}  // namespace colossus
