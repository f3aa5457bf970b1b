#include "text/splitter.h"

#include <array>
#include <type_traits>

#include "text/unicode_classes.h"
#include "text/utf8.h"

namespace colossus {

namespace {

struct PatternEntry {
  SplitPattern pattern;
  const char* name;
  const char* regex;
};

constexpr std::array<PatternEntry, 5> kPatterns = {{
    {SplitPattern::kNone, "none", ""},
    {SplitPattern::kGpt2, "gpt2", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {SplitPattern::kCl100k, "cl100k",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
     R"(\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {SplitPattern::kQwen2, "qwen2",
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
     R"(\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {SplitPattern::kO200k, "o200k",
     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
     R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
}};

constexpr ClassMask kLonger = 128;  // no class: the first byte of a character of several, or no character

// What unicode_classes() says of ASCII (splitter_test holds the two together): no memory but this for most of a text.
constexpr std::array<ClassMask, 256> kByteClasses = [] {
  std::array<ClassMask, 256> classes{};
  for (int c = 'A'; c <= 'Z'; ++c) classes[c] = kUpper;
  for (int c = 'a'; c <= 'z'; ++c) classes[c] = kLower;
  for (int c = '0'; c <= '9'; ++c) classes[c] = kNumber;
  for (const char c : {' ', '\t', '\v', '\f'}) classes[c] = kSpace;
  for (const char c : {'\r', '\n'}) classes[c] = kSpace | kNewline;
  for (int byte = 0x80; byte < 0x100; ++byte) classes[byte] = kLonger;
  return classes;
}();

// Reads characters' classes from `text`, never past its end. `counts`: and counts how often, for count_split_reads().
template <bool counts>
class CharacterCursor {
 public:
  explicit CharacterCursor(std::string_view text) : text_(text), classes_(unicode_classes()) {}

  bool at_end(size_t at) const { return at >= text_.size(); }
  uint8_t byte(size_t at) const {
    count();
    return at_end(at) ? 0 : static_cast<uint8_t>(text_[at]);
  }

  // The class of the character at `at` and, in `next`, where it ends. At the end of the text: no class, next = at.
  ClassMask read(size_t at, size_t& next) const {
    count();
    if (at_end(at)) {
      next = at;
      return 0;
    }
    const ClassMask mask = byte_class(at);
    if (mask == kLonger) return read_longer(at, next);
    next = at + 1;
    return mask;
  }

  // Past the longest run at `at` of characters with any bit of `mask`.
  size_t skip(size_t at, ClassMask mask) const {
    while (!at_end(at)) {
      count();
      const ClassMask one = byte_class(at);
      size_t next = at + 1;
      if ((one & mask) == 0 && (one != kLonger || (read_longer(at, next) & mask) == 0)) break;
      at = next;
    }
    return at;
  }
  // Past the longest run of characters with no bit of `mask`.
  size_t skip_others(size_t at, ClassMask mask) const {
    for (size_t next; !at_end(at) && (read(at, next) & mask) == 0; at = next) {
    }
    return at;
  }
  int64_t num_reads() const { return num_reads_; }

 private:
  void count() const {
    if constexpr (counts) ++num_reads_;
  }
  ClassMask byte_class(size_t at) const { return kByteClasses[static_cast<uint8_t>(text_[at])]; }
  ClassMask read_longer(size_t at, size_t& next) const {
    const Utf8Char c = decode_utf8(text_.substr(at));
    next = at + c.num_bytes;
    return c.code_point == kInvalidCodePoint ? 0 : classes_[c.code_point];
  }

  std::string_view text_;
  const ClassMask* classes_;
  mutable int64_t num_reads_ = 0;
};

// Past 's 't 're 've 'm 'll 'd at `at`, or `at`. Without regard to case, U+017F (long s) counts as an s.
template <class Cursor>
size_t skip_contraction(const Cursor& cursor, size_t at, bool any_case) {
  if (cursor.byte(at) != '\'') return at;
  const auto letter = [&](size_t i) {
    const uint8_t byte = cursor.byte(i);
    return any_case && byte >= 'A' && byte <= 'Z' ? static_cast<uint8_t>(byte + 32) : byte;
  };
  const uint8_t first = letter(at + 1);
  const uint8_t second = letter(at + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if ((first == 'r' || first == 'v') && second == 'e') return at + 3;
  if (first == 'l' && second == 'l') return at + 3;
  if (any_case && first == 0xC5 && second == 0xBF) return at + 3;
  return at;
}

// \s+(?!\S)|\s+ for the white space at `begin`: all of it at the end of the text, else all but its last character,
// which the next piece may want; but at least one.
template <class Cursor>
size_t split_space(const Cursor& cursor, size_t begin) {
  size_t last = begin;
  size_t at = begin;
  for (size_t next; (cursor.read(at, next) & kSpace) != 0; at = next) last = at;
  return cursor.at_end(at) || last == begin ? at : last;
}

// \s*[\r\n]+ : up to and with the last line end of the white space at `begin`; `begin` if it holds none.
template <class Cursor>
size_t split_lines(const Cursor& cursor, size_t begin) {
  size_t end = begin;
  ClassMask mask;
  for (size_t at = begin, next; ((mask = cursor.read(at, next)) & kSpace) != 0; at = next) {
    if (mask & kNewline) end = next;
  }
  return end;
}

template <class Cursor>
size_t split_gpt2(const Cursor& cursor, size_t begin) {
  if (const size_t end = skip_contraction(cursor, begin, false); end != begin) return end;
  size_t at = begin;
  size_t next;
  ClassMask mask = cursor.read(begin, next);
  if (cursor.byte(begin) == ' ') {  // joins what follows, unless that is white space or nothing
    at = next;
    mask = cursor.at_end(at) ? kSpace : cursor.read(at, next);
  }
  if (mask & kLetter) return cursor.skip(at, kLetter);
  if (mask & kNumber) return cursor.skip(at, kNumber);
  if (mask & kSpace) return split_space(cursor, begin);
  return cursor.skip_others(at, kSpace | kLetter | kNumber);
}

// What cl100k and o200k share once letters are ruled out.
template <class Cursor>
size_t split_rest(const Cursor& cursor, size_t begin, int max_digits, bool slash_ends) {
  size_t next;
  ClassMask mask = cursor.read(begin, next);
  if (mask & kNumber) {
    size_t at = next;
    for (int digits = 1; digits < max_digits && (cursor.read(at, next) & kNumber) != 0; ++digits) at = next;
    return at;
  }
  size_t at = begin;
  if (cursor.byte(begin) == ' ' && !cursor.at_end(next)) {
    at = next;
    mask = cursor.read(at, next);
  }
  if ((mask & (kSpace | kLetter | kNumber)) == 0) {
    at = cursor.skip_others(at, kSpace | kLetter | kNumber);
    while (cursor.byte(at) == '\r' || cursor.byte(at) == '\n' || (slash_ends && cursor.byte(at) == '/')) ++at;
    return at;
  }
  const size_t lines = split_lines(cursor, begin);
  return lines != begin ? lines : split_space(cursor, begin);
}

template <int max_digits, class Cursor>
size_t split_cl100k(const Cursor& cursor, size_t begin) {
  if (const size_t end = skip_contraction(cursor, begin, true); end != begin) return end;
  size_t next;
  const ClassMask mask = cursor.read(begin, next);
  if (mask & kLetter) return cursor.skip(next, kLetter);
  if ((mask & (kNewline | kNumber)) == 0) {
    if (const size_t end = cursor.skip(next, kLetter); end != next) return end;
  }
  return split_rest(cursor, begin, max_digits, false);
}

// [upper]*[lower]+ of o200k at `at`, where marks and caseless letters are both; `at` if there is no match.
// When the first run took all that is there, the match ends with its last character that is lower as well.
template <class Cursor>
size_t split_ends_lower(const Cursor& cursor, size_t at) {
  constexpr ClassMask kUpperSet = kUpper | kNeutral | kMark;
  constexpr ClassMask kLowerSet = kLower | kNeutral | kMark;
  size_t shared_end = at;
  size_t end = at;
  ClassMask mask;
  for (size_t next; ((mask = cursor.read(end, next)) & kUpperSet) != 0; end = next) {
    if (mask & kLowerSet) shared_end = next;
  }
  const size_t lower_end = cursor.skip(end, kLowerSet);
  return lower_end != end ? lower_end : shared_end;
}

template <class Cursor>
size_t split_o200k(const Cursor& cursor, size_t begin) {
  constexpr ClassMask kUpperSet = kUpper | kNeutral | kMark;
  constexpr ClassMask kLowerSet = kLower | kNeutral | kMark;
  size_t next;
  const ClassMask mask = cursor.read(begin, next);
  const bool may_prefix = (mask & (kNewline | kLetter | kNumber)) == 0;
  // Each alternative first tries with the optional leading character, then without.
  for (const bool ends_lower : {true, false}) {
    for (const bool with_prefix : {true, false}) {
      if (with_prefix && !may_prefix) continue;
      const size_t start = with_prefix ? next : begin;
      size_t end = ends_lower ? split_ends_lower(cursor, start) : cursor.skip(start, kUpperSet);
      if (end == start) continue;
      if (!ends_lower) end = cursor.skip(end, kLowerSet);
      return skip_contraction(cursor, end, true);
    }
  }
  return split_rest(cursor, begin, 3, true);
}

// The end of the piece of `pattern` at `begin`.
template <SplitPattern pattern, class Cursor>
size_t piece_end(const Cursor& cursor, std::string_view text, size_t begin) {
  switch (pattern) {
    case SplitPattern::kGpt2: return split_gpt2(cursor, begin);
    case SplitPattern::kCl100k: return split_cl100k<3>(cursor, begin);
    case SplitPattern::kQwen2: return split_cl100k<1>(cursor, begin);
    case SplitPattern::kO200k: return split_o200k(cursor, begin);
    case SplitPattern::kNone: break;
  }
  return text.size();
}

// Calls visit(std::integral_constant<SplitPattern, pattern>).
template <class Visit>
auto visit_pattern(SplitPattern pattern, Visit&& visit) {
  switch (pattern) {
    case SplitPattern::kGpt2: return visit(std::integral_constant<SplitPattern, SplitPattern::kGpt2>());
    case SplitPattern::kCl100k: return visit(std::integral_constant<SplitPattern, SplitPattern::kCl100k>());
    case SplitPattern::kQwen2: return visit(std::integral_constant<SplitPattern, SplitPattern::kQwen2>());
    case SplitPattern::kO200k: return visit(std::integral_constant<SplitPattern, SplitPattern::kO200k>());
    case SplitPattern::kNone: break;
  }
  return visit(std::integral_constant<SplitPattern, SplitPattern::kNone>());
}

}  // namespace

const char* split_pattern_name(SplitPattern pattern) { return kPatterns[static_cast<size_t>(pattern)].name; }

const char* split_pattern_regex(SplitPattern pattern) { return kPatterns[static_cast<size_t>(pattern)].regex; }

std::optional<SplitPattern> split_pattern_named(std::string_view name) {
  for (const PatternEntry& entry : kPatterns) {
    if (name == entry.name) return entry.pattern;
  }
  return std::nullopt;
}

std::optional<SplitPattern> split_pattern_of_regex(std::string_view regex) {
  for (const PatternEntry& entry : kPatterns) {
    if (!regex.empty() && regex == entry.regex) return entry.pattern;
  }
  return std::nullopt;
}

SplitFunction split_function(SplitPattern pattern) {
  return visit_pattern(pattern, [](auto known) -> SplitFunction {
    return [](std::string_view text, size_t begin, std::span<size_t> ends) {
      const CharacterCursor<false> cursor(text);
      size_t num_pieces = 0;
      while (num_pieces < ends.size() && begin < text.size()) {
        ends[num_pieces++] = begin = piece_end<decltype(known)::value>(cursor, text, begin);
      }
      return num_pieces;
    };
  });
}

int64_t count_split_reads(SplitPattern pattern, std::string_view text) {
  return visit_pattern(pattern, [&](auto known) {
    const CharacterCursor<true> cursor(text);
    for (size_t at = 0; at < text.size();) at = piece_end<decltype(known)::value>(cursor, text, at);
    return cursor.num_reads();
  });
}

}  // namespace colossus
