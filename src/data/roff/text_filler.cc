#include "data/roff/text_filler.h"

#include <algorithm>
#include <utility>

namespace colossus::roff {

int display_width(std::string_view text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

void TextFiller::begin_line() {
  if (line_open_) return;
  if (blank_wanted_ && !out_.empty()) out_ += '\n';
  blank_wanted_ = blank_refused_ = false;
  line_.assign(static_cast<size_t>(indent_), ' ');
  width_ = indent_;
  line_open_ = true;
  needs_space_ = false;
}

void TextFiller::line_break() {
  glued_ = false;
  if (!line_open_) return;
  while (!line_.empty() && (line_.back() == ' ' || line_.back() == kHardSpace)) line_.pop_back();
  std::replace(line_.begin(), line_.end(), kHardSpace, ' ');
  out_ += line_;
  out_ += '\n';
  line_open_ = false;
}

void TextFiller::paragraph() {
  line_break();
  blank_wanted_ = !blank_refused_;
}

void TextFiller::set_fill(bool fill) {
  line_break();
  fill_ = fill;
}

void TextFiller::word(std::string_view text) {
  const int width = display_width(text);
  const bool space = line_open_ && needs_space_ && !glued_;
  // What is glued on stays, even beyond the margin.
  if (line_open_ && !glued_ && needs_space_ && width_ + 1 + width > kLineWidth)
    line_break();
  else if (space) {
    line_ += ' ';
    ++width_;
  }
  begin_line();
  line_ += text;
  width_ += width;
  needs_space_ = true;
  glued_ = false;
}

void TextFiller::text(std::string_view line) {
  if (!fill_) {
    if (line_open_ && !glued_) line_break();
    begin_line();
    line_ += line;
    needs_space_ = true;
    glued_ = false;
    return;
  }
  const size_t first = line.find_first_not_of(" \t");
  if (first == std::string_view::npos) return;
  if (first > 0 && !glued_) {
    line_break();
    begin_line();
    line_.append(std::min(first, size_t{kLineWidth / 2}), ' ');
    width_ += static_cast<int>(std::min(first, size_t{kLineWidth / 2}));
  }
  for (size_t at = first; at < line.size();) {
    const size_t end = std::min(line.find_first_of(" \t", at), line.size());
    word(line.substr(at, end - at));
    at = std::min(line.find_first_not_of(" \t", end), line.size());
  }
}

void TextFiller::tag(std::string_view text, int indent) {
  line_break();
  set_indent(indent);
  const bool fill = std::exchange(fill_, true);
  this->text(text);
  fill_ = fill;
  set_indent(indent + kIndentStep);
  if (line_open_ && width_ <= indent + kIndentStep - 2) {
    line_.append(static_cast<size_t>(indent + kIndentStep - width_), ' ');
    width_ = indent + kIndentStep;
    needs_space_ = false;
    if (!fill_) glued_ = true;
  } else {
    line_break();
  }
}

std::string TextFiller::take() {
  line_break();
  return std::move(out_);
}

}  // namespace colossus::roff
