#include "base/quantity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace colossus {
namespace {

TEST(Quantity, AsPeopleReadThem) {
  EXPECT_EQ(format_quantity(0), "0");
  EXPECT_EQ(format_quantity(999), "999");
  EXPECT_EQ(format_quantity(999.6), "1.00k");
  EXPECT_EQ(format_quantity(0.25), "0.25");
  EXPECT_EQ(format_quantity(12'345, "tokens"), "12.3k tokens");
  EXPECT_EQ(format_quantity(314e9), "314G");
  EXPECT_EQ(format_quantity(2.5e9, "bytes"), "2.50 GB");
  EXPECT_EQ(format_quantity(1e300).substr(0, 4), "1000");  // no prefix left, no crash
}

TEST(Quantity, SuffixesAreRead) {
  EXPECT_EQ(*read_quantity("--tokens", "6T"), 6e12);
  EXPECT_EQ(*read_quantity("--tokens", "1.5B"), 1.5e9);
  EXPECT_EQ(*read_quantity("--tokens", "1.5G"), 1.5e9);
  EXPECT_EQ(*read_quantity("--tokens", "8192"), 8192);
  for (const char* bad : {"", "T", "6X", "-1", "nan", "1e400", "6 T"})
    EXPECT_THAT(read_quantity("--tokens", bad).status().message(), testing::HasSubstr("[--tokens]")) << bad;
}

TEST(Quantity, Separators) {
  EXPECT_EQ(with_separators(0), "0");
  EXPECT_EQ(with_separators(999), "999");
  EXPECT_EQ(with_separators(100'000), "100,000");
  EXPECT_EQ(with_separators(-1'234'567), "-1,234,567");
}

}  // namespace
}  // namespace colossus
