// Fills words into lines and lines into paragraphs.
#pragma once

#include <string>
#include <string_view>

namespace colossus::roff {

constexpr int kLineWidth = 78;
constexpr int kIndentStep = 4;
constexpr char kHardSpace = '\x01';  // a space at which no line is broken; becomes a plain one on the way out

int display_width(std::string_view text);  // characters, taking UTF-8 for what it is

class TextFiller {
 public:
  // One input line: filled in fill mode, else a line of its own. Leading spaces break and are kept.
  void text(std::string_view line);
  // The next text follows the last without a space.
  void glue() { glued_ = true; }
  void line_break();
  void paragraph();  // one blank line before what follows, however often it is asked for
  // A tag hanging to the left of the text that follows, which is indented by a step more.
  void tag(std::string_view text, int indent);
  void set_indent(int columns) { indent_ = columns < 0 ? 0 : columns > kLineWidth / 2 ? kLineWidth / 2 : columns; }
  int indent() const { return indent_; }
  void after_heading() { blank_wanted_ = false, blank_refused_ = true; }  // until there is text
  void set_fill(bool fill);
  bool fills() const { return fill_; }
  size_t size() const { return out_.size(); }
  std::string take();

 private:
  void word(std::string_view text);
  void begin_line();

  std::string out_;
  std::string line_;  // the one being filled, with its indent
  int width_ = 0;     // of line_
  bool line_open_ = false;
  bool needs_space_ = false;
  bool glued_ = false;
  bool blank_wanted_ = false, blank_refused_ = false;
  bool fill_ = true;
  int indent_ = 0;
};

}  // namespace colossus::roff
