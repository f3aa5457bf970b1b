// A set of characters as a class of a regular expression describes it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "text/unicode_data.h"

namespace colossus {

class CharSet {
 public:
  void add_range(uint32_t first, uint32_t last) { ranges_.emplace_back(first, last); }
  void add_categories(uint32_t mask) { categories_ |= mask; }
  void add_script(Script script) { scripts_ |= 1u << static_cast<uint8_t>(script); }
  void add_space() { space_ = true; }
  void add_word() { word_ = true; }
  void add(CharSet other) { unions_.push_back(std::move(other)); }
  void intersect(CharSet other) { intersections_.push_back(std::move(other)); }
  void negate() { negated_ = !negated_; }
  void ignore_case() { fold_ = true; }

  // Makes the table for ASCII: after the last change, before the first contains().
  void finish() {
    for (uint32_t c = 0; c < 128; ++c) ascii_[c] = evaluate(c);
  }
  // Of kInvalidCodePoint, a byte that is no UTF-8, too: it has no class but "not".
  bool contains(uint32_t code_point) const { return code_point < 128 ? ascii_[code_point] : evaluate(code_point); }

  // Whether it surely holds nothing else.
  bool ascii_only() const {
    return categories_ == 0 && scripts_ == 0 && !space_ && !word_ && !fold_ && !negated_ && unions_.empty() &&
           std::all_of(ranges_.begin(), ranges_.end(), [](const auto& range) { return range.second < 128; });
  }

 private:
  bool evaluate(uint32_t c) const {
    bool in = holds(c);
    if (fold_ && !in) {
      std::vector<uint32_t> lower;
      append_lower_case(lower, c == 0x17F ? 's' : c);  // long s; the Kelvin sign has k for its lower case
      in = holds(lower[0]) || (lower[0] >= 'a' && lower[0] <= 'z' && holds(lower[0] - 32));
    }
    in = in != negated_;
    for (const CharSet& other : intersections_) in = in && other.evaluate(c);
    return in;
  }
  bool holds(uint32_t c) const {
    for (const auto& [first, last] : ranges_) {
      if (c >= first && c <= last) return true;
    }
    if ((categories_ & category_bit(c)) != 0) return true;
    if (scripts_ != 0 && (scripts_ >> static_cast<uint8_t>(script_of(c)) & 1) != 0) return true;
    if ((space_ && is_white_space(c)) || (word_ && is_word_character(c))) return true;
    for (const CharSet& other : unions_) {
      if (other.evaluate(c)) return true;
    }
    return false;
  }

  std::vector<std::pair<uint32_t, uint32_t>> ranges_;
  uint32_t categories_ = 0;
  uint32_t scripts_ = 0;
  bool space_ = false;
  bool word_ = false;
  bool fold_ = false;
  bool negated_ = false;  // before the intersections
  std::vector<CharSet> unions_;
  std::vector<CharSet> intersections_;
  std::array<bool, 128> ascii_{};
};

}  // namespace colossus
