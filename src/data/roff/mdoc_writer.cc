#include "data/roff/mdoc_writer.h"

#include <algorithm>
#include <cstddef>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace colossus::roff {
namespace {

constexpr size_t kMaxArguments = 200;

using Pair = std::pair<std::string_view, std::string_view>;

// Enclosures of the rest of the line.
const std::unordered_map<std::string_view, Pair> kEnclosures = {
    {"Op", {"[", "]"}}, {"Bq", {"[", "]"}}, {"Pq", {"(", ")"}},   {"Brq", {"{", "}"}}, {"Aq", {"<", ">"}},
    {"Dq", {"“", "”"}}, {"Sq", {"‘", "’"}}, {"Qq", {"\"", "\""}}, {"Ql", {"‘", "’"}},  {"Eq", {"", ""}}};
// Enclosures that go on over lines.
const std::unordered_map<std::string_view, std::string_view> kOpenings = {
    {"Oo", "["}, {"Bo", "["}, {"Po", "("}, {"Bro", "{"}, {"Ao", "<"}, {"Do", "“"}, {"So", "‘"}, {"Qo", "\""}};
const std::unordered_map<std::string_view, std::string_view> kClosings = {
    {"Oc", "]"}, {"Bc", "]"}, {"Pc", ")"}, {"Brc", "}"}, {"Ac", ">"}, {"Dc", "”"}, {"Sc", "’"}, {"Qc", "\""}};
// Macros that only change the font of their words.
const std::unordered_set<std::string_view> kFonts = {"Cm", "Ic", "Pa", "Em", "Sy", "Li", "Va", "Vt", "Ev", "Dv",
                                                     "Er", "Ad", "An", "Ms", "Cd", "Ft", "Sx", "Tn", "Lb", "No",
                                                     "Xo", "Xc", "Bf", "Ef", "Fr", "Hf", "Do", "Mt", "Fd"};
const std::unordered_map<std::string_view, std::string_view> kSystems = {
    {"Ux", "UNIX"},    {"Bx", "BSD"},       {"Fx", "FreeBSD"}, {"Nx", "NetBSD"},
    {"Ox", "OpenBSD"}, {"Dx", "DragonFly"}, {"Bsx", "BSD/OS"}, {"At", "AT&T UNIX"}};
const std::unordered_set<std::string_view> kOthers = {"Fl", "Ar", "Nm", "Xr", "Ns", "Ap", "Pf", "Fn", "Fa",
                                                      "Fo", "Fc", "In", "Lk", "St", "Sm", "Nd", "Bk", "Ek",
                                                      "Tg", "Ta", "Ud", "Bt", "Ec", "Eo", "Db", "Es", "En"};

bool is_macro(std::string_view word) {
  return kFonts.contains(word) || kOthers.contains(word) || kEnclosures.contains(word) || kOpenings.contains(word) ||
         kClosings.contains(word) || kSystems.contains(word);
}

bool is_closing(std::string_view word) {
  return word.size() == 1 && std::string_view(".,:;)]?!").find(word[0]) != std::string_view::npos;
}
bool is_opening(std::string_view word) { return word == "(" || word == "["; }

std::string standard_name(std::string_view option) {
  if (option.starts_with("-p1003.2")) return "IEEE Std 1003.2 (“POSIX.2”)";
  if (option.starts_with("-p1003")) return "IEEE Std 1003.1 (“POSIX.1”)";
  if (option.starts_with("-ansiC") || option.starts_with("-isoC")) return "ANSI/ISO C";
  if (option.starts_with("-xpg") || option.starts_with("-sus") || option.starts_with("-xsh"))
    return "X/Open Portability Guide";
  return std::string(option.starts_with('-') ? option.substr(1) : option);
}

}  // namespace

void MdocWriter::add(std::string_view word) {
  if (is_closing(word)) return add_closing(word);
  if (!line_.empty() && !no_space_) line_ += ' ';
  if (line_.empty() && no_space_) glue_front_ = true;
  line_ += word;
  no_space_ = is_opening(word) || !spacing_;
}

void MdocWriter::add_closing(std::string_view text) {
  if (line_.empty()) glue_front_ = true;
  line_ += text;
  no_space_ = !spacing_;
}

void MdocWriter::add_opening(std::string_view text) {
  add(text);
  no_space_ = true;
}

void MdocWriter::flush() {
  if (in_tag_) return;
  if (!line_.empty()) {
    if (glue_front_) filler_.glue();
    text(line_);
    if (no_space_) filler_.glue();
  }
  line_.clear();
  glue_front_ = false;
  no_space_ = false;
}

void MdocWriter::macro(std::string_view name, const Arguments& arguments) {
  // Enclosures nest on our stack: a hostile line is cut.
  if (arguments.size() > kMaxArguments)
    return macro(name, Arguments(arguments.begin(), arguments.begin() + kMaxArguments));
  if (block_macro(name, arguments) || reference_macro(name, arguments)) return;
  if (name == "Dd" || name == "Dt" || name == "Os") return prologue(name, arguments);
  if (!is_macro(name)) {
    if (request(name, arguments)) return;
    if (name == "Ex" || name == "Rv") {
      const std::string who = arguments.size() > 1 ? expand(arguments[1]) : name_;
      text(name == "Ex" ? "The " + who + " utility exits 0 on success, and >0 if an error occurs."
                        : "The " + who +
                              "() function returns the value 0 if successful; otherwise the value -1 is returned and "
                              "the global variable errno is set to indicate the error.");
    }
    return;
  }
  if (section_ == "SYNOPSIS" &&
      (name == "Nm" || name == "Fn" || name == "Fo" || name == "In" || name == "Ft" || name == "Fd" || name == "Vt") &&
      !in_function_) {
    filler_.line_break();
  }
  Arguments line = {std::string(name)};
  line.insert(line.end(), arguments.begin(), arguments.end());
  size_t at = 0;
  at = inline_macro(line, at);
  inline_arguments(line, at);
  flush();
}

