// What normalizers, regular expressions and pre-tokenizers ask of a character: category, script, normal forms, lower
// case. Unicode 16. The tables are generated: see tests/oracle/make_unicode_data.py.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/function_ref.h"

namespace colossus {

// In the order of the generated table.
enum class Category : uint8_t {
  kCn,
  kLu,
  kLl,
  kLt,
  kLm,
  kLo,
  kMn,
  kMc,
  kMe,
  kNd,
  kNl,
  kNo,
  kPc,
  kPd,
  kPs,
  kPe,
  kPi,
  kPf,
  kPo,
  kSm,
  kSc,
  kSk,
  kSo,
  kZs,
  kZl,
  kZp,
  kCc,
  kCf,
  kCs,
  kCo
};
enum class Script : uint8_t {
  kOther,
  kHan,
  kHiragana,
  kKatakana,
  kHangul,
  kLatin,
  kGreek,
  kCyrillic,
  kArabic,
  kHebrew,
  kThai,
  kDevanagari
};

// `code_point` below 0x110000; for kInvalidCodePoint (a byte that is no UTF-8): kCn, kOther, class 0.
Category category_of(uint32_t code_point);
Script script_of(uint32_t code_point);
uint8_t combining_class(uint32_t code_point);

// Runs of one category each that cover [0, 0x110000), in order.
void for_each_category_run(FunctionRef<void(uint32_t first, uint32_t end, Category category)> visit);

// "Lu" -> bit of kLu; "L" -> all letters; nothing for a name that is none.
std::optional<uint32_t> category_mask(std::string_view name);
std::optional<Script> script_named(std::string_view name);
inline uint32_t category_bit(uint32_t code_point) { return 1u << static_cast<uint8_t>(category_of(code_point)); }

// White_Space, as \s and Rust's char::is_whitespace see it.
bool is_white_space(uint32_t code_point);
// \w of Unicode's recommendation (UTS 18, annex C), less joiners: letters, marks, decimal digits, letter numbers,
// connecting punctuation.
bool is_word_character(uint32_t code_point);

// The full decomposition of one character (Unicode 16, section 3.7), or nothing where it is its own. Code points.
void append_decomposition(std::vector<uint32_t>& out, uint32_t code_point, bool compatibility);
// What two characters compose to; 0 if nothing.
uint32_t composition(uint32_t first, uint32_t second);
// Appends the lower case: one code point, for U+0130 two.
void append_lower_case(std::vector<uint32_t>& out, uint32_t code_point);

}  // namespace colossus
