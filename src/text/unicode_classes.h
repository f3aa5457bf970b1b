// What the splitting patterns ask of a character: letter (and its case), mark, number, white space, line end.
// Unicode 16 (text/unicode_data.h).
#pragma once

#include <cstdint>

namespace colossus {

// Bits of a class mask; a character that has none of them is "other" (punctuation, symbols, controls, unassigned).
using ClassMask = uint8_t;
inline constexpr ClassMask kUpper = 1;     // Lu, Lt
inline constexpr ClassMask kLower = 2;     // Ll
inline constexpr ClassMask kNeutral = 4;   // Lm, Lo
inline constexpr ClassMask kMark = 8;      // Mn, Mc, Me
inline constexpr ClassMask kNumber = 16;   // Nd, Nl, No
inline constexpr ClassMask kSpace = 32;    // White_Space
inline constexpr ClassMask kNewline = 64;  // \r \n, which are kSpace too
inline constexpr ClassMask kLetter = kUpper | kLower | kNeutral;

// One mask per code point, 0x110000 of them; made on first use. Never null.
const ClassMask* unicode_classes();

}  // namespace colossus