void MdocWriter::inline_arguments(const Arguments& arguments, size_t at) {
  while (at < arguments.size()) {
    if (is_macro(arguments[at]))
      at = inline_macro(arguments, at);
    else
      add(expand(arguments[at++]));
  }
}

size_t MdocWriter::words(const Arguments& arguments, size_t at, std::string_view before_each,
                         std::string_view when_none) {
  bool any = false;
  while (at < arguments.size() && !is_macro(arguments[at])) {
    const std::string word = expand(arguments[at]);
    if (is_closing(word)) break;  // goes with the text around the macro
    if (is_opening(word))
      add(word);
    else {
      add(std::string(before_each) + word);
      any = true;
    }
    ++at;
  }
  if (!any && !when_none.empty()) add(when_none);
  return at;
}

size_t MdocWriter::inline_macro(const Arguments& arguments, size_t at) {
  const std::string_view name = arguments[at++];
  if (const auto found = kEnclosures.find(name); found != kEnclosures.end()) {
    size_t end = arguments.size();  // closing punctuation at the end stays outside
    while (end > at && is_closing(arguments[end - 1])) --end;
    add_opening(found->second.first);
    const auto begin = arguments.begin();
    inline_arguments(Arguments(begin + static_cast<std::ptrdiff_t>(at), begin + static_cast<std::ptrdiff_t>(end)), 0);
    add_closing(found->second.second);
    return end;
  }
  if (const auto found = kOpenings.find(name); found != kOpenings.end()) return add_opening(found->second), at;
  if (const auto found = kClosings.find(name); found != kClosings.end()) return add_closing(found->second), at;
  if (const auto found = kSystems.find(name); found != kSystems.end()) {
    if (name == "Bx" && at < arguments.size() && !is_closing(arguments[at]) && !is_macro(arguments[at])) {
      add(expand(arguments[at]) + "BSD");
      return at + 1;
    }
    add(found->second);
    return words(arguments, at, "", "");
  }
  if (special_macro(name, arguments, at)) return at;
  return words(arguments, at, "", "");
}

bool MdocWriter::special_macro(std::string_view name, const Arguments& arguments, size_t& at) {
  const auto next = [&]() -> std::string { return at < arguments.size() ? expand(arguments[at++]) : ""; };
  if (name == "Fl") {
    const bool bare = at == arguments.size() || is_macro(arguments[at]);
    at = words(arguments, at, "-", "-");
    if (bare && at < arguments.size()) no_space_ = true;
  } else if (name == "Ar") {
    at = words(arguments, at, "", "file ...");
  } else if (name == "Nm") {
    const bool named = at < arguments.size() && !is_macro(arguments[at]) && !is_closing(expand(arguments[at]));
    if (named && name_.empty()) name_ = expand(arguments[at]);
    at = words(arguments, at, "", name_);
  } else if (name == "Nd") {
    add("-");
  } else if (name == "Xr") {
    std::string page = next();
    if (at < arguments.size() && !is_closing(arguments[at]) && !is_macro(arguments[at])) page += "(" + next() + ")";
    add(page);
  } else if (name == "Ns") {
    no_space_ = true;
  } else if (name == "Ap") {
    add_closing("'");
    no_space_ = true;
  } else if (name == "Pf") {
    add(next());
    no_space_ = true;
  } else if (name == "Sm") {
    const std::string mode = next();
    spacing_ = mode == "on" || (mode.empty() && !spacing_);
    no_space_ = !spacing_;
  } else if (name == "Fn") {
    std::string call = next() + "(";
    for (bool first = true; at < arguments.size() && !is_macro(arguments[at]) && !is_closing(arguments[at]);
         first = false) {
      call += (first ? "" : ", ") + next();
    }
    add(call + ")");
  } else if (name == "Fo") {
    add_opening(next() + "(");
    in_function_ = first_argument_ = true;
  } else if (name == "Fa" && in_function_) {
    while (at < arguments.size() && !is_macro(arguments[at])) {
      if (!std::exchange(first_argument_, false)) add_closing(",");
      add(next());
    }
  } else if (name == "Fc") {
    add_closing(")");
    in_function_ = false;
  } else if (name == "In") {
    add((section_ == "SYNOPSIS" ? "#include <" : "<") + next() + ">");
  } else if (name == "Lk") {
    const std::string link = next();
    const bool described = at < arguments.size() && !is_closing(arguments[at]);
    add(described ? next() + " <" + link + ">" : link);
  } else if (name == "St") {
    add(standard_name(next()));
  } else if (name == "Bk" || name == "Ek" || name == "Tg" || name == "Bf" || name == "Ef" || name == "Es") {
    at = arguments.size();
  } else if (name == "Ta") {
    add(std::string(1, kHardSpace));
  } else if (name == "Xc") {
    if (in_tag_) {
      in_tag_ = false;
      inline_arguments(arguments, at);
      at = arguments.size();
      const std::string tag = std::exchange(line_, "");
      emit_tag(tag);
    }
  } else if (name == "Xo") {
    return true;
  } else {
    return false;
  }
  return true;
}

}  // namespace colossus::roff
