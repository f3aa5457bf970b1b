#include "text/normalizer.h"

#include <algorithm>

#include "text/unicode_data.h"
#include "text/unicode_form.h"
#include "text/utf8.h"

namespace colossus {

namespace {

// Calls visit(code point, begin, end) for each character, one for each byte that is no UTF-8.
template <class Visit>
void for_each_character(std::string_view text, Visit&& visit) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text.substr(at));
    visit(c.code_point, at, at + c.num_bytes);
    at += c.num_bytes;
  }
}

Status apply(const UnicodeForm& form, AlignedText& text) {
  text = to_unicode_form(text, form.compatibility, form.compose);
  return ok_status();
}

Status apply(const Lowercase&, AlignedText& text) {
  AlignedText made = AlignedText::like(text);
  std::vector<uint32_t> lower;
  std::string utf8;
  for_each_character(text.text(), [&](uint32_t c, size_t begin, size_t end) {
    lower.clear();
    if (c != kInvalidCodePoint) append_lower_case(lower, c);
    if (lower.empty() || (lower.size() == 1 && lower[0] == c)) return made.copy(text, begin, end);
    utf8.clear();
    for (const uint32_t part : lower) append_utf8(utf8, part);
    made.append(utf8, text, begin, end);
  });
  text = std::move(made);
  return ok_status();
}

Status apply(const StripSpace& strip, AlignedText& text) {
  if (!strip.left && !strip.right) return ok_status();
  size_t first = text.text().size();  // of what is no white space
  size_t last = 0;
  for_each_character(text.text(), [&](uint32_t c, size_t begin, size_t end) {
    if (is_white_space(c)) return;
    first = std::min(first, begin);
    last = end;
  });
  const bool only_space = last == 0;
  const size_t begin = only_space || !strip.left ? 0 : first;
  const size_t end = only_space || strip.right ? last : text.text().size();
  AlignedText made = AlignedText::like(text);
  made.copy(text, begin, end);
  text = std::move(made);
  return ok_status();
}

Status apply(const StripAccents&, AlignedText& text) {
  static const uint32_t marks = *category_mask("M");
  AlignedText made = AlignedText::like(text);
  for_each_character(text.text(), [&](uint32_t c, size_t begin, size_t end) {
    if ((category_bit(c) & marks) == 0) made.copy(text, begin, end);
  });
  text = std::move(made);
  return ok_status();
}

Status apply(const ReplaceText& replace, AlignedText& text) {
  AlignedText made = AlignedText::like(text);
  size_t done = 0;
  const auto found = [&](size_t begin, size_t end) {
    made.copy(text, done, begin);
    made.append(replace.content, text, begin, end);
    done = end;
  };
  if (replace.regex) {
    RETURN_IF_ERROR(replace.regex->for_each_match(text.text(), found));
  } else {
    for (size_t at = 0; (at = text.text().find(replace.literal, at)) != std::string_view::npos; at = done) {
      found(at, at + replace.literal.size());
    }
  }
  made.copy(text, done, text.text().size());
  text = std::move(made);
  return ok_status();
}

Status apply(const PrependText& prepend, AlignedText& text) {
  if (text.text().empty()) return ok_status();
  AlignedText made = AlignedText::like(text);
  made.append(prepend.text, text, 0, 0);
  made.copy(text, 0, text.text().size());
  text = std::move(made);
  return ok_status();
}

Status apply(const MapCharacters& mapping, AlignedText& text) {
  AlignedText made = AlignedText::like(text);
  for (size_t at = 0; at < text.text().size();) {
    if (const auto match = mapping.map->longest_prefix(text.text(), at)) {
      made.append(match->replacement, text, at, at + match->length);
      at += match->length;
    } else {
      const size_t end = at + decode_utf8(text.text().substr(at)).num_bytes;
      made.copy(text, at, end);
      at = end;
    }
  }
  text = std::move(made);
  return ok_status();
}

// One piece of the input and what it becomes.
struct Mapped {
  std::string_view bytes;
  size_t length;
};

Mapped map_prefix(const SentencePieceNormalizer& step, std::string_view text, size_t at) {
  if (step.kept != nullptr) {
    if (const auto kept = step.kept->longest_prefix(text, at)) return {text.substr(at, kept->length), kept->length};
  }
  if (const auto match = step.map->longest_prefix(text, at)) return {match->replacement, match->length};
  const Utf8Char c = decode_utf8(text.substr(at));
  if (c.code_point == kInvalidCodePoint) return {kReplacementCharacter, 1};
  return {text.substr(at, c.num_bytes), c.num_bytes};
}

// Where the characters of ASCII from `at` on end that stay as they are, blanks left aside.
size_t end_of_plain(const SentencePieceNormalizer& step, std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  while (at < text.size() && byte(at) != ' ' && step.map->keeps_ascii(byte(at)) &&
         (at + 1 == text.size() || byte(at + 1) < 0x80) && (step.kept == nullptr || !step.kept->begins_any(text[at]))) {
    ++at;
  }
  return at;
}

Status apply(const SentencePieceNormalizer& step, AlignedText& text) {
  const std::string_view input = text.text();
  const std::string_view blank = step.escape_whitespaces ? kBlank : std::string_view(" ");
  AlignedText made = AlignedText::like(text);
  size_t at = 0;
  while (step.remove_extra_whitespaces && at < input.size()) {
    const Mapped mapped = map_prefix(step, input, at);
    if (mapped.bytes != " ") break;
    at += mapped.length;
  }
  if (at < input.size()) {
    if (step.add_dummy_prefix && !step.whitespace_as_suffix) made.append(blank, text, at, at);
    bool after_blank = step.remove_extra_whitespaces;
    while (at < input.size()) {
      if (const size_t end = end_of_plain(step, input, at); end != at) {
        made.copy(text, at, end);
        after_blank = false;
        at = end;
        continue;
      }
      const Mapped mapped = map_prefix(step, input, at);
      std::string_view bytes = mapped.bytes;
      while (after_blank && bytes.starts_with(' ')) bytes.remove_prefix(1);
      if (!bytes.empty()) {
        after_blank = step.remove_extra_whitespaces && bytes.ends_with(' ');
        for (size_t space; (space = bytes.find(' ')) != std::string_view::npos; bytes.remove_prefix(space + 1)) {
          made.append(bytes.substr(0, space), text, at, at + mapped.length);
          made.append(blank, text, at, at + mapped.length);
        }
        made.append(bytes, text, at, at + mapped.length);
      }
      at += mapped.length;
    }
    while (step.remove_extra_whitespaces && made.text().ends_with(blank)) {
      made.truncate(made.text().size() - blank.size());
    }
    if (step.add_dummy_prefix && step.whitespace_as_suffix) made.append(blank, text, at, at);
  }
  text = std::move(made);
  return ok_status();
}

}  // namespace

Status normalize(const std::vector<NormalizerStep>& steps, AlignedText& text) {
  for (const NormalizerStep& step : steps) {
    RETURN_IF_ERROR(std::visit([&](const auto& kind) { return apply(kind, text); }, step));
  }
  return ok_status();
}

}  // namespace colossus
