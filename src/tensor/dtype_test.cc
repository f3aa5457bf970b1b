#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>

namespace colossus {
namespace {

TEST(Float16, EveryValueComesBackFromItsFloat) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Float16 half{static_cast<uint16_t>(bits)};
    ASSERT_EQ(to_f16(to_float(half)).bits, half.bits) << bits;
  }
}

TEST(Float16, HasTheValuesOfTheFormat) {
  const auto value = [](uint16_t bits) { return to_float(Float16{bits}); };
  EXPECT_EQ(value(0x3C00), 1.0F);
  EXPECT_EQ(value(0xC000), -2.0F);
  EXPECT_EQ(value(0x7BFF), 65504.0F);
  EXPECT_EQ(value(0x0001), 0x1p-24F);
  EXPECT_EQ(value(0x03FF), 1023 * 0x1p-24F);
  EXPECT_EQ(value(0x0400), 0x1p-14F);
  EXPECT_TRUE(std::isinf(value(0xFC00)) && value(0xFC00) < 0);
  EXPECT_TRUE(std::isnan(value(0x7C01)));
  EXPECT_TRUE(std::signbit(value(0x8000)));
}

TEST(Float16, RoundsToNearestEven) {
  EXPECT_EQ(to_f16(1 + 0x1p-11F).bits, 0x3C00);             // half way, to even
  EXPECT_EQ(to_f16(1 + 3 * 0x1p-11F).bits, 0x3C02);         // half way, to even
  EXPECT_EQ(to_f16(1 + 0x1p-11F + 0x1p-20F).bits, 0x3C01);  // above half
  EXPECT_EQ(to_f16(65519.0F).bits, 0x7BFF);
  EXPECT_EQ(to_f16(65520.0F).bits, 0x7C00);
  EXPECT_EQ(to_f16(0x1p-25F).bits, 0);  // half of the smallest, to even
  EXPECT_EQ(to_f16(std::nextafter(0x1p-25F, 1.0F)).bits, 1);
  EXPECT_EQ(to_f16(3 * 0x1p-25F).bits, 2);
  EXPECT_EQ(to_f16(0x1p-14F - 0x1p-26F).bits, 0x0400);  // rounds into the normal ones
  EXPECT_EQ(to_f16(-1e-30F).bits, 0x8000);
}

}  // namespace
}  // namespace colossus
