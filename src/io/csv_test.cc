#include "io/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace colossus {
namespace {

using ::testing::HasSubstr;

std::string error_of(std::string_view text) { return CsvTable::parse(text, "t.csv").status().message(); }

TEST(Csv, QuotesCommasAndLineEnds) {
  const auto table = CsvTable::parse("a,b,c\r\n1,\"x, \"\"y\"\"\nz\",\n\n4,5,6", "t.csv");
  ASSERT_TRUE(table.ok()) << table.status().message();
  ASSERT_EQ(table->num_rows(), 2u);
  EXPECT_EQ(table->at(0, "b"), "x, \"y\"\nz");
  EXPECT_EQ(table->at(0, "c"), "");
  EXPECT_EQ(table->at(1, "a"), "4");
  EXPECT_EQ(table->at(1, "none"), "");
  EXPECT_EQ(table->line(1), 5);
  EXPECT_FALSE(table->has_column("none"));
}

TEST(Csv, WhatIsWrittenIsReadBack) {
  const std::vector<std::string> header = {"a"}, fields[] = {{"x,y"}, {"\"q\""}, {"two\r\nlines"}, {""}, {"plain"}};
  std::string text = csv_record(header);
  for (const auto& field : fields) text += csv_record(field);
  const auto table = CsvTable::parse(text, "t.csv");
  ASSERT_TRUE(table.ok()) << table.status().message();
  ASSERT_EQ(table->num_rows(), std::size(fields));
  for (size_t i = 0; i < std::size(fields); ++i) EXPECT_EQ(table->at(i, "a"), fields[i].front());
}

TEST(Csv, FaultsNameTheirLine) {
  EXPECT_THAT(error_of(""), HasSubstr("[t.csv] is empty"));
  EXPECT_THAT(error_of("a,b\n1,2\n3\n"), HasSubstr("[t.csv:3] 1 fields; the header has 2"));
  EXPECT_THAT(error_of("a,b\n1,\"2\n3\n"), HasSubstr("[t.csv:2] a quote that does not end"));
  EXPECT_THAT(error_of("a,b\n\"1\"2,3\n"), HasSubstr("[t.csv:2] text behind a closing quote"));
  EXPECT_THAT(error_of("a,a\n"), HasSubstr("two columns are called a"));
}

}  // namespace
}  // namespace colossus
