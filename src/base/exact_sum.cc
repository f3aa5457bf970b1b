#include "base/exact_sum.h"

#include <bit>
#include <cmath>
#include <limits>

namespace colossus {
namespace {

// Integers only: a thread that flushes denormals sums the same.
constexpr int kMantissaBits = 52, kExponentBias = 1023, kNotFinite = 0x7FF;
constexpr int64_t kLimbMask = 0xFFFFFFFF;

// A term adds less than 3 * 2^31 to a limb, another sum at most 2^32.
constexpr int kMaxAdded = 1 << 20;
static_assert(kLimbMask + kMaxAdded * (int64_t{3} << 31) < std::numeric_limits<int64_t>::max());
static_assert((ExactSum::kHighestExponent - ExactSum::kLowestExponent - 1 - kMantissaBits) / 32 + 2 < ExactSum::kLimbs);

}  // namespace

ExactSum::Words ExactSum::normalized(Words words) {
  int64_t carry = 0;
  for (int i = 0; i < kLimbs - 1; ++i) {
    const int64_t limb = words[static_cast<size_t>(i)] + carry;
    words[static_cast<size_t>(i)] = limb & kLimbMask;
    carry = limb >> 32;  // towards minus infinity: the limb stays positive
  }
  words[kLimbs - 1] += carry;
  return words;
}

void ExactSum::add(double term) {
  const auto bits = std::bit_cast<uint64_t>(term);
  if (bits << 1 == 0) return;
  const int exponent = static_cast<int>((bits >> kMantissaBits) & kNotFinite);
  uint64_t mantissa = (bits & ((uint64_t{1} << kMantissaBits) - 1)) | (uint64_t{1} << kMantissaBits);
  int position = exponent - kExponentBias - kMantissaBits - kLowestExponent;  // of the mantissa's lowest bit
  const bool too_fine = position < -kMantissaBits || (position < 0 && mantissa << (64 + position) != 0);
  if (exponent == kNotFinite || exponent - kExponentBias >= kHighestExponent || too_fine) {
    ++words_[kLimbs];
    return;
  }
  if (position < 0) {
    mantissa >>= -position;
    position = 0;
  }
  const int shift = position % 32;
  const uint64_t low = (mantissa & kLimbMask) << shift, high = (mantissa >> 32) << shift;
  const int64_t sign = bits >> 63 != 0 ? -1 : 1;
  int64_t* limb = words_.data() + position / 32;
  limb[0] += sign * static_cast<int64_t>(low & kLimbMask);
  limb[1] += sign * static_cast<int64_t>((low >> 32) + (high & kLimbMask));
  limb[2] += sign * static_cast<int64_t>(high >> 32);
  if (++num_added_ == kMaxAdded) *this = ExactSum(words_);
}

void ExactSum::add(const ExactSum& other) {
  const Words words = other.words();
  for (size_t i = 0; i < words.size(); ++i) words_[i] += words[i];
  if (++num_added_ == kMaxAdded) *this = ExactSum(words_);
}

double ExactSum::value() const {
  if (words_[kLimbs] != 0) return std::numeric_limits<double>::quiet_NaN();
  Words words = words_;
  const bool negative = normalized(words)[kLimbs - 1] < 0;
  if (negative)
    for (int64_t& word : words) word = -word;
  words = normalized(words);
  // As 32-bit digits, two zeros below; the last limb has up to 63 bits.
  std::array<uint64_t, kLimbs + 3> digits = {};
  for (size_t i = 0; i < kLimbs; ++i) digits[i + 2] = static_cast<uint64_t>(words[i] & kLimbMask);
  digits.back() = static_cast<uint64_t>(words[kLimbs - 1]) >> 32;
  size_t top = digits.size() - 1;
  while (top > 2 && digits[top] == 0) --top;
  if (digits[top] == 0) return 0;
  // The highest 64 bits, the first of them set, and whether anything is below.
  const uint64_t leading = digits[top] << 32 | digits[top - 1];
  const int zeros = std::countl_zero(leading);
  const uint64_t next = digits[top - 2] << zeros;
  const uint64_t window = leading << zeros | next >> 32;
  bool below = (next & kLimbMask) != 0;
  for (size_t i = 0; i + 2 < top; ++i) below = below || digits[i] != 0;
  constexpr int kDropped = 63 - kMantissaBits;
  constexpr uint64_t kHalf = uint64_t{1} << (kDropped - 1);
  uint64_t mantissa = window >> kDropped;
  const uint64_t rest = window & (2 * kHalf - 1);
  if (rest > kHalf || (rest == kHalf && (below || mantissa % 2 == 1))) ++mantissa;
  const int lowest_bit = 32 * (static_cast<int>(top) - 2) + 63 - zeros - 32 - kMantissaBits;  // of the mantissa
  const double magnitude = std::ldexp(static_cast<double>(mantissa), lowest_bit + kLowestExponent);
  return negative ? -magnitude : magnitude;
}

}  // namespace colossus
