#include "cli/text_table.h"

#include <gtest/gtest.h>

namespace colossus {
namespace {

TEST(TextTable, NumbersAreFlushRight) {
  EXPECT_EQ(aligned_text({.header = {"name", "s"}, .rows = {{"a", "1.5"}, {"longer", "10"}, {"b", ""}}}),
            "name      s\n"
            "a       1.5\n"
            "longer   10\n"
            "b\n");
  EXPECT_EQ(aligned_text({.header = {"s", "why"}, .rows = {{"1", "x"}, {"-", "y"}}}), "s  why\n1  x\n-  y\n");
  EXPECT_EQ(aligned_text({.header = {"why"}, .rows = {{"one\ntwo\nthree"}}}), "why\none; two; three\n");
}

TEST(TextTable, CsvQuotesWhatNeedsIt) {
  EXPECT_EQ(csv_text({.header = {"a", "b"}, .rows = {{"x, y", "\"z\""}, {"", "two\nlines"}}}),
            "a,b\n\"x, y\",\"\"\"z\"\"\"\n,\"two\nlines\"\n");
}

}  // namespace
}  // namespace colossus
