// The mdoc macros that shape the page: headings, paragraphs, lists, displays, references.
#include <algorithm>
#include <utility>

#include "data/roff/mdoc_writer.h"

namespace colossus::roff {

void MdocWriter::prologue(std::string_view name, const Arguments& arguments) {
  if (name != "Dt" || arguments.empty()) return;
  filler_.text(expand(arguments[0]) + "(" + (arguments.size() > 1 ? expand(arguments[1]) : "") + ")");
  filler_.paragraph();
}

bool MdocWriter::block_macro(std::string_view name, const Arguments& arguments) {
  if (name == "Sh" || name == "Ss") {
    lists_.clear();
    displays_.clear();
    in_tag_ = in_function_ = in_reference_ = false;
    line_.clear();
    base_indent_ = 0;
    inline_arguments(arguments, 0);
    const std::string title = std::exchange(line_, "");
    no_space_ = glue_front_ = false;
    if (name == "Sh") section_ = title;
    heading(title);
  } else if (name == "Pp" || name == "Lp") {
    filler_.paragraph();
    filler_.set_indent(lists_.empty() || lists_.back().kind == List::Kind::kColumns ? base_indent_
                                                                                    : base_indent_ + kIndentStep);
  } else if (name == "Bl") {
    begin_list(arguments);
  } else if (name == "It") {
    item(arguments);
  } else if (name == "El") {
    if (lists_.empty()) return true;
    filler_.line_break();
    base_indent_ = lists_.back().outer_indent;
    lists_.pop_back();
    filler_.set_indent(lists_.empty() ? base_indent_ : base_indent_ + kIndentStep);
  } else if (name == "Bd" || name == "D1" || name == "Dl") {
    display(arguments);
    if (name == "Bd") return true;
    inline_arguments(arguments, 0);
    flush();
    return block_macro("Ed", {});
  } else if (name == "Ed") {
    if (displays_.empty()) return true;
    filler_.set_fill(displays_.back().first);
    filler_.set_indent(displays_.back().second);
    displays_.pop_back();
  } else {
    return false;
  }
  return true;
}

void MdocWriter::begin_list(const Arguments& arguments) {
  const auto has = [&](std::string_view option) {
    return std::find(arguments.begin(), arguments.end(), option) != arguments.end();
  };
  filler_.line_break();
  const int outer = base_indent_;
  // Inside an item, the list stands under the item's text.
  if (!lists_.empty()) base_indent_ += kIndentStep;
  const auto kind = has("-bullet") || has("-dash") || has("-hyphen") ? List::Kind::kBullets
                    : has("-enum")                                   ? List::Kind::kNumbers
                    : has("-column")                                 ? List::Kind::kColumns
                    : has("-item")                                   ? List::Kind::kPlain
                                                                     : List::Kind::kTags;
  lists_.push_back({.kind = kind, .gaps = !has("-compact"), .number = 0, .outer_indent = outer});
  if (kind == List::Kind::kColumns) filler_.paragraph();
}

void MdocWriter::item(const Arguments& arguments) {
  if (lists_.empty()) return;
  List& list = lists_.back();
  if (list.gaps && list.kind != List::Kind::kColumns)
    filler_.paragraph();
  else
    filler_.line_break();
  filler_.set_indent(base_indent_);
  no_space_ = glue_front_ = false;
  line_.clear();
  if (list.kind == List::Kind::kBullets) return emit_tag("•");
  if (list.kind == List::Kind::kNumbers) return emit_tag(std::to_string(++list.number) + ".");
  if (list.kind == List::Kind::kPlain) return emit_tag("");
  in_tag_ = list.kind == List::Kind::kTags && std::find(arguments.begin(), arguments.end(), "Xo") != arguments.end() &&
            std::find(arguments.begin(), arguments.end(), "Xc") == arguments.end();
  inline_arguments(arguments, 0);
  if (in_tag_) return;
  std::string tag = std::exchange(line_, "");
  std::replace(tag.begin(), tag.end(), '\t', kHardSpace);
  no_space_ = glue_front_ = false;
  if (list.kind == List::Kind::kColumns)
    filler_.text(tag);
  else
    emit_tag(tag);
}

void MdocWriter::display(const Arguments& arguments) {
  const auto has = [&](std::string_view option) {
    return std::find(arguments.begin(), arguments.end(), option) != arguments.end();
  };
  displays_.emplace_back(filler_.fills(), filler_.indent());
  if (!has("-compact")) filler_.paragraph();
  filler_.set_fill(!has("-literal") && !has("-unfilled"));
  filler_.set_indent(filler_.indent() + kIndentStep);
}

bool MdocWriter::reference_macro(std::string_view name, const Arguments& arguments) {
  if (name == "Rs") {
    in_reference_ = true;
    reference_.clear();
  } else if (name == "Re") {
    in_reference_ = false;
    if (!reference_.empty()) text(reference_ + ".");
  } else if (in_reference_ && name.starts_with('%')) {
    reference_ += (reference_.empty() ? "" : ", ") + expand_joined(arguments, " ");
  } else {
    return false;
  }
  return true;
}

}  // namespace colossus::roff
