// Sums without rounding: the same bits in any order, cut over any number of threads or machines. A fixed-point number
// wide enough for every float and every square of a float, with carries put off ("superaccumulator": Kulisch and
// Miranker 1986; Neal 2015, "Fast exact summation using small and large superaccumulators").
#pragma once

#include <array>
#include <cstdint>

namespace colossus {

class ExactSum {
 public:
  // Terms are multiples of 2^kLowestExponent below 2^kHighestExponent in magnitude: floats, squares of floats, and
  // fp64 sums of up to 2^44 of either, rounded or not. 2^70 terms are no risk.
  static constexpr int kLowestExponent = -298, kHighestExponent = 300;

  static constexpr int kLimbs = 20;
  static constexpr int kWords = kLimbs + 1;
  // Limb i counts units of 2^(32 i + kLowestExponent); the last word counts terms that are no such number.
  using Words = std::array<int64_t, kWords>;

  ExactSum() = default;
  // From words() of up to 2^30 sums, added word by word by whatever adds integers: the sum of all their terms.
  explicit ExactSum(const Words& words) : words_(normalized(words)) {}

  void add(double term);
  void add(const ExactSum& other);

  // A function of the sum alone: limbs in [0, 2^32), but for the last one, which has the sign.
  Words words() const { return normalized(words_); }
  // Rounded once, to nearest even. NaN if a term was NaN, infinite or outside the range above.
  double value() const;

 private:
  static Words normalized(Words words);

  Words words_ = {};   // limbs of either sign
  int num_added_ = 0;  // since carries were last moved on
};

}  // namespace colossus
