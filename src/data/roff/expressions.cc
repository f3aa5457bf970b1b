// Conditions, number registers and escapes of the roff interpreter.
#include <algorithm>
#include <cctype>
#include <charconv>

#include "data/roff/interpreter.h"
#include "data/roff/text_filler.h"

namespace colossus::roff {
namespace {

constexpr int kMaxStringDepth = 20;
constexpr std::string_view kSpaces = " \t";

void append_utf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
  } else if (code < 0x10000) {
    out += {static_cast<char>(0xE0 | (code >> 12)), static_cast<char>(0x80 | ((code >> 6) & 0x3F)),
            static_cast<char>(0x80 | (code & 0x3F))};
  } else if (code < 0x110000) {
    out += {static_cast<char>(0xF0 | (code >> 18)), static_cast<char>(0x80 | ((code >> 12) & 0x3F)),
            static_cast<char>(0x80 | ((code >> 6) & 0x3F)), static_cast<char>(0x80 | (code & 0x3F))};
  }
}

// The name behind an escape: x, (xx or [any]. Moves `at` behind it.
std::string_view escape_name(std::string_view text, size_t& at) {
  if (at >= text.size()) return {};
  const size_t begin = at;
  if (text[at] == '(') {
    at = std::min(at + 3, text.size());
    return text.substr(begin + 1, at - begin - 1);
  }
  if (text[at] == '[') {
    const size_t close = std::min(text.find(']', at), text.size());
    at = std::min(close + 1, text.size());
    return text.substr(begin + 1, close - begin - 1);
  }
  return text.substr(at++, 1);
}

// The argument between two equal characters, as in \h'3n'. Moves `at` behind it.
std::string_view quoted_argument(std::string_view text, size_t& at) {
  if (at >= text.size()) return {};
  const size_t close = std::min(text.find(text[at], at + 1), text.size());
  const std::string_view inside = text.substr(at + 1, close - at - 1);
  at = std::min(close + 1, text.size());
  return inside;
}

std::string named_glyph(std::string_view name) {
  if (name.size() > 1 && name.front() == 'u' &&
      name.find_first_not_of("0123456789ABCDEF_", 1) == std::string_view::npos) {
    std::string out;  // u0041_0301: a letter and what stands above it
    for (size_t at = 1; at < name.size();) {
      const size_t end = std::min(name.find_first_of("_u", at), name.size());
      uint32_t code = 0;
      std::from_chars(name.data() + at, name.data() + end, code, 16);
      append_utf8(out, code);
      at = end + 1;
    }
    return out;
  }
  if (name.starts_with("char")) {
    uint32_t code = 0;
    std::from_chars(name.data() + 4, name.data() + name.size(), code);
    std::string out;
    if (code >= 32) append_utf8(out, code);
    return out;
  }
  return std::string(glyph(name));
}

// \s-1 \s+2 \s0 \s10 \s(12 \s[+2] \s'3': the size is dropped.
void skip_size(std::string_view text, size_t& at) {
  if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
  if (at >= text.size()) return;
  if (text[at] == '(' || text[at] == '[')
    escape_name(text, at);
  else if (text[at] == '\'')
    quoted_argument(text, at);
  else if (std::isdigit(static_cast<unsigned char>(text[at])) != 0) {
    const bool two_digits = text[at] >= '1' && text[at] <= '3' && at + 1 < text.size() &&
                            std::isdigit(static_cast<unsigned char>(text[at + 1])) != 0;
    at += two_digits ? 2 : 1;
  }
}

// Moving right is a space to the reader; moving left, by fractions or by measured widths is overprinting.
bool moves_right(std::string_view move) {
  return !move.starts_with('-') && !move.starts_with("0.") && move.find_first_of("\\u") == std::string_view::npos &&
         move.find_first_of("123456789") != std::string_view::npos;
}

