// The man macros: man(7), with the additions of groff.
#include "data/roff/page_writer.h"

namespace colossus::roff {

void ManWriter::text(std::string_view line) {
  if (!heading_next_) return PageWriter::text(line);
  heading_next_ = false;
  heading(std::string(line));
}

void ManWriter::paragraph() {
  if (gaps_)
    filler_.paragraph();
  else
    filler_.line_break();
  filler_.set_indent(base_indent_);
}

void ManWriter::macro(std::string_view name, const std::vector<std::string>& arguments) {
  if (font_macro(name, arguments) || paragraph_macro(name, arguments) || link_macro(name, arguments)) return;
  if (name == "TH") {
    const std::string manual = arguments.size() > 4 ? expand(arguments[4]) : "";
    if (!arguments.empty()) {
      filler_.text(expand(arguments[0]) + "(" + (arguments.size() > 1 ? expand(arguments[1]) : "") + ")" +
                   (manual.empty() ? "" : "  " + manual));
    }
    filler_.paragraph();
    return;
  }
  request(name, arguments);
}

bool ManWriter::font_macro(std::string_view name, const std::vector<std::string>& arguments) {
  const bool one_font = name == "B" || name == "I" || name == "R" || name == "SM" || name == "SB" || name == "CW";
  const bool alternating = name == "BR" || name == "RB" || name == "BI" || name == "IB" || name == "IR" || name == "RI";
  if (name == "OP") {
    text("[" + expand_joined(arguments, " ") + "]");
    return true;
  }
  if (!one_font && !alternating) return false;
  if (arguments.empty()) return true;  // the next line is in that font
  text(expand_joined(arguments, one_font ? " " : ""));
  if (!arguments.back().empty() && arguments.back().ends_with("\\c")) glue();
  return true;
}

bool ManWriter::paragraph_macro(std::string_view name, const std::vector<std::string>& arguments) {
  if (name == "PP" || name == "P" || name == "LP" || name == "HP" || name == "QS" || name == "QE") {
    filler_.set_fill(true);
    paragraph();
  } else if (name == "TP") {
    paragraph();
    tag_next(base_indent_);
  } else if (name == "TQ") {
    tag_next(base_indent_);
  } else if (name == "IP") {
    paragraph();
    emit_tag(arguments.empty() ? "" : expand(arguments.front()));
  } else if (name == "SH" || name == "SS") {
    nesting_.clear();
    base_indent_ = 0;
    gaps_ = true;
    if (arguments.empty())
      heading_next_ = true;
    else
      heading(expand_joined(arguments, " "));
  } else if (name == "RS") {
    nesting_.push_back(base_indent_);
    filler_.line_break();
    base_indent_ += kIndentStep;
    filler_.set_indent(base_indent_);
  } else if (name == "RE") {
    filler_.line_break();
    if (!nesting_.empty()) {
      base_indent_ = nesting_.back();
      nesting_.pop_back();
    }
    filler_.set_indent(base_indent_);
  } else if (name == "PD") {
    gaps_ = arguments.empty() || expand(arguments.front()).find_first_of("123456789") != std::string::npos;
  } else if (name == "SY") {
    filler_.line_break();
    text(expand_joined(arguments, " "));
  } else if (name == "YS") {
    filler_.line_break();
  } else {
    return false;
  }
  return true;
}

bool ManWriter::link_macro(std::string_view name, const std::vector<std::string>& arguments) {
  if (name == "UR" || name == "MT") {
    link_ = arguments.empty() ? "" : expand(arguments.front());
  } else if (name == "UE" || name == "ME") {
    text("<" + link_ + ">" + expand_joined(arguments, ""));
    link_.clear();
  } else if ((name == "URL" || name == "MTO") && !arguments.empty()) {
    const std::string described = arguments.size() > 1 ? expand(arguments[1]) + " " : "";
    text(described + "<" + expand(arguments[0]) + ">" + expand_joined(arguments, "", 2));
  } else {
    return false;
  }
  return true;
}

}  // namespace colossus::roff
