#include "convert/ggml_types.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "tensor/dtype.h"

namespace colossus {
namespace {

struct NumberedType {
  uint32_t number;
  GgmlTypeSize size;
};

constexpr auto kTypes = std::to_array<NumberedType>({
    {0, {"F32", 1, 4}},         {1, {"F16", 1, 2}},         {2, {"Q4_0", 32, 18}},      {3, {"Q4_1", 32, 20}},
    {6, {"Q5_0", 32, 22}},      {7, {"Q5_1", 32, 24}},      {8, {"Q8_0", 32, 34}},      {9, {"Q8_1", 32, 36}},
    {10, {"Q2_K", 256, 84}},    {11, {"Q3_K", 256, 110}},   {12, {"Q4_K", 256, 144}},   {13, {"Q5_K", 256, 176}},
    {14, {"Q6_K", 256, 210}},   {15, {"Q8_K", 256, 292}},   {16, {"IQ2_XXS", 256, 66}}, {17, {"IQ2_XS", 256, 74}},
    {18, {"IQ3_XXS", 256, 98}}, {19, {"IQ1_S", 256, 50}},   {20, {"IQ4_NL", 32, 18}},   {21, {"IQ3_S", 256, 110}},
    {22, {"IQ2_S", 256, 82}},   {23, {"IQ4_XS", 256, 136}}, {24, {"I8", 1, 1}},         {25, {"I16", 1, 2}},
    {26, {"I32", 1, 4}},        {27, {"I64", 1, 8}},        {28, {"F64", 1, 8}},        {29, {"IQ1_M", 256, 56}},
    {30, {"BF16", 1, 2}},       {34, {"TQ1_0", 256, 54}},   {35, {"TQ2_0", 256, 66}},   {39, {"MXFP4", 32, 17}},
    {40, {"NVFP4", 64, 36}},
});

constexpr std::array kReadable = {GgmlType::kF32,  GgmlType::kF16,  GgmlType::kBF16, GgmlType::kQ8_0,
                                  GgmlType::kQ4_0, GgmlType::kQ4_1, GgmlType::kQ5_0, GgmlType::kQ5_1,
                                  GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K};

uint8_t byte_at(const std::byte* at) { return std::to_integer<uint8_t>(*at); }
float half_at(const std::byte* at) {
  Float16 value;
  std::memcpy(&value, at, sizeof(value));
  return to_float(value);
}

// Halves of a block of 32 lie in the low and the high four bits of 16 bytes.
struct Nibbles {
  const std::byte* bytes;
  int operator[](int i) const { return i < 16 ? byte_at(bytes + i) & 15 : byte_at(bytes + i - 16) >> 4; }
};

int bit_at(const std::byte* bits, int i) { return byte_at(bits + i / 8) >> (i % 8) & 1; }

void dequantize_q8_0(const std::byte* block, float* out) {
  const float scale = half_at(block);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<int8_t>(byte_at(block + 2 + i))) * scale;
}

void dequantize_q4_0(const std::byte* block, float* out) {
  const float scale = half_at(block);
  const Nibbles low{block + 2};
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(low[i] - 8) * scale;
}

void dequantize_q4_1(const std::byte* block, float* out) {
  const float scale = half_at(block), least = half_at(block + 2);
  const Nibbles low{block + 4};
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(low[i]) * scale + least;
}

void dequantize_q5_0(const std::byte* block, float* out) {
  const float scale = half_at(block);
  const Nibbles low{block + 6};
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>((low[i] | bit_at(block + 2, i) << 4) - 16) * scale;
}

void dequantize_q5_1(const std::byte* block, float* out) {
  const float scale = half_at(block), least = half_at(block + 2);
  const Nibbles low{block + 8};
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(low[i] | bit_at(block + 4, i) << 4) * scale + least;
}

// Eight scales and eight minima of six bits each in twelve bytes: those of the first four in the low bits of bytes 0 to
// 7, the others' low four bits in bytes 8 to 11 and their high two in the high bits of bytes 0 to 7.
struct ScaleAndLeast {
  int scale, least;
};
ScaleAndLeast packed_scale(const std::byte* bytes, int i) {
  if (i < 4) return {byte_at(bytes + i) & 63, byte_at(bytes + 4 + i) & 63};
  const int low = byte_at(bytes + 4 + i);
  return {(low & 15) | (byte_at(bytes + i - 4) >> 6) << 4, low >> 4 | (byte_at(bytes + i) >> 6) << 4};
}

// Q4_K, and with a fifth bit Q5_K: 256 numbers are eight runs of 32, two in the halves of 32 bytes each.
void dequantize_runs(const std::byte* block, const std::byte* high, const std::byte* low, float* out) {
  const float scale = half_at(block), least = half_at(block + 2);
  for (int run = 0; run < 8; ++run) {
    const ScaleAndLeast packed = packed_scale(block + 4, run);
    const float run_scale = scale * static_cast<float>(packed.scale);
    const float run_least = least * static_cast<float>(packed.least);
    for (int i = 0; i < 32; ++i) {
      int value = byte_at(low + run / 2 * 32 + i) >> (run % 2 * 4) & 15;
      if (high) value |= (byte_at(high + i) >> run & 1) << 4;
      *out++ = run_scale * static_cast<float>(value) - run_least;
    }
  }
}

void dequantize_q6_k(const std::byte* block, float* out) {
  const std::byte *low = block, *high = block + 128, *scales = block + 192;
  const float scale = half_at(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, quarter = i % 128 / 32, column = i % 32;  // of 128: four runs of 32
    const int four = byte_at(low + half * 64 + quarter % 2 * 32 + column) >> (quarter / 2 * 4) & 15;
    const int two = byte_at(high + half * 32 + column) >> (quarter * 2) & 3;
    const float run_scale = scale * static_cast<float>(static_cast<int8_t>(byte_at(scales + i / 16)));
    out[i] = run_scale * static_cast<float>((four | two << 4) - 32);
  }
}

void dequantize_block(GgmlType type, const std::byte* block, float* out) {
  switch (type) {
    case GgmlType::kF32: std::memcpy(out, block, sizeof(float)); return;
    case GgmlType::kF16: *out = half_at(block); return;
    case GgmlType::kBF16: {
      BFloat16 value;
      std::memcpy(&value, block, sizeof(value));
      *out = to_float(value);
      return;
    }
    case GgmlType::kQ8_0: return dequantize_q8_0(block, out);
    case GgmlType::kQ4_0: return dequantize_q4_0(block, out);
    case GgmlType::kQ4_1: return dequantize_q4_1(block, out);
    case GgmlType::kQ5_0: return dequantize_q5_0(block, out);
    case GgmlType::kQ5_1: return dequantize_q5_1(block, out);
    case GgmlType::kQ4_K: return dequantize_runs(block, nullptr, block + 16, out);
    case GgmlType::kQ5_K: return dequantize_runs(block, block + 16, block + 48, out);
    case GgmlType::kQ6_K: return dequantize_q6_k(block, out);
  }
  CHECK(false, "a type that cannot be read");
}

}  // namespace

