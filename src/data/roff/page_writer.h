// What the man and mdoc macros share: text, displays, tables, the requests of roff itself that a reader can see.
#pragma once

#include "data/roff/interpreter.h"
#include "data/roff/text_filler.h"

namespace colossus::roff {

class PageWriter : public Sink {
 public:
  void attach(Interpreter& interpreter) { interpreter_ = &interpreter; }
  std::string take() { return filler_.take(); }

  void text(std::string_view line) override;
  void glue() override { filler_.glue(); }
  void blank() override;
  void table(const std::vector<std::string>& lines) override;

 protected:
  // .br .sp .nf .fi .in .ti .ce and the like; false: not one of them.
  bool request(std::string_view name, const std::vector<std::string>& arguments);
  std::string expand(std::string_view text) { return interpreter_->expand(text); }
  std::string expand_joined(const std::vector<std::string>& arguments, std::string_view separator, size_t first = 0);
  void heading(const std::string& title);
  // The next line of text is the tag of the paragraph after it.
  void tag_next(int indent);
  void emit_tag(const std::string& tag);

  TextFiller filler_;
  int base_indent_ = 0;  // of paragraphs at this nesting

 private:
  Interpreter* interpreter_ = nullptr;
  bool tag_next_ = false;
};

// The two macro packages; each page is written in one.
class ManWriter final : public PageWriter {
 public:
  void macro(std::string_view name, const std::vector<std::string>& arguments) override;
  void text(std::string_view line) override;

 private:
  bool paragraph_macro(std::string_view name, const std::vector<std::string>& arguments);
  bool font_macro(std::string_view name, const std::vector<std::string>& arguments);
  bool link_macro(std::string_view name, const std::vector<std::string>& arguments);
  void paragraph();

  std::vector<int> nesting_;   // indents before each .RS
  bool gaps_ = true;           // off after .PD 0
  bool heading_next_ = false;  // .SH without a title: it is on the next line
  std::string link_;           // of .UR or .MT until .UE or .ME
};

}  // namespace colossus::roff
