#include "data/roff/page_writer.h"

#include <algorithm>
#include <cctype>

namespace colossus::roff {
namespace {

// The character between columns, from the option tab(x).
char column_separator(const std::string& options) {
  const size_t at = options.find("tab");
  if (at == std::string::npos) return '\t';
  const size_t open = options.find('(', at);
  return open != std::string::npos && open + 2 < options.size() ? options[open + 1] : '\t';
}

bool is_rule(std::string_view cell) {
  return !cell.empty() && cell.find_first_not_of("_=-") == std::string_view::npos &&
         (cell.size() > 2 || cell[0] != '-');
}

}  // namespace

void PageWriter::text(std::string_view line) {
  if (!tag_next_) return filler_.text(line);
  tag_next_ = false;
  filler_.tag(line, base_indent_);
}

void PageWriter::emit_tag(const std::string& tag) {
  if (tag.empty()) {
    filler_.line_break();
    filler_.set_indent(base_indent_ + kIndentStep);
  } else {
    filler_.tag(tag, base_indent_);
  }
}

void PageWriter::tag_next(int indent) {
  filler_.line_break();
  filler_.set_indent(indent);
  tag_next_ = true;
}

void PageWriter::blank() { filler_.paragraph(); }

std::string PageWriter::expand_joined(const std::vector<std::string>& arguments, std::string_view separator,
                                      size_t first) {
  std::string joined;
  for (size_t i = first; i < arguments.size(); ++i) {
    if (i > first) joined += separator;
    joined += expand(arguments[i]);
  }
  return joined;
}

void PageWriter::heading(const std::string& title) {
  tag_next_ = false;
  filler_.set_fill(true);
  filler_.paragraph();
  filler_.set_indent(0);
  filler_.text(title);
  filler_.line_break();
  filler_.after_heading();
}

bool PageWriter::request(std::string_view name, const std::vector<std::string>& arguments) {
  const std::string first = arguments.empty() ? "" : expand(arguments.front());
  if (name == "br" || name == "ce" || name == "ti" || name == "brp")
    filler_.line_break();
  else if (name == "sp")
    first.starts_with('-') ? filler_.line_break() : filler_.paragraph();
  else if (name == "nf" || name == "EX" || name == "Vb")
    filler_.set_fill(false);
  else if (name == "fi" || name == "EE" || name == "Ve")
    filler_.set_fill(true);
  else if (name == "in") {
    filler_.line_break();
    filler_.set_indent(first.starts_with('+') ? filler_.indent() + kIndentStep
                                              : std::max(base_indent_, filler_.indent() - kIndentStep));
  } else
    return false;
  return true;
}

void PageWriter::table(const std::vector<std::string>& lines) {
  char separator = '\t';
  size_t at = 0;
  if (at < lines.size() && lines[at].find(';') != std::string::npos) separator = column_separator(lines[at++]);
  const auto skip_format = [&] {
    while (at < lines.size() && lines[at].find('.') == std::string::npos) ++at;
    ++at;
  };
  skip_format();
  filler_.paragraph();
  const bool filled = filler_.fills();
  filler_.set_fill(false);
  std::string row;
  bool in_block = false;  // T{ ... T}: a cell over several lines
  for (; at < lines.size(); ++at) {
    std::string_view line = lines[at];
    if (line.starts_with(".T&")) {
      ++at;
      skip_format();
      --at;
      continue;
    }
    if (in_block && line.starts_with("T}")) {
      in_block = false;
      line.remove_prefix(2);
    } else if (!in_block && (line.starts_with('.') || line.starts_with('\''))) {
      continue;  // a request between rows
    }
    if (!in_block && line.ends_with("T{")) {
      in_block = true;
      line.remove_suffix(2);
    } else if (in_block && line.starts_with('.')) {
      const auto arguments = Interpreter::split_arguments(line.substr(std::min(line.find(' '), line.size())));
      row += expand_joined(arguments,
                           line.size() > 2 && std::isupper(static_cast<unsigned char>(line[2])) != 0 ? "" : " ") +
             " ";
      continue;
    }
    std::string cells(line);
    if (!in_block && is_rule(cells)) continue;
    for (size_t cut = cells.find(separator); cut != std::string::npos; cut = cells.find(separator, cut + 2))
      cells.replace(cut, 1, "  ");
    row += expand(cells);
    if (in_block) {
      if (!line.empty() && !line.ends_with(separator)) row += ' ';
      continue;
    }
    filler_.text(row);
    filler_.line_break();
    row.clear();
  }
  filler_.set_fill(filled);
  filler_.paragraph();
}

}  // namespace colossus::roff
