// The mdoc macros: mdoc(7). A macro's arguments may be macros themselves; words and punctuation find their spaces here.
#pragma once

#include "data/roff/page_writer.h"

namespace colossus::roff {

class MdocWriter final : public PageWriter {
 public:
  void macro(std::string_view name, const std::vector<std::string>& arguments) override;

 private:
  using Arguments = std::vector<std::string>;
  struct List {
    enum class Kind { kTags, kBullets, kNumbers, kPlain, kColumns } kind;
    bool gaps;
    int number;
    int outer_indent;
  };

  bool block_macro(std::string_view name, const Arguments& arguments);
  void begin_list(const Arguments& arguments);
  void item(const Arguments& arguments);
  void display(const Arguments& arguments);
  void prologue(std::string_view name, const Arguments& arguments);
  bool reference_macro(std::string_view name, const Arguments& arguments);

  // Arguments from `at` on as running text with the macros among them.
  void inline_arguments(const Arguments& arguments, size_t at);
  // The macro arguments[at]; returns where its arguments end.
  size_t inline_macro(const Arguments& arguments, size_t at);
  size_t words(const Arguments& arguments, size_t at, std::string_view before_each, std::string_view when_none);
  bool special_macro(std::string_view name, const Arguments& arguments, size_t& at);
  void add(std::string_view word);
  void add_closing(std::string_view text);
  void add_opening(std::string_view text);
  void flush();

  std::string line_;             // the running text of this macro line
  bool no_space_ = true;         // before the next word
  bool glue_front_ = false;      // line_ continues the text before it
  bool spacing_ = true;          // .Sm
  bool in_tag_ = false;          // the tag of an item continues until .Xc
  bool in_function_ = false;     // between .Fo and .Fc
  bool first_argument_ = false;  // of that function
  bool in_reference_ = false;
  std::string name_, section_, reference_;
  std::vector<List> lists_;
  std::vector<std::pair<bool, int>> displays_;  // fill mode and indent outside of each
};

}  // namespace colossus::roff
