// Regex::compile: a recursive descent over the syntax, straight into instructions.
#include <fmt/format.h>

#include <limits>
#include <optional>

#include "text/regex.h"
#include "text/utf8.h"

namespace colossus {

namespace {

using internal::RegexInstruction;
using Op = RegexInstruction::Op;
using Mode = RegexInstruction::Mode;

constexpr size_t kMaxPatternBytes = 1 << 14;
constexpr size_t kMaxInstructions = 1 << 13;
constexpr int kMaxDepth = 64;
constexpr uint32_t kMaxCount = 1000;
constexpr uint32_t kUnlimited = std::numeric_limits<uint32_t>::max();

}  // namespace

// A fragment is a run of instructions with targets relative to its own beginning, so that it can be put anywhere, also
// more than once.
class RegexCompiler {
 public:
  explicit RegexCompiler(std::string_view pattern) : pattern_(pattern) {}

  Result<Regex> compile() {
    if (pattern_.size() > kMaxPatternBytes) return fault(fmt::format("longer than {} bytes", kMaxPatternBytes));
    if (find_invalid_utf8(pattern_) != std::string_view::npos) return fault("not UTF-8");
    ignore_case_ = accept("(?i)");
    ASSIGN_OR_RETURN(Fragment whole, alternatives(0));
    if (at_ < pattern_.size()) return fault("a ) without its (");
    if (whole.nullable) return fault("it may match nothing, which splits nowhere");
    whole.code.push_back({.op = Op::kMatch});
    Regex regex;
    regex.pattern_ = pattern_;
    regex.program_ = std::move(whole.code);
    regex.sets_ = std::move(sets_);
    std::vector<bool> seen(regex.program_.size());
    regex.find_beginnings(0, seen);
    return regex;
  }

 private:
  using Code = std::vector<RegexInstruction>;
  struct Fragment {
    Code code;
    bool nullable = true;
    std::optional<uint32_t> set = std::nullopt;  // when it is exactly one character of this set
  };

