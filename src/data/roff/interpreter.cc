#include "data/roff/interpreter.h"

#include <algorithm>

namespace colossus::roff {
namespace {

constexpr size_t kMaxFrames = 40;
constexpr int kMaxNesting = 60;  // of .if on one line
constexpr std::string_view kSpaces = " \t";

std::string_view trim_left(std::string_view text) {
  const size_t first = text.find_first_not_of(kSpaces);
  return first == std::string_view::npos ? std::string_view() : text.substr(first);
}

std::string_view take_word(std::string_view& text) {
  text = trim_left(text);
  const size_t end = std::min(text.find_first_of(kSpaces), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end);
  return word;
}

// Odd numbers of backslashes at the end continue the line.
bool continues(std::string_view line) {
  size_t count = 0;
  while (count < line.size() && line[line.size() - 1 - count] == '\\') ++count;
  return count % 2 == 1;
}

// Cuts the comment \" or \# off.
std::string_view without_comment(std::string_view line) {
  for (size_t at = 0; at + 1 < line.size(); ++at) {
    if (line[at] != '\\') continue;
    if (line[at + 1] == '"' || line[at + 1] == '#') return line.substr(0, at);
    ++at;
  }
  return line;
}

int brace_balance(std::string_view line) {
  int balance = 0;
  for (size_t at = 0; at + 1 < line.size(); ++at) {
    if (line[at] != '\\') continue;
    ++at;
    balance += line[at] == '{' ? 1 : line[at] == '}' ? -1 : 0;
  }
  return balance;
}

// What a definition stores: one backslash of each pair is used up.
std::string copy_mode(std::string_view line) {
  std::string out;
  for (size_t at = 0; at < line.size(); ++at) {
    out += line[at];
    if (line[at] == '\\' && at + 1 < line.size() && line[at + 1] == '\\') ++at;
  }
  return out;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

bool is_control(char c) { return c == '.' || c == '\''; }

}  // namespace

Interpreter::Interpreter(Sink& sink) : sink_(sink) {
  // What the macro packages define before the page begins.
  strings_ = {{"R", "®"},  {"Tm", "™"},   {"lq", "“"}, {"rq", "”"}, {"Aq", "'"}, {"q", "\""}, {"Gt", ">"},
              {"Lt", "<"}, {"Ge", "≥"},   {"Le", "≤"}, {"Ne", "≠"}, {"Am", "&"}, {"Ba", "|"}, {"Pm", "±"},
              {"If", "∞"}, {"Na", "NaN"}, {"ga", "`"}, {"aa", "´"}, {"Pi", "π"}, {"S", ""},   {"HF", ""}};
  registers_ = {{".g", 1}, {".l", 78}, {".H", 24}, {".V", 40}, {".x", 1}, {".y", 22}, {"mS", 0}};
}

std::vector<std::string> Interpreter::split_arguments(std::string_view text) {
  std::vector<std::string> arguments;
  size_t at = 0;
  while (true) {
    at = text.find_first_not_of(kSpaces, at);
    if (at == std::string_view::npos) return arguments;
    std::string argument;
    const bool quoted = text[at] == '"';
    if (quoted) ++at;
    for (; at < text.size(); ++at) {
      if (text[at] == '\\' && at + 1 < text.size()) {
        argument += text[at++];
      } else if (quoted && text[at] == '"') {
        if (at + 1 == text.size() || text[at + 1] != '"') break;
        ++at;
      } else if (!quoted && kSpaces.find(text[at]) != std::string_view::npos) {
        break;
      }
      argument += text[at];
    }
    if (quoted) ++at;
    arguments.push_back(std::move(argument));
    if (at >= text.size()) return arguments;
  }
}

bool Interpreter::next_line(std::string& line) {
  while (!frames_.empty() && frames_.back().next == frames_.back().lines.size()) frames_.pop_back();
  if (frames_.empty() || lines_left_ == 0) return false;
  --lines_left_;
  line = frames_.back().lines[frames_.back().next++];
  while (continues(without_comment(line)) && frames_.back().next < frames_.back().lines.size() &&
         line.size() < 100000) {
    line.pop_back();
    line += frames_.back().lines[frames_.back().next++];
  }
  return true;
}

void Interpreter::run(std::string_view source) {
  Frame page;
  for (size_t at = 0; at < source.size();) {
    const size_t end = std::min(source.find('\n', at), source.size());
    std::string_view line = source.substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    page.lines.emplace_back(line);
    at = end + 1;
  }
  lines_left_ = page.lines.size() * 20 + 10000;
  expansion_left_ = source.size() * 20 + 1000000;
  frames_.push_back(std::move(page));
  for (std::string line; next_line(line);) process(std::move(line));
}

void Interpreter::process(std::string line) {
  if (!line.empty() && is_control(line.front())) {
    std::string_view rest = trim_left(std::string_view(line).substr(1));
    rest = without_comment(rest);
    // The end of a block whose beginning was taken means nothing any more.
    std::string cleaned(rest);
    if (rest.find("\\}") != std::string_view::npos && brace_balance(rest) < 0) replace_all(cleaned, "\\}", "");
    rest = trim_left(cleaned);
    const std::string_view name = take_word(rest);
    if (name.empty() || name == "." || request(name, rest)) return;
    const auto user = macros_.find(std::string(name));
    if (user != macros_.end()) return call_user_macro(user->first, rest);
    return sink_.macro(name, split_arguments(rest));
  }
  if (line.find("\\}") != std::string::npos && brace_balance(line) < 0) {
    replace_all(line, "\\}", "");
    if (line.empty()) return;
  }
  if (line.empty()) return sink_.blank();
  const std::string_view visible = without_comment(line);
  const std::string text = expand(visible);
  if (text.empty() && visible.size() != line.size()) return;  // nothing but a comment
  sink_.text(text);
  if (visible.ends_with("\\c")) sink_.glue();
}

bool Interpreter::request(std::string_view name, std::string_view rest) {
  if (name == "if") return conditional(rest, false), true;
  if (name == "ie") return conditional(rest, true), true;
  if (name == "el") {
    const bool taken = !else_taken_.empty() && else_taken_.back();
    if (!else_taken_.empty()) else_taken_.pop_back();
    return branch(taken, rest), true;
  }
  if (name == "de" || name == "de1" || name == "am") return define_macro(rest, name == "am"), true;
  if (name == "ds" || name == "ds1" || name == "as") return define_string(rest, name == "as"), true;
  if (name == "nr") return set_register(rest), true;
  if (name == "tr") return translate(rest), true;
  if (name == "ig") return skip_until(take_word(rest), nullptr), true;
  if (name == "rm" || name == "rr") {
    const std::string target(take_word(rest));
    if (name == "rr")
      registers_.erase(target);
    else
      macros_.erase(target), strings_.erase(target);
    return true;
  }
  if (name == "als" || name == "rn") {
    const std::string first(take_word(rest)), second(take_word(rest));
    const std::string& from = name == "als" ? second : first;
    const auto found = macros_.find(from);
    if (found != macros_.end()) {
      auto lines = found->second;
      macros_[name == "als" ? first : second] = std::move(lines);
    }
    return true;
  }
  if (name == "nop") return branch(true, rest), true;
  if (name == "TS" || name == "EQ" || name == "PS" || name == "GS") {
    if (macros_.contains(std::string(name))) return false;
    std::vector<std::string> lines;
    skip_until(std::string(1, name.front()) + (name == "EQ" ? "N" : "E"), &lines);
    if (name == "TS") sink_.table(lines);
    return true;
  }
  return false;
}

void Interpreter::skip_until(std::string_view end_macro, std::vector<std::string>* lines) {
  const std::string end(end_macro.empty() ? "." : end_macro);
  std::string line;
  while (next_line(line)) {
    if (!line.empty() && is_control(line.front())) {
      std::string_view rest = std::string_view(line).substr(1);
      if (take_word(rest).substr(0, end.size()) == end && (end != "." || trim_left(rest).empty() || line == ".."))
        return;
    }
    if (lines != nullptr) lines->push_back(line);
  }
}

void Interpreter::define_macro(std::string_view rest, bool append) {
  const std::string name(take_word(rest));
  std::vector<std::string> raw, lines;
  skip_until(take_word(rest), &raw);
  for (const std::string& line : raw) lines.push_back(copy_mode(line));
  auto& body = macros_[name];
  if (append)
    body.insert(body.end(), lines.begin(), lines.end());
  else
    body = std::move(lines);
}

void Interpreter::define_string(std::string_view rest, bool append) {
  const std::string name(take_word(rest));
  rest = trim_left(rest);
  if (rest.starts_with('"')) rest.remove_prefix(1);
  std::string& value = strings_[name];
  value = (append ? value : "") + copy_mode(rest);
  if (value.size() > 100000) value.clear();  // .as in a circle
}

void Interpreter::set_register(std::string_view rest) {
  const std::string name(take_word(rest));
  const std::string value = expand(take_word(rest));
  const bool relative = value.starts_with('+') || value.starts_with('-');
  registers_[name] = (relative ? register_value(name) : 0) + evaluate(value);
}

void Interpreter::translate(std::string_view rest) {
  rest = trim_left(rest);
  // Only glyphs are worth it: pod pages turn \(*W, which they use as an unbreakable dash, into one.
  if (!rest.starts_with("\\(") || rest.size() < 5) return;
  translations_[std::string(rest.substr(2, 2))] = expand(rest.substr(4, 1));
}

void Interpreter::call_user_macro(const std::string& name, std::string_view rest) {
  if (frames_.size() >= kMaxFrames) return;
  Frame frame;
  frame.lines = macros_[name];
  frame.arguments = split_arguments(rest);
  registers_[".$"] = static_cast<long>(frame.arguments.size());
  std::string all;
  for (const std::string& argument : frame.arguments) all += (all.empty() ? "" : " ") + argument;
  for (std::string& line : frame.lines) {
    if (line.find("\\$") == std::string::npos) continue;
    replace_all(line, "\\$*", all);
    replace_all(line, "\\$@", all);
    for (size_t i = 1; i <= 9; ++i) {
      replace_all(line, "\\$" + std::to_string(i), i <= frame.arguments.size() ? frame.arguments[i - 1] : "");
    }
    if (line.size() > expansion_left_) return;
    expansion_left_ -= line.size();
  }
  frames_.push_back(std::move(frame));
}

void Interpreter::conditional(std::string_view rest, bool has_else) {
  const bool holds = condition(rest);
  if (has_else) else_taken_.push_back(!holds);
  if (else_taken_.size() > 1000) else_taken_.clear();
  branch(holds, rest);
}

void Interpreter::branch(bool taken, std::string_view rest) {
  rest = trim_left(rest);
  if (taken) {
    if (rest.starts_with("\\{")) rest = trim_left(rest.substr(2));
    if (rest.empty() || nesting_ >= kMaxNesting) return;
    ++nesting_;
    process(std::string(rest));
    --nesting_;
    return;
  }
  int depth = brace_balance(rest);
  for (std::string line; depth > 0 && next_line(line);) depth += brace_balance(line);
}

}  // namespace colossus::roff
