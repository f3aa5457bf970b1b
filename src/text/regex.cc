#include "text/regex.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/utf8.h"

namespace colossus {

namespace {

using internal::RegexInstruction;
using Op = RegexInstruction::Op;
using Mode = RegexInstruction::Mode;

// One pass over one text.
class RegexMatcher {
 public:
  RegexMatcher(const std::vector<RegexInstruction>& program, const std::vector<CharSet>& sets, std::string_view text)
      : program_(program),
        sets_(sets),
        text_(text),
        budget_(Regex::kFreeSteps + Regex::kStepsPerByte * static_cast<int64_t>(text.size())),
        steps_left_(budget_) {}

  // The end of the match of the program at `pc` that begins at `at`; npos if there is none, or no budget.
  size_t match(uint32_t pc, size_t at) {
    const size_t base = stack_.size();
    while (true) {
      if (--steps_left_ < 0) {
        stack_.resize(base);
        return std::string_view::npos;
      }
      if (program_[pc].op == Op::kMatch) {
        stack_.resize(base);
        return at;
      }
      if (step(pc, at)) continue;
      do {
        if (stack_.size() == base) return std::string_view::npos;
      } while (!resume(pc, at));
    }
  }
  bool exhausted() const { return steps_left_ < 0; }
  int64_t budget() const { return budget_; }
  int64_t num_steps() const { return budget_ - steps_left_; }
  size_t after(size_t at) const { return at + decode_utf8(text_.substr(at)).num_bytes; }

 private:
  // Where to go on when what follows fails. A loop's frame gives up one character at a time (greedy) or takes one more.
  struct Frame {
    uint32_t pc;
    size_t at;
    size_t limit;        // of a greedy loop: not below
    uint32_t remaining;  // of a lazy loop: characters it may still take
    enum class Kind : uint8_t { kPlain, kGreedy, kLazy } kind;
  };

  uint32_t code_point_at(size_t at, size_t& next) const {
    const uint8_t byte = static_cast<uint8_t>(text_[at]);
    if (byte < 0x80) {
      next = at + 1;
      return byte;
    }
    const Utf8Char c = decode_utf8(text_.substr(at));
    next = at + c.num_bytes;
    return c.code_point;
  }

  // Takes one character of the set.
  bool take(const CharSet& set, size_t& at) const {
    size_t next;
    if (at >= text_.size() || !set.contains(code_point_at(at, next))) return false;
    at = next;
    return true;
  }

  // The beginning of the character that ends at `end`: a whole one, or else one wrong byte.
  size_t before(size_t end) const {
    for (size_t size = std::min<size_t>(4, end); size > 1; --size) {
      const Utf8Char c = decode_utf8(text_.substr(end - size, size));
      if (c.code_point != kInvalidCodePoint && c.num_bytes == size) return end - size;
    }
    return end - 1;
  }

  bool word_at(size_t at) const {
    size_t next;
    return at < text_.size() && is_word_character(code_point_at(at, next));
  }

  bool loop(const RegexInstruction& instruction, uint32_t& pc, size_t& at) {
    const CharSet& set = sets_[instruction.a];
    uint32_t taken = 0;
    for (; taken < instruction.min; ++taken) {
      if (!take(set, at)) return false;
    }
    const size_t least = at;
    ++pc;
    if (instruction.mode == Mode::kLazy) {
      if (taken < instruction.max) {
        stack_.push_back({pc, at, 0, instruction.max - taken, Frame::Kind::kLazy});
      }
      return true;
    }
    while (taken < instruction.max && take(set, at)) ++taken;
    steps_left_ -= static_cast<int64_t>(taken / 8);
    if (instruction.mode == Mode::kGreedy && at > least) stack_.push_back({pc, at, least, 0, Frame::Kind::kGreedy});
    return true;
  }

  // One instruction; false if it does not match.
  bool step(uint32_t& pc, size_t& at) {
    const RegexInstruction& instruction = program_[pc];
    switch (instruction.op) {
      case Op::kSet: return take(sets_[instruction.a], at) && ++pc;
      case Op::kLoop: return loop(instruction, pc, at);
      case Op::kSplit:
        stack_.push_back({instruction.b, at, 0, 0, Frame::Kind::kPlain});
        pc = instruction.a;
        return true;
      case Op::kJump: pc = instruction.a; return true;
      case Op::kAhead: {
        const bool met = match(pc + 1, at) != std::string_view::npos;
        pc = instruction.a;
        return met == (instruction.b == 0);
      }
      case Op::kAtomic:
        at = match(pc + 1, at);
        pc = instruction.a;
        return at != std::string_view::npos;
      case Op::kLineBegin: return (at == 0 || (text_[at - 1] == '\n' && at < text_.size())) && ++pc;
      case Op::kLineEnd: return (at == text_.size() || text_[at] == '\n') && ++pc;
      case Op::kTextBegin: return at == 0 && ++pc;
      case Op::kTextEnd: return at == text_.size() && ++pc;
      case Op::kWordBorder: {
        const bool border = (at > 0 && word_at(before(at))) != word_at(at);
        return border == (instruction.b == 0) && ++pc;
      }
      case Op::kMatch: break;
    }
    return true;
  }

  // Takes up the newest frame; false if it has nothing left to try. Needs one.
  bool resume(uint32_t& pc, size_t& at) {
    Frame& frame = stack_.back();
    pc = frame.pc;
    at = frame.at;
    bool goes_on = true;
    bool spent = true;
    if (frame.kind == Frame::Kind::kGreedy) {
      at = frame.at = before(at);
      spent = at <= frame.limit;
    } else if (frame.kind == Frame::Kind::kLazy) {
      goes_on = take(sets_[program_[pc - 1].a], at);  // the loop stands before where it goes on
      frame.at = at;
      spent = !goes_on || --frame.remaining == 0;
    }
    if (spent) stack_.pop_back();
    return goes_on;
  }

  const std::vector<RegexInstruction>& program_;
  const std::vector<CharSet>& sets_;
  std::string_view text_;
  const int64_t budget_;
  int64_t steps_left_;
  std::vector<Frame> stack_;
};

}  // namespace

Status Regex::for_each_match(std::string_view text, FunctionRef<void(size_t begin, size_t end)> found,
                             int64_t* num_steps) const {
  RegexMatcher matcher(program_, sets_, text);
  if (num_steps != nullptr) *num_steps = 0;
  for (size_t at = 0; at < text.size();) {
    if (!may_begin_[static_cast<uint8_t>(text[at])]) {
      ++at;  // of a character of several bytes one by one, where none of those may begin
      continue;
    }
    const size_t end = matcher.match(0, at);
    if (num_steps != nullptr) *num_steps = matcher.num_steps();
    if (matcher.exhausted()) {
      return colossus::exhausted(
          fmt::format("the expression '{}' needs more than {} steps for {} bytes of text, at byte {}; it runs away",
                      pattern_, matcher.budget(), text.size(), at));
    }
    if (end == std::string_view::npos || end == at) {
      at = matcher.after(at);
    } else {
      found(at, end);
      at = end;
    }
  }
  return ok_status();
}

}  // namespace colossus