const GgmlTypeSize* ggml_type_size(uint32_t number) {
  const auto found = std::ranges::find(kTypes, number, &NumberedType::number);
  return found == kTypes.end() ? nullptr : &found->size;
}

bool is_readable(GgmlType type) { return std::ranges::find(kReadable, type) != kReadable.end(); }

std::string readable_types() {
  std::string names;
  for (const GgmlType type : kReadable)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", ggml_type_size(static_cast<uint32_t>(type))->name);
  return names;
}

void dequantize(GgmlType type, std::span<const std::byte> blocks, std::span<float> numbers) {
  const GgmlTypeSize& size = *ggml_type_size(static_cast<uint32_t>(type));
  const auto block_bytes = static_cast<size_t>(size.block_bytes);
  const auto block_elements = static_cast<size_t>(size.block_elements);
  CHECK(blocks.size() / block_bytes * block_elements == numbers.size() && blocks.size() % block_bytes == 0);
  for (size_t i = 0; i < blocks.size() / block_bytes; ++i)
    dequantize_block(type, blocks.data() + i * block_bytes, numbers.data() + i * block_elements);
}

bool quantize_q8_0(std::span<const float> numbers, std::span<std::byte> blocks) {
  CHECK(numbers.size() % 32 == 0 && blocks.size() == numbers.size() / 32 * 34);
  for (size_t block = 0; block < numbers.size() / 32; ++block) {
    const auto from = numbers.subspan(block * 32, 32);
    std::byte* to = blocks.data() + block * 34;
    float largest = 0;
    for (const float number : from) {
      if (!std::isfinite(number)) return false;
      largest = std::max(largest, std::abs(number));
    }
    const float scale = largest / 127;
    // Of a subnormal it has no bound; the scale is 0 in fp16 long before.
    const float inverse = scale < std::numeric_limits<float>::min() ? 0 : 1 / scale;
    const Float16 stored = to_f16(scale);
    if (!std::isfinite(to_float(stored))) return false;
    std::memcpy(to, &stored, sizeof(stored));
    for (size_t i = 0; i < 32; ++i)
      to[2 + i] = static_cast<std::byte>(static_cast<int8_t>(std::round(from[i] * inverse)));
  }
  return true;
}

}  // namespace colossus
