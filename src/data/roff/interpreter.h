// The language under the macros: lines, requests, strings, number registers, conditions, user macros, escapes.
// What a request or macro of a page means is the sink's; see man_macros.h and mdoc_macros.h.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace colossus::roff {

// The text of \(name or \[name]; empty where it is unknown.
std::string_view glyph(std::string_view name);

class Interpreter;

class Sink {
 public:
  virtual ~Sink() = default;
  virtual void text(std::string_view line) = 0;  // escapes expanded
  virtual void glue() = 0;                       // \c: the next text follows without a space
  virtual void blank() = 0;                      // an empty line
  // Arguments are as written: expand() what becomes text. Unknown names are ignored, as roff does.
  virtual void macro(std::string_view name, const std::vector<std::string>& arguments) = 0;
  virtual void table(const std::vector<std::string>& lines) = 0;  // between .TS and .TE
};

class Interpreter {
 public:
  explicit Interpreter(Sink& sink);
  // Hostile pages end too: nesting and the number of expanded lines are bounded.
  void run(std::string_view source);
  std::string expand(std::string_view text);
  // Words, or "quoted words"; escapes stay as they are.
  static std::vector<std::string> split_arguments(std::string_view text);

 private:
  struct Frame {
    std::vector<std::string> lines;
    size_t next = 0;
    std::vector<std::string> arguments;
  };

  bool next_line(std::string& line);
  void process(std::string line);
  bool request(std::string_view name, std::string_view rest);
  void call_user_macro(const std::string& name, std::string_view rest);
  void define_macro(std::string_view rest, bool append);
  void define_string(std::string_view rest, bool append);
  void set_register(std::string_view rest);
  void translate(std::string_view rest);
  void conditional(std::string_view rest, bool has_else);
  void branch(bool taken, std::string_view rest);
  void skip_until(std::string_view end_macro, std::vector<std::string>* lines);
  bool condition(std::string_view& rest);
  long evaluate(std::string_view expression);
  long register_value(const std::string& name) const;
  size_t expand_escape(std::string_view text, size_t at, std::string& out, int depth);
  std::string expand_nested(std::string_view text, int depth);

  Sink& sink_;
  std::vector<Frame> frames_;
  std::unordered_map<std::string, std::string> strings_;
  std::unordered_map<std::string, std::vector<std::string>> macros_;
  std::unordered_map<std::string, long> registers_;
  std::unordered_map<std::string, std::string> translations_;  // of glyphs
  std::vector<bool> else_taken_;
  int nesting_ = 0;
  size_t lines_left_ = 0;
  size_t expansion_left_ = 0;
};

}  // namespace colossus::roff
