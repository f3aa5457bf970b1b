// Sums without rounding: the same bits in any order, cut over any number of threads or machines. A fixed-point number
// wide enough for every float and every square of a float, with carries put off ("superaccumulator": Kulisch and
// Miranker 1986; Neal 2015, "Fast exact summation using small and large superaccumulators").
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace colossus {

// All of it is constexpr so that kernels on GPUs can call it.
class ExactSum {
 public:
  // Terms are multiples of 2^kLowestExponent below 2^kHighestExponent in magnitude: floats, squares of floats, and
  // fp64 sums of up to 2^44 of either, rounded or not. 2^70 terms are no risk.
  static constexpr int kLowestExponent = -298, kHighestExponent = 300;

  static constexpr int kLimbs = 20;
  static constexpr int kWords = kLimbs + 1;
  // Limb i counts units of 2^(32 i + kLowestExponent); the last word counts terms that are no such number.
  using Words = std::array<int64_t, kWords>;

  // What a term adds to limbs `first` to first + 2.
  struct Parts {
    int first;  // kLimbs: it is no such number
    std::array<int64_t, 3> limbs;
  };
  static constexpr Parts parts_of(double term);

  constexpr ExactSum() = default;
  // From words() of up to 2^30 sums, added word by word by whatever adds integers: the sum of all their terms.
  explicit constexpr ExactSum(const Words& words) : words_(normalized(words)) {}

  constexpr void add(double term);
  constexpr void add(const ExactSum& other);

  // A function of the sum alone: limbs in [0, 2^32), but for the last one, which has the sign.
  constexpr Words words() const { return normalized(words_); }
  // Rounded once, to nearest even. NaN if a term was NaN, infinite or outside the range above.
  constexpr double value() const;

 private:
  // Integers only: a thread that flushes denormals sums the same.
  static constexpr int kMantissaBits = 52, kExponentBias = 1023, kNotFinite = 0x7FF;
  static constexpr int64_t kLimbMask = 0xFFFFFFFF;
  // A term adds less than 3 * 2^31 to a limb, another sum at most 2^32.
  static constexpr int kMaxAdded = 1 << 20;
  static_assert(kLimbMask + kMaxAdded * (int64_t{3} << 31) < std::numeric_limits<int64_t>::max());
  static_assert((kHighestExponent - kLowestExponent - 1 - kMantissaBits) / 32 + 2 < kLimbs);

  static constexpr Words normalized(Words words);
  constexpr void note_addition() {
    if (++num_added_ == kMaxAdded) *this = ExactSum(words_);
  }

  Words words_ = {};   // limbs of either sign
  int num_added_ = 0;  // since carries were last moved on
};

constexpr ExactSum::Words ExactSum::normalized(Words words) {
  int64_t carry = 0;
  for (int i = 0; i < kLimbs - 1; ++i) {
    const int64_t limb = words[static_cast<size_t>(i)] + carry;
    words[static_cast<size_t>(i)] = limb & kLimbMask;
    carry = limb >> 32;  // towards minus infinity: the limb stays positive
  }
  words[kLimbs - 1] += carry;
  return words;
}

constexpr ExactSum::Parts ExactSum::parts_of(double term) {
  const auto bits = std::bit_cast<uint64_t>(term);
  if (bits << 1 == 0) return {0, {0, 0, 0}};
  const int exponent = static_cast<int>((bits >> kMantissaBits) & kNotFinite);
  uint64_t mantissa = (bits & ((uint64_t{1} << kMantissaBits) - 1)) | (uint64_t{1} << kMantissaBits);
  int position = exponent - kExponentBias - kMantissaBits - kLowestExponent;  // of the mantissa's lowest bit
  const bool too_fine = position < -kMantissaBits || (position < 0 && mantissa << (64 + position) != 0);
  if (exponent == kNotFinite || exponent - kExponentBias >= kHighestExponent || too_fine) return {kLimbs, {1, 0, 0}};
  if (position < 0) {
    mantissa >>= -position;
    position = 0;
  }
  const int shift = position % 32;
  const uint64_t low = (mantissa & kLimbMask) << shift, high = (mantissa >> 32) << shift;
  const int64_t sign = bits >> 63 != 0 ? -1 : 1;
  return {position / 32,
          {sign * static_cast<int64_t>(low & kLimbMask), sign * static_cast<int64_t>((low >> 32) + (high & kLimbMask)),
           sign * static_cast<int64_t>(high >> 32)}};
}

constexpr void ExactSum::add(double term) {
  const Parts parts = parts_of(term);
  if (parts.first == kLimbs) {
    ++words_[kLimbs];
    return;
  }
  for (size_t i = 0; i < parts.limbs.size(); ++i) words_[static_cast<size_t>(parts.first) + i] += parts.limbs[i];
  note_addition();
}

constexpr void ExactSum::add(const ExactSum& other) {
  const Words words = other.words();
  for (size_t i = 0; i < words.size(); ++i) words_[i] += words[i];
  note_addition();
}

constexpr double ExactSum::value() const {
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
  // The first bit of the mantissa adds one to the exponent below it, as does a mantissa that was rounded up to 2^53.
  const auto exponent = static_cast<uint64_t>(lowest_bit + kLowestExponent + kMantissaBits + kExponentBias - 1);
  const auto magnitude = std::bit_cast<double>((exponent << kMantissaBits) + mantissa);
  return negative ? -magnitude : magnitude;
}

}  // namespace colossus
