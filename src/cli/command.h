// The command line: commands, their options, their help. The one place that knows the library that parses it: whatever
// includes that library takes seconds to compile.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace colossus {

struct OptionRule {
  bool required = false;
  std::vector<std::string> choices = {};  // the value is one of these
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool show_default = true;
  bool value_optional = false;  // "--name" alone gives ""
  bool many_values = false;     // of a vector's option: "--name a b c"
};

// One command. Copies name the same command. Values are written while the command line is parsed, before the command
// runs; what they refer to must live as long as the CommandLine.
class Command {
 public:
  // A command of this one, which then needs one of its commands to be given.
  Command add_command(const std::string& name, const std::string& help);
  // "--name" is an option, "name" the next argument. The value it has now is the default, which help shows. A vector's
  // option may be given again and again; a vector's argument takes all that are left.
  void option(const std::string& name, std::string& value, const std::string& help, const OptionRule& rule = {});
  void option(const std::string& name, std::vector<std::string>& value, const std::string& help,
              const OptionRule& rule = {});
  void option(const std::string& name, int& value, const std::string& help, const OptionRule& rule = {});
  void option(const std::string& name, int64_t& value, const std::string& help, const OptionRule& rule = {});
  void option(const std::string& name, double& value, const std::string& help, const OptionRule& rule = {});
  void flag(const std::string& name, bool& value, const std::string& help);
  // Text under the help; made only when it is asked for.
  void footer(std::function<std::string()> text);
  // What the command does. Its error is printed and becomes the exit code; one without a message was reported before.
  void run(std::function<Status()> body);
  // The same for a command with exit codes of its own.
  void run_to_exit_code(std::function<Result<int>()> body);

 private:
  friend class CommandLine;
  Command(CLI::App& app, int& exit_code) : app_(&app), exit_code_(&exit_code) {}
  template <class T>
  void add(const std::string& name, T& value, const std::string& help, const OptionRule& rule);

  CLI::App* app_;
  int* exit_code_;
};

class CommandLine {
 public:
  CommandLine(const std::string& name, const std::string& description, const std::string& version,
              const std::string& footer);
  ~CommandLine();
  Command root();
  // Parses, runs the command that was given, prints help and errors; the exit code of the process.
  int parse(int argc, const char* const* argv);

 private:
  std::unique_ptr<CLI::App> app_;
  int exit_code_ = 0;
};

}  // namespace colossus
