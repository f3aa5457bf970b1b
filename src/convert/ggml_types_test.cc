#include "convert/ggml_types.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "io/safetensors.h"

namespace colossus {
namespace {

// Written by tests/oracle/make_ggml_blocks.py with PyPI's gguf.
class GgmlBlocks : public testing::Test {
 protected:
  template <class T>
  std::vector<T> golden(const std::string& name) const {
    const auto file =
        SafetensorsFile::open(local_files(), COLOSSUS_SOURCE_DIR "/tests/oracle/goldens/ggml_blocks.safetensors");
    CHECK(file.ok(), file.status().message().c_str());
    const SafetensorsEntry* entry = file->find(name);
    CHECK(entry != nullptr, name.c_str());
    std::vector<T> values(static_cast<size_t>(entry->size_bytes) / sizeof(T));
    CHECK(file->read(*entry, 0, std::as_writable_bytes(std::span(values))).ok());
    return values;
  }
};

TEST_F(GgmlBlocks, StandForTheNumbersOfGgml) {
  for (const GgmlType type : {GgmlType::kQ8_0, GgmlType::kQ4_0, GgmlType::kQ4_1, GgmlType::kQ5_0, GgmlType::kQ5_1,
                              GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K}) {
    const std::string name(ggml_type_size(static_cast<uint32_t>(type))->name);
    SCOPED_TRACE(name);
    const auto blocks = golden<std::byte>(name + ".blocks");
    const auto wanted = golden<float>(name + ".numbers");
    std::vector<float> numbers(wanted.size());
    dequantize(type, blocks, numbers);
    for (size_t i = 0; i < wanted.size(); ++i)
      ASSERT_EQ(std::bit_cast<uint32_t>(numbers[i]), std::bit_cast<uint32_t>(wanted[i])) << i;
  }
}

TEST_F(GgmlBlocks, AreMadeWithTheBytesOfGgml) {
  const auto numbers = golden<float>("q8_0.from");
  const auto wanted = golden<std::byte>("q8_0.made");
  std::vector<std::byte> blocks(wanted.size());
  ASSERT_TRUE(quantize_q8_0(numbers, blocks));
  for (size_t i = 0; i < wanted.size(); ++i) ASSERT_EQ(blocks[i], wanted[i]) << i;
}

TEST_F(GgmlBlocks, FloatsStandForThemselves) {
  const std::array<uint16_t, 2> halves = {0x3C00, 0xC100}, brains = {0x3F80, 0xC020};
  std::array<float, 2> numbers{};
  dequantize(GgmlType::kF16, std::as_bytes(std::span(halves)), numbers);
  EXPECT_EQ(numbers, (std::array<float, 2>{1, -2.5}));
  dequantize(GgmlType::kBF16, std::as_bytes(std::span(brains)), numbers);
  EXPECT_EQ(numbers, (std::array<float, 2>{1, -2.5}));
}

TEST_F(GgmlBlocks, AreNotMadeOfWhatTheyCannotHold) {
  std::vector<float> numbers(32, 1);
  std::vector<std::byte> block(34);
  numbers[7] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(quantize_q8_0(numbers, block));
  numbers[7] = std::nanf("");
  EXPECT_FALSE(quantize_q8_0(numbers, block));
  numbers[7] = 1e8F;  // a scale of 8e5 is no fp16
  EXPECT_FALSE(quantize_q8_0(numbers, block));
  numbers.assign(32, 1e-40F);  // so small that dividing by the scale has no bound
  EXPECT_TRUE(quantize_q8_0(numbers, block));
  EXPECT_EQ(block, std::vector<std::byte>(34));
}

TEST(GgmlTypes, AreKnownByNumber) {
  EXPECT_EQ(ggml_type_size(12)->name, "Q4_K");
  EXPECT_EQ(ggml_type_size(4), nullptr);  // Q4_2 was taken out
  EXPECT_EQ(ggml_type_size(1000000), nullptr);
  EXPECT_FALSE(is_readable(static_cast<GgmlType>(16)));
  EXPECT_EQ(readable_types().substr(0, 9), "F32, F16,");
}

}  // namespace
}  // namespace colossus
