// The element types of GGUF files: floats, and blocks of quantized numbers as ggml packs them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace colossus {

// Numbers as in the files. Types that are not named here are known by their size alone.
enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};

// Elements of a row come in blocks: so many, in so many bytes.
struct GgmlTypeSize {
  std::string_view name;  // "Q4_K"
  int64_t block_elements = 0;
  int64_t block_bytes = 0;
};

// Null: no type has this number.
const GgmlTypeSize* ggml_type_size(uint32_t number);

// Whether its values can be read: it is a float, or dequantize takes it.
bool is_readable(GgmlType type);
std::string readable_types();  // "F32, F16, ...", for messages

// The numbers that blocks stand for; whole blocks. All of ggml's arithmetic is in fp32, and this is its order: the
// results are those of its reference, bit for bit. Needs a readable type.
void dequantize(GgmlType type, std::span<const std::byte> blocks, std::span<float> numbers);

// Whole blocks of 32 numbers as Q8_0, the bytes that ggml's reference gives: the scale is the largest magnitude over
// 127, rounded to fp16 when all were divided by it; halves round away from zero. False: a number is not finite, or so
// large that its scale is no fp16.
[[nodiscard]] bool quantize_q8_0(std::span<const float> numbers, std::span<std::byte> blocks);

}  // namespace colossus