// Integers with + - * / % < > = <= >= & : ! and parentheses, from left to right without precedence; units are skipped.
class Evaluator {
 public:
  explicit Evaluator(std::string_view text) : text_(text) {}
  long value(int depth = 0) {
    long left = operand(depth);
    while (at_ < text_.size() && text_[at_] != ')') {
      const char op = text_[at_++];
      const bool or_equal = at_ < text_.size() && text_[at_] == '=' && (op == '<' || op == '>' || op == '=');
      if (or_equal) ++at_;
      left = apply(op, or_equal, left, operand(depth));
    }
    return left;
  }

 private:
  static long apply(char op, bool or_equal, long left, long right) {
    const auto wrap = [](auto l, auto r, auto f) {
      return static_cast<long>(f(static_cast<unsigned long>(l), static_cast<unsigned long>(r)));
    };
    switch (op) {
      case '+': return wrap(left, right, std::plus<>());
      case '-': return wrap(left, right, std::minus<>());
      case '*': return wrap(left, right, std::multiplies<>());
      case '/': return right == 0 || right == -1 ? 0 : left / right;
      case '%': return right == 0 || right == -1 ? 0 : left % right;
      case '<': return or_equal ? left <= right : left < right;
      case '>': return or_equal ? left >= right : left > right;
      case '=': return left == right;
      case '&': return left > 0 && right > 0;
      case ':': return left > 0 || right > 0;
      default: return left;
    }
  }
  long operand(int depth) {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    if (at_ >= text_.size() || depth > 50) return at_ = text_.size(), 0;
    if (text_[at_] == '!') return ++at_, operand(depth + 1) > 0 ? 0 : 1;
    if (text_[at_] == '-') return ++at_, static_cast<long>(0UL - static_cast<unsigned long>(operand(depth + 1)));
    if (text_[at_] == '+') return ++at_, operand(depth + 1);
    if (text_[at_] == '(') {
      ++at_;
      const long inside = value(depth + 1);
      if (at_ < text_.size()) ++at_;
      return inside;
    }
    long number = 0;
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), number);
    at_ = static_cast<size_t>(end - text_.data());
    while (at_ < text_.size() && (std::isalpha(static_cast<unsigned char>(text_[at_])) != 0 || text_[at_] == '.' ||
                                  std::isdigit(static_cast<unsigned char>(text_[at_])) != 0)) {
      ++at_;
    }
    return number;
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

long Interpreter::register_value(const std::string& name) const {
  const auto found = registers_.find(name);
  return found == registers_.end() ? 0 : found->second;
}

long Interpreter::evaluate(std::string_view expression) { return Evaluator(expression).value(); }

bool Interpreter::condition(std::string_view& rest) {
  rest.remove_prefix(std::min(rest.find_first_not_of(kSpaces), rest.size()));
  if (rest.empty()) return false;
  const char kind = rest.front();
  if (kind == '!') {
    const size_t marks = std::min(rest.find_first_not_of('!'), rest.size());
    rest.remove_prefix(marks);
    return condition(rest) == (marks % 2 == 0);
  }
  if (std::string_view("noetv").find(kind) != std::string_view::npos) {
    rest.remove_prefix(1);
    return kind == 'n' || kind == 'o';
  }
  if (kind == 'd' || kind == 'r' || kind == 'c') {
    rest.remove_prefix(1);
    rest.remove_prefix(std::min(rest.find_first_not_of(kSpaces), rest.size()));
    const size_t end = std::min(rest.find_first_of(" \t\\"), rest.size());
    const std::string name(rest.substr(0, end));
    rest.remove_prefix(end);
    return kind == 'd' ? macros_.contains(name) || strings_.contains(name) : kind == 'r' && registers_.contains(name);
  }
  if (std::isdigit(static_cast<unsigned char>(kind)) == 0 && kind != '\\' && kind != '(' && kind != '-' &&
      kind != '+') {
    size_t at = 0;  // 'this'that'
    const std::string_view left = quoted_argument(rest, at);
    --at;
    const std::string_view right = quoted_argument(rest, at);
    const bool equal = expand(left) == expand(right);
    rest.remove_prefix(at);
    return equal;
  }
  int depth = 0;
  size_t end = 0;
  for (; end < rest.size(); ++end) {
    if (rest[end] == '(' && (end < 2 || rest[end - 2] != '\\')) ++depth;
    if (rest[end] == ')') --depth;
    if (depth <= 0 && kSpaces.find(rest[end]) != std::string_view::npos) break;
    if (rest.substr(end, 2) == "\\{") break;
  }
  const std::string expression = expand(rest.substr(0, end));
  rest.remove_prefix(end);
  return evaluate(expression) > 0;
}

