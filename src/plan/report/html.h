// The parts of a page: text that is safe in HTML, pictures, and the frame with its style.
#pragma once

#include <string>
#include <string_view>

namespace colossus {

// Of characters that mean something in HTML, their references; of control characters, nothing.
std::string escape_html(std::string_view text);

// Wraps <svg> elements; positions are in pixels at the picture's own width. Colours are classes of the page's style:
// f1 ... f8 fill with the colours of series, "soft" and "line" are quiet.
class Svg {
 public:
  Svg(double width, double height, std::string_view title);

  // `tip` shows when a pointer rests on it; "" for none.
  void rect(double x, double y, double width, double height, std::string_view css_class, std::string_view tip = "");
  // `anchor`: start, middle or end.
  void text(double x, double y, std::string_view content, std::string_view css_class = "",
            std::string_view anchor = "start");
  void line(double x1, double y1, double x2, double y2, std::string_view css_class = "line");
  // Elements of ours, unescaped.
  void raw(std::string_view elements) { body_ += elements; }
  double width() const { return width_; }
  // `attributes`: more of them on the element, ours.
  std::string finish(std::string_view attributes = "") const;

 private:
  double width_, height_;
  std::string body_;
};

// Of a text of 12 pixels, about; for room, not for typesetting.
double text_width(std::string_view text);
// With "..." in place of what does not fit.
std::string fit_text(std::string_view text, double width);

// "<!doctype html> ... </html>" around the sections.
std::string html_page(std::string_view title, std::string_view body);

}  // namespace colossus
