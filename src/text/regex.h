// The regular expressions of tokenizer.json: the part of Oniguruma's syntax (Ruby's) that splitting text needs, over
// bytes that may not be UTF-8. Alternatives in order, greedy, lazy and possessive repeats, classes with \p{..} and &&,
// look-ahead, atomic groups, (?i:..). No back-references, no look-behind: what is not understood is refused, not
// guessed.
//
// Matching backtracks, as these expressions are meant, but with a budget of steps in proportion to the text: an
// expression that runs away ends in an error. Unicode 16.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/function_ref.h"
#include "base/status.h"
#include "text/char_set.h"

namespace colossus {

namespace internal {

struct RegexInstruction {
  enum class Op : uint8_t {
    kSet,         // a character of sets[a]
    kLoop,        // `min` to `max` characters of sets[a], as `mode` says
    kSplit,       // go on at a; if that fails, at b
    kJump,        // to a
    kAhead,       // what begins behind this must match here (b: must not); go on at a
    kAtomic,      // what begins behind this, taken or left as a whole; go on at a
    kLineBegin,   // ^
    kLineEnd,     // $
    kTextBegin,   // \A
    kTextEnd,     // \z
    kWordBorder,  // \b (b: \B)
    kMatch,
  };
  enum class Mode : uint8_t { kGreedy, kLazy, kPossessive };
  Op op = Op::kMatch;
  Mode mode = Mode::kGreedy;
  uint32_t a = 0;
  uint32_t b = 0;
  uint32_t min = 0;
  uint32_t max = 0;
};

}  // namespace internal

class Regex {
 public:
  // Errors say what is not understood, and where. An expression that may match nothing is refused: it splits nowhere.
  static Result<Regex> compile(std::string_view pattern);

  // Calls `found` for each match from left to right; none overlaps the one before. Fails when the budget is spent:
  // kStepsPerByte steps a byte, and kFreeSteps. `num_steps`: how many were taken.
  Status for_each_match(std::string_view text, FunctionRef<void(size_t begin, size_t end)> found,
                        int64_t* num_steps = nullptr) const;
  static constexpr int64_t kStepsPerByte = 256;
  static constexpr int64_t kFreeSteps = 1 << 16;

  const std::string& pattern() const { return pattern_; }

 private:
  friend class RegexCompiler;
  void find_beginnings(uint32_t pc, std::vector<bool>& seen);
  std::string pattern_;
  std::vector<internal::RegexInstruction> program_;
  std::vector<CharSet> sets_;
  std::array<bool, 256> may_begin_{};  // by the first byte of a match
};

}  // namespace colossus
