// The one executable. Each subcommand lives in its own file and adds itself here.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "base/platform.h"
#include "cli/chat_command.h"
#include "cli/data_command.h"
#include "cli/eval_command.h"
#include "cli/exit_code.h"
#include "cli/generate_command.h"
#include "cli/program_command.h"
#include "cli/tokenizer_command.h"
#include "cli/train_command.h"
#include "io/config_tree.h"

namespace colossus {
namespace {

// The library's message, with the subcommand that was probably meant.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  std::string message = error.what();
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  if (argc > 1 && argv[1][0] != '-' && std::find(names.begin(), names.end(), argv[1]) == names.end()) {
    const std::string nearest = nearest_name(argv[1], names);
    message = fmt::format("there is no command \"{}\"{}", argv[1],
                          nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest));
  }
  return message;
}

int run(int argc, char** argv) {
  CLI::App app("Colossus: from text to a language model you can talk to.", "colossus");
  app.set_version_flag("--version", fmt::format("colossus {}", COLOSSUS_VERSION));
  app.footer(exit_code_help());
  app.require_subcommand(1);
  int exit_code = 0;
  // Subcommands, in the order of --help.
  add_tokenizer_command(app, exit_code);
  add_data_command(app, exit_code);
  add_train_command(app, exit_code);
  add_generate_command(app, exit_code);
  add_chat_command(app, exit_code);
  add_eval_command(app, exit_code);
  add_program_command(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);  // --help and --version: printed on stdout
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "colossus: %s\nRun with --help for more information.\n",
                 usage_message(app, error, argc, argv).c_str());
    return kUsageExitCode;
  }
  return exit_code;
}

}  // namespace
}  // namespace colossus

int main(int argc, char** argv) {
  if (colossus::isa_level() == colossus::IsaLevel::kNone) {
    return colossus::report(colossus::unavailable(
        "this processor (" + colossus::cpu_model_name() +
        ") lacks AVX2 and FMA, which the kernels need: any x86-64 processor since 2013 (Intel Haswell) or 2015 (AMD "
        "Excavator) has them; in a virtual machine, ask for the host's processor model"));
  }
  return colossus::run(argc, argv);
}
