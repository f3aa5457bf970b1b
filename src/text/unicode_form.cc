#include "text/unicode_form.h"

#include <algorithm>
#include <vector>

#include "text/unicode_data.h"
#include "text/utf8.h"

namespace colossus {

namespace {

struct Placed {
  uint32_t code_point;
  size_t begin;  // in the text before
  size_t end;
  uint8_t combining_class;
};

// Puts marks in the order of their classes; equal ones stay in theirs (Unicode 16, D109).
void order_marks(std::vector<Placed>& characters) {
  for (size_t at = 0; at < characters.size();) {
    if (characters[at].combining_class == 0) {
      ++at;
      continue;
    }
    const size_t begin = at;
    while (at < characters.size() && characters[at].combining_class != 0) ++at;
    std::stable_sort(characters.begin() + begin, characters.begin() + at,
                     [](const Placed& a, const Placed& b) { return a.combining_class < b.combining_class; });
  }
}

// Unicode 16, D117.
void compose_characters(std::vector<Placed>& characters) {
  size_t kept = 0;
  size_t starter = characters.size();  // of the characters kept; none yet
  int last_class = -1;                 // of the kept one before; -1: the starter itself
  for (const Placed c : characters) {
    const bool open = starter < kept && last_class < static_cast<int>(c.combining_class);
    const uint32_t composed = open ? composition(characters[starter].code_point, c.code_point) : 0;
    if (composed != 0) {
      characters[starter].code_point = composed;
      characters[starter].end = std::max(characters[starter].end, c.end);
      continue;
    }
    characters[kept] = c;
    if (c.combining_class == 0) {
      starter = kept;
      last_class = -1;
    } else {
      last_class = c.combining_class;
    }
    ++kept;
  }
  characters.resize(kept);
}

}  // namespace

AlignedText to_unicode_form(const AlignedText& text, bool compatibility, bool compose) {
  AlignedText made = AlignedText::like(text);
  const std::string_view bytes = text.text();
  std::vector<Placed> pending;
  std::vector<uint32_t> parts;
  std::string utf8;
  const auto flush = [&] {
    order_marks(pending);
    if (compose) compose_characters(pending);
    for (const Placed& c : pending) {
      utf8.clear();
      append_utf8(utf8, c.code_point);
      made.append(utf8, text, c.begin, c.end);
    }
    pending.clear();
  };
  for (size_t at = 0; at < bytes.size();) {
    // ASCII is in all forms, and what stands before it composes with nothing in it: most text is copied.
    size_t end = at;
    while (end < bytes.size() && static_cast<uint8_t>(bytes[end]) < 0x80) ++end;
    if (end > at + 1) {
      flush();
      made.copy(text, at, end - 1);  // the last one may yet take a mark
      at = end - 1;
    }
    const Utf8Char c = decode_utf8(bytes.substr(at));
    if (c.code_point == kInvalidCodePoint) {
      flush();
      made.copy(text, at, at + 1);
      ++at;
      continue;
    }
    parts.clear();
    append_decomposition(parts, c.code_point, compatibility);
    for (const uint32_t part : parts) pending.push_back({part, at, at + c.num_bytes, combining_class(part)});
    at += c.num_bytes;
  }
  flush();
  return made;
}

}  // namespace colossus
