#include "cli/command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "cli/exit_code.h"
#include "io/config_tree.h"

namespace colossus {
namespace {

std::string describe_range(const OptionRule& rule) {
  if (std::isinf(rule.max)) return fmt::format("at least {}", rule.min);
  if (std::isinf(rule.min)) return fmt::format("at most {}", rule.max);
  return fmt::format("{} to {}", rule.min, rule.max);
}

CLI::Validator number_validator(const OptionRule& rule) {
  const std::string needed = describe_range(rule);
  return CLI::Validator(
      [rule, needed](std::string& text) {
        double value = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        const bool is_number = error == std::errc() && end == text.data() + text.size();
        // Written so that NaN is outside.
        if (is_number && value >= rule.min && value <= rule.max) return std::string();
        return fmt::format("got {}; needed {}{}", text, is_number ? "" : "a number, ", needed);
      },
      needed);
}

CLI::Validator choice_validator(const OptionRule& rule) {
  return CLI::Validator(
      [choices = rule.choices](std::string& text) {
        if (std::find(choices.begin(), choices.end(), text) != choices.end()) return std::string();
        const std::string nearest = nearest_name(text, choices);
        return fmt::format("got {}; needed one of {}{}", text, fmt::join(choices, ", "),
                           nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest));
      },
      fmt::format("{}", fmt::join(rule.choices, "|")));
}

std::string suggestion(const std::string& name, const std::vector<std::string>& names) {
  const std::string nearest = nearest_name(name, names);
  return nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest);
}

// The library's message says what is wrong, not what was probably meant: that is added for commands and options.
std::string usage_message(const CLI::App& root, const CLI::ParseError& error, int argc, const char* const* argv) {
  const CLI::App* app = &root;
  int at = 1;
  for (; at < argc && !app->get_subcommands({}).empty() && argv[at][0] != '-'; ++at) {
    std::vector<std::string> names;
    const CLI::App* given = nullptr;
    for (const CLI::App* command : app->get_subcommands({})) {
      names.push_back(command->get_name());
      if (command->get_name() == argv[at]) given = command;
    }
    if (given == nullptr) return fmt::format("there is no command \"{}\"{}", argv[at], suggestion(argv[at], names));
    app = given;
  }
  std::vector<std::string> options;
  for (const CLI::Option* option : app->get_options())
    for (const std::string& name : option->get_lnames()) options.push_back("--" + name);
  for (; at < argc; ++at) {
    const std::string name = std::string(argv[at]).substr(0, std::string(argv[at]).find('='));
    if (name == "--") break;
    if (name.starts_with("--") && std::find(options.begin(), options.end(), name) == options.end())
      return fmt::format("there is no option {}{}", name, suggestion(name, options));
  }
  return error.what();
}

template <class T>
bool has_default_to_show(const T&) {
  return true;
}
bool has_default_to_show(const std::string& value) { return !value.empty(); }
bool has_default_to_show(const std::vector<std::string>&) { return false; }

}  // namespace

Command Command::add_command(const std::string& name, const std::string& help) {
  app_->require_subcommand(1);
  return {*app_->add_subcommand(name, help), *exit_code_};
}

template <class T>
void Command::add(const std::string& name, T& value, const std::string& help, const OptionRule& rule) {
  CLI::Option* option = app_->add_option(name, value, help);
  option->required(rule.required);
  if (rule.value_optional) option->expected(0, 1);
  if (rule.show_default && !rule.required && has_default_to_show(value)) option->capture_default_str();
  if (!rule.choices.empty()) option->check(choice_validator(rule));
  if (!std::isinf(rule.min) || !std::isinf(rule.max)) option->check(number_validator(rule));
  // One value each time: "--set a=1 run.toml" does not swallow the argument behind it.
  if (std::is_same_v<T, std::vector<std::string>> && name.starts_with('-'))
    option->take_all()->allow_extra_args(rule.many_values);
}

void Command::option(const std::string& name, std::string& value, const std::string& help, const OptionRule& rule) {
  add(name, value, help, rule);
}
void Command::option(const std::string& name, std::vector<std::string>& value, const std::string& help,
                     const OptionRule& rule) {
  add(name, value, help, rule);
}
void Command::option(const std::string& name, int& value, const std::string& help, const OptionRule& rule) {
  add(name, value, help, rule);
}
void Command::option(const std::string& name, int64_t& value, const std::string& help, const OptionRule& rule) {
  add(name, value, help, rule);
}
void Command::option(const std::string& name, double& value, const std::string& help, const OptionRule& rule) {
  add(name, value, help, rule);
}

void Command::flag(const std::string& name, bool& value, const std::string& help) { app_->add_flag(name, value, help); }

void Command::footer(std::function<std::string()> text) { app_->footer(std::move(text)); }

void Command::run(std::function<Status()> body) {
  app_->callback([body = std::move(body), exit_code_here = exit_code_] {
    const Status status = body();
    *exit_code_here = !status.ok() && status.message().empty() ? exit_code(status) : report(status);
  });
}

void Command::run_to_exit_code(std::function<Result<int>()> body) {
  app_->callback([body = std::move(body), exit_code_here = exit_code_] {
    const Result<int> code = body();
    *exit_code_here = code.ok() ? *code : report(code.status());
  });
}

CommandLine::CommandLine(const std::string& name, const std::string& description, const std::string& version,
                         const std::string& footer)
    : app_(std::make_unique<CLI::App>(description, name)) {
  app_->set_version_flag("--version", version);
  app_->footer(footer);
}

CommandLine::~CommandLine() = default;

Command CommandLine::root() { return {*app_, exit_code_}; }

int CommandLine::parse(int argc, const char* const* argv) {
  try {
    app_->parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app_->exit(help);  // --help and --version: printed on stdout
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "%s: %s\nRun with --help for more information.\n", app_->get_name().c_str(),
                 usage_message(*app_, error, argc, argv).c_str());
    return kUsageExitCode;
  }
  return exit_code_;
}

}  // namespace colossus