  Status fault(std::string_view what) const {
    return invalid(fmt::format("the expression '{}' at byte {}: {}", pattern_.substr(0, 200), at_, what));
  }
  bool at_end() const { return at_ >= pattern_.size(); }
  bool looking_at(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  bool accept(std::string_view text) {
    if (!looking_at(text)) return false;
    at_ += text.size();
    return true;
  }
  uint32_t next_code_point() {
    const Utf8Char c = decode_utf8(pattern_.substr(at_));
    at_ += c.num_bytes;
    return c.code_point;
  }

  // Moves `part`'s targets to where it will stand, and appends it.
  static void append(Code& code, const Code& part) {
    const uint32_t base = static_cast<uint32_t>(code.size());
    for (RegexInstruction instruction : part) {
      if (instruction.op == Op::kSplit || instruction.op == Op::kJump || instruction.op == Op::kAhead ||
          instruction.op == Op::kAtomic) {
        instruction.a += base;
        if (instruction.op == Op::kSplit) instruction.b += base;
      }
      code.push_back(instruction);
    }
  }
  static Fragment single(RegexInstruction instruction) { return {.code = {instruction}}; }

  Fragment of_set(CharSet set) {
    if (ignore_case_) set.ignore_case();
    set.finish();
    const uint32_t index = static_cast<uint32_t>(sets_.size());
    sets_.push_back(std::move(set));
    return {.code = {{.op = Op::kSet, .a = index}}, .nullable = false, .set = index};
  }

  Result<Fragment> alternatives(int depth) {
    if (depth > kMaxDepth) return fault("nested too deeply");
    ASSIGN_OR_RETURN(Fragment left, sequence(depth));
    if (!accept("|")) return left;
    ASSIGN_OR_RETURN(const Fragment right, alternatives_tail(depth));
    Fragment both;
    both.nullable = left.nullable || right.nullable;
    const uint32_t left_size = static_cast<uint32_t>(left.code.size());
    both.code.push_back({.op = Op::kSplit, .a = 1, .b = left_size + 2});
    append(both.code, left.code);
    both.code.push_back({.op = Op::kJump, .a = left_size + 2 + static_cast<uint32_t>(right.code.size())});
    append(both.code, right.code);
    return both;
  }
  // A chain of alternatives is as deep as it is long; that depth has a bound of its own.
  Result<Fragment> alternatives_tail(int depth) {
    if (++num_alternatives_ > 256) return fault("more than 256 alternatives");
    return alternatives(depth);
  }

  Result<Fragment> sequence(int depth) {
    Fragment whole;
    while (!at_end() && !looking_at("|") && !looking_at(")")) {
      ASSIGN_OR_RETURN(Fragment part, atom(depth));
      ASSIGN_OR_RETURN(part, repeats(std::move(part)));
      whole.nullable = whole.nullable && part.nullable;
      whole.set = std::nullopt;
      append(whole.code, part.code);
      if (whole.code.size() > kMaxInstructions) return fault("too large");
    }
    return whole;
  }

  Result<uint32_t> number() {
    uint32_t value = 0;
    const size_t begin = at_;
    while (!at_end() && pattern_[at_] >= '0' && pattern_[at_] <= '9' && value <= kMaxCount) {
      value = value * 10 + static_cast<uint32_t>(pattern_[at_++] - '0');
    }
    if (begin == at_ || value > kMaxCount) return fault(fmt::format("wanted a count up to {}", kMaxCount));
    return value;
  }

  Result<Fragment> repeats(Fragment part) {
    while (!at_end()) {
      uint32_t min = 0;
      uint32_t max = kUnlimited;
      bool counted = false;
      if (accept("*")) {
      } else if (accept("+")) {
        min = 1;
      } else if (accept("?")) {
        max = 1;
      } else if (accept("{")) {
        counted = true;
        const bool no_minimum = looking_at(",");
        if (!no_minimum) {
          ASSIGN_OR_RETURN(min, number());
        }
        max = min;
        if (accept(",")) {
          max = kUnlimited;
          if (!looking_at("}")) {
            ASSIGN_OR_RETURN(max, number());
          }
        }
        if (!accept("}") || max < min || max == 0) return fault("wanted {least,most}");
      } else {
        break;
      }
      Mode mode = Mode::kGreedy;
      if (accept("?")) {
        mode = Mode::kLazy;
      } else if (looking_at("+")) {
        if (counted) return fault("{..}+ means different things in different libraries");
        accept("+");
        mode = Mode::kPossessive;
      }
      ASSIGN_OR_RETURN(part, repeat(std::move(part), min, max, mode));
    }
    return part;
  }

  Result<Fragment> repeat(Fragment part, uint32_t min, uint32_t max, Mode mode) {
    if (part.set) {
      return Fragment{.code = {{.op = Op::kLoop, .mode = mode, .a = *part.set, .min = min, .max = max}},
                      .nullable = min == 0};
    }
    if (part.nullable) return fault("a repeat of what may match nothing");
    const uint32_t size = static_cast<uint32_t>(part.code.size());
    const uint32_t copies = max == kUnlimited ? min + 1 : max;
    if (static_cast<uint64_t>(copies) * (size + 2) > kMaxInstructions) return fault("too large");
    Fragment whole{.code = {}, .nullable = min == 0};
    for (uint32_t i = 0; i < min; ++i) append(whole.code, part.code);
    const auto split = [&](uint32_t into, uint32_t past) {
      return mode == Mode::kLazy ? RegexInstruction{.op = Op::kSplit, .a = past, .b = into}
                                 : RegexInstruction{.op = Op::kSplit, .a = into, .b = past};
    };
    if (max == kUnlimited) {
      const uint32_t begin = static_cast<uint32_t>(whole.code.size());
      whole.code.push_back(split(begin + 1, begin + size + 2));
      append(whole.code, part.code);
      whole.code.push_back({.op = Op::kJump, .a = begin});
    } else {
      const uint32_t end = static_cast<uint32_t>(whole.code.size()) + (max - min) * (size + 1);
      for (uint32_t i = min; i < max; ++i) {
        whole.code.push_back(split(static_cast<uint32_t>(whole.code.size()) + 1, end));
        append(whole.code, part.code);
      }
    }
    return mode == Mode::kPossessive ? enclosed(Op::kAtomic, 0, std::move(whole)) : whole;
  }

  // `inner` as a program of its own behind an instruction that runs it.
  static Fragment enclosed(Op op, uint32_t negated, Fragment inner) {
    Fragment whole{.code = {{.op = op, .a = static_cast<uint32_t>(inner.code.size()) + 2, .b = negated}},
                   .nullable = op == Op::kAhead || inner.nullable};
    append(whole.code, inner.code);
    whole.code.push_back({.op = Op::kMatch});
    return whole;
  }

  Result<Fragment> group(int depth) {
    const bool ignored_case = ignore_case_;
    std::optional<Op> op;
    uint32_t negated = 0;
    if (accept("?")) {
      if (accept("=") || looking_at("!")) {
        op = Op::kAhead;
        negated = accept("!") ? 1 : 0;
      } else if (accept(">")) {
        op = Op::kAtomic;
      } else if (accept("i:")) {
        ignore_case_ = true;
      } else if (accept("-i:")) {
        ignore_case_ = false;
      } else if (!accept(":")) {
        return fault("this kind of group is not supported");
      }
    }
    ASSIGN_OR_RETURN(Fragment inner, alternatives(depth + 1));
    ignore_case_ = ignored_case;
    if (!accept(")")) return fault("a ( without its )");
    return op ? enclosed(*op, negated, std::move(inner)) : inner;
  }

  Result<Fragment> atom(int depth) {
    if (accept("(")) return group(depth);
    if (accept("^")) return single({.op = Op::kLineBegin});
    if (accept("$")) return single({.op = Op::kLineEnd});
    if (accept(".")) {
      CharSet set;
      set.add_range('\n', '\n');
      set.negate();
      return of_set(std::move(set));
    }
    if (accept("[")) {
      ASSIGN_OR_RETURN(CharSet set, char_class(depth));
      return of_set(std::move(set));
    }
    if (accept("\\A")) return single({.op = Op::kTextBegin});
    if (accept("\\z")) return single({.op = Op::kTextEnd});
    if (accept("\\b")) return single({.op = Op::kWordBorder});
    if (accept("\\B")) return single({.op = Op::kWordBorder, .b = 1});
    if (looking_at("*") || looking_at("+") || looking_at("?") || looking_at("{")) return fault("nothing to repeat");
    CharSet set;
    if (accept("\\")) {
      RETURN_IF_ERROR(escape(set).status());
    } else {
      const uint32_t c = next_code_point();
      set.add_range(c, c);
    }
    return of_set(std::move(set));
  }

  // What stands behind a backslash, added to `set`; the code point if it is one character.
  Result<std::optional<uint32_t>> escape(CharSet& set) {
    if (at_end()) return fault("a backslash at the end");
    const char kind = pattern_[at_];
    const auto add = [&](CharSet part, bool negated) -> Result<std::optional<uint32_t>> {
      ++at_;
      if (negated) part.negate();
      set.add(std::move(part));
      return std::optional<uint32_t>();
    };
    CharSet part;
    switch (kind) {
      case 's':
      case 'S': part.add_space(); return add(std::move(part), kind == 'S');
      case 'd':
      case 'D': part.add_categories(*category_mask("Nd")); return add(std::move(part), kind == 'D');
      case 'w':
      case 'W': part.add_word(); return add(std::move(part), kind == 'W');
      case 'p':
      case 'P': return property(set);
      default: break;
    }
    ASSIGN_OR_RETURN(const uint32_t c, escaped_character());
    set.add_range(c, c);
    return std::optional(c);
  }

  Result<uint32_t> escaped_character() {
    switch (const char kind = pattern_[at_]; kind) {
      case 'n': ++at_; return uint32_t{'\n'};
      case 'r': ++at_; return uint32_t{'\r'};
      case 't': ++at_; return uint32_t{'\t'};
      case 'f': ++at_; return uint32_t{'\f'};
      case 'x':
      case 'u': return hexadecimal(kind);
      default:
        if ((kind >= 'a' && kind <= 'z') || (kind >= 'A' && kind <= 'Z') || (kind >= '0' && kind <= '9')) {
          return fault(fmt::format("\\{} is not supported", kind));
        }
        return next_code_point();
    }
  }

  // \xHH, \x{H..}, \uHHHH
  Result<uint32_t> hexadecimal(char kind) {
    ++at_;
    const bool braces = kind == 'x' && accept("{");
    const size_t wanted = braces ? 6 : kind == 'x' ? 2 : 4;
    uint32_t value = 0;
    size_t digits = 0;
    for (; digits < wanted && !at_end(); ++digits, ++at_) {
      const char c = pattern_[at_];
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) break;
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    const bool sound = braces ? digits > 0 && accept("}") : digits == wanted;
    // \x80 and up are bytes in Oniguruma, not characters.
    if (!sound || value > 0x10FFFF || (kind == 'x' && !braces && value > 0x7F)) return fault("no such character");
    return value;
  }

  // \p{L}, \P{L}, \p{^L}
  Result<std::optional<uint32_t>> property(CharSet& set) {
    bool negated = pattern_[at_++] == 'P';
    if (!accept("{")) return fault("wanted \\p{..}");
    if (accept("^")) negated = !negated;
    const size_t end = pattern_.find('}', at_);
    if (end == std::string_view::npos) return fault("wanted \\p{..}");
    const std::string_view name = pattern_.substr(at_, end - at_);
    CharSet part;
    if (const auto mask = category_mask(name)) {
      part.add_categories(*mask);
    } else if (const auto script = script_named(name)) {
      part.add_script(*script);
    } else {
      return fault(fmt::format("no category or script '{}' is known here", name.substr(0, 40)));
    }
    at_ = end + 1;
    if (negated) part.negate();
    set.add(std::move(part));
    return std::optional<uint32_t>();
  }

  // What stands behind a [.
  Result<CharSet> char_class(int depth) {
    if (depth > kMaxDepth) return fault("nested too deeply");
    const bool negated = accept("^");
    std::vector<CharSet> operands(1);
    bool empty = true;
    while (true) {
      if (at_end()) return fault("a [ without its ]");
      if (accept("]")) break;
      if (looking_at("[:")) return fault("[:..:] is not supported; write \\p{..}");
      if (accept("&&")) {
        if (empty) return fault("an empty class");
        operands.emplace_back();
        empty = true;
        continue;
      }
      empty = false;
      if (accept("[")) {
        ASSIGN_OR_RETURN(CharSet inner, char_class(depth + 1));
        operands.back().add(std::move(inner));
        continue;
      }
      RETURN_IF_ERROR(class_item(operands.back()));
    }
    if (empty) return fault("an empty class");
    CharSet set;
    set.add(std::move(operands[0]));
    for (size_t i = 1; i < operands.size(); ++i) set.intersect(std::move(operands[i]));
    if (!negated) return set;
    CharSet outer;
    outer.add(std::move(set));
    outer.negate();
    return outer;
  }

  // One character, one range, or one class that an escape names.
  Status class_item(CharSet& set) {
    std::optional<uint32_t> first;
    CharSet alone;
    if (accept("\\")) {
      ASSIGN_OR_RETURN(first, escape(alone));
    } else {
      first = next_code_point();
      alone.add_range(*first, *first);
    }
    const bool range = first && looking_at("-") && !pattern_.substr(at_).starts_with("-]");
    if (!range) {
      set.add(std::move(alone));
      return ok_status();
    }
    accept("-");
    uint32_t last = 0;
    if (accept("\\")) {
      if (at_end()) return fault("a backslash at the end");
      ASSIGN_OR_RETURN(last, escaped_character());
    } else {
      if (at_end() || looking_at("[")) return fault("a range without its end");
      last = next_code_point();
    }
    if (last < *first) return fault("a range that ends before it begins");
    set.add_range(*first, last);
    return ok_status();
  }

  std::string_view pattern_;
  size_t at_ = 0;
  bool ignore_case_ = false;
  int num_alternatives_ = 0;
  std::vector<CharSet> sets_;
};

// What a match that has come to `pc` without taking a character may begin with; at the very least.
void Regex::find_beginnings(uint32_t pc, std::vector<bool>& seen) {
  while (!seen[pc]) {
    seen[pc] = true;
    const RegexInstruction& instruction = program_[pc];
    switch (instruction.op) {
      case Op::kMatch: return;  // of a group, whose own instruction goes on behind it: the whole takes a character
      case Op::kSet:
      case Op::kLoop: {
        const CharSet& set = sets_[instruction.a];
        for (uint32_t byte = 0; byte < 256; ++byte) {
          if (byte < 128 ? set.contains(byte) : !set.ascii_only()) may_begin_[byte] = true;
        }
        if (instruction.op == Op::kSet || instruction.min > 0) return;
        break;
      }
      case Op::kSplit: find_beginnings(instruction.b, seen); [[fallthrough]];
      case Op::kJump:
      case Op::kAhead: pc = instruction.a; continue;
      case Op::kAtomic: find_beginnings(instruction.a, seen); break;
      case Op::kLineBegin:
      case Op::kLineEnd:
      case Op::kTextBegin:
      case Op::kTextEnd:
      case Op::kWordBorder: break;
    }
    ++pc;
  }
}

Result<Regex> Regex::compile(std::string_view pattern) { return RegexCompiler(pattern).compile(); }

}  // namespace colossus
