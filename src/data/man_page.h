// Manual pages as readable text: our own reading of roff with the man and mdoc macros, no other program.
//
// The text is what a reader wants to learn from, not a terminal's page: no left margin, no hyphenation, paragraphs
// filled to 78 columns, a blank line between them, section headings on a line of their own, tagged and nested text
// indented by 4. Fonts and sizes are dropped. Requests for typesetting are ignored; user macros, strings, number
// registers and conditions are interpreted as far as pages use them.
#pragma once

#include <string>
#include <string_view>

namespace colossus {

// Whether roff source is in there: a .TH, .Dd or .so line among the first.
bool looks_like_man_page(std::string_view sample);

// Empty for a page that only refers to another one (.so).
std::string render_man_page(std::string_view source);

}  // namespace colossus