std::string Interpreter::expand(std::string_view text) { return expand_nested(text, 0); }

std::string Interpreter::expand_nested(std::string_view text, int depth) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    if (text[at] == '\\') {
      at = expand_escape(text, at + 1, out, depth);
    } else {
      const size_t end = std::min(text.find('\\', at), text.size());
      out += text.substr(at, end - at);
      at = end;
    }
  }
  return out;
}

// `at` is behind the backslash; the result behind the escape.
size_t Interpreter::expand_escape(std::string_view text, size_t at, std::string& out, int depth) {
  if (at >= text.size()) return at;
  const char kind = text[at++];
  switch (kind) {
    case '-': out += '-'; return at;
    case 'e':
    case '\\':
    case 'E': out += '\\'; return at;
    case ' ':
    case '~':
    case '0': out += kHardSpace; return at;
    case 't': out += '\t'; return at;
    case '\'': out += "´"; return at;
    case '`': out += '`'; return at;
    case '.': out += '.'; return at;
    case '(':
    case '[': {
      --at;
      const std::string_view name = escape_name(text, at);
      const auto translated = translations_.find(std::string(name));
      out += translated != translations_.end() ? translated->second : named_glyph(name);
      return at;
    }
    case 'C': out += named_glyph(quoted_argument(text, at)); return at;
    case 'N': out += named_glyph("char" + std::string(quoted_argument(text, at))); return at;
    case '*': {
      const auto found = strings_.find(std::string(escape_name(text, at)));
      if (found == strings_.end() || depth >= kMaxStringDepth || found->second.size() > expansion_left_) return at;
      expansion_left_ -= found->second.size() + 1;
      out += expand_nested(std::string(found->second), depth + 1);
      return at;
    }
    case 'n': {
      if (at < text.size() && (text[at] == '+' || text[at] == '-')) ++at;
      out += std::to_string(register_value(std::string(escape_name(text, at))));
      return at;
    }
    case 'w':
      out += std::to_string(
          display_width(depth < kMaxStringDepth ? expand_nested(quoted_argument(text, at), depth + 1) : ""));
      return at;
    case 'f':
    case 'F':
    case 'm':
    case 'M':
    case 'g':
    case 'k':
    case 'V':
    case 'Y':
    case 'O': escape_name(text, at); return at;
    case 's': skip_size(text, at); return at;
    case 'h':
      if (moves_right(quoted_argument(text, at))) out += kHardSpace;
      return at;
    case 'o': {  // overstrike: the first of the characters stands for all
      const std::string inside(quoted_argument(text, at));
      out += inside.starts_with('\\') ? expand_nested(inside, depth + 1 < kMaxStringDepth ? depth + 1 : depth)
                                      : inside.substr(0, 1);
      return at;
    }
    case 'v':
    case 'l':
    case 'L':
    case 'D':
    case 'b':
    case 'x':
    case 'H':
    case 'S':
    case 'R':
    case 'X':
    case 'A':
    case 'B':
    case 'Z': quoted_argument(text, at); return at;
    case '$': return std::min(at + 1, text.size());  // an argument outside of a macro
    case '"':
    case '#': return text.size();
    case 'z':  // a character that takes no room: shown all the same
    default:
      // \& \| \^ \/ \, \% \: \) \{ \} \c \d \u \r \p \a \!: no text of their own. Any other character stands for
      // itself.
      if (std::string_view("&|^/,%:){}cdurpza!?@_").find(kind) == std::string_view::npos) out += kind;
      return at;
  }
}

}  // namespace colossus::roff
