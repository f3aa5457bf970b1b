// The one executable. Each subcommand lives in its own file and adds itself here.
#include <csignal>
#include <string>

#include "base/platform.h"
#include "cli/chat_command.h"
#include "cli/check_command.h"
#include "cli/checkpoint_command.h"
#include "cli/data_command.h"
#include "cli/devices_command.h"
#include "cli/eval_command.h"
#include "cli/exit_code.h"
#include "cli/generate_command.h"
#include "cli/import_command.h"
#include "cli/plan_command.h"
#include "cli/program_command.h"
#include "cli/simulate_command.h"
#include "cli/tokenizer_command.h"
#include "cli/train_command.h"

namespace colossus {
namespace {

int run(int argc, char** argv) {
  CommandLine command_line("colossus", "Colossus: from text to a language model you can talk to.",
                           std::string("colossus ") + COLOSSUS_VERSION, exit_code_help());
  const Command root = command_line.root();
  // In the order of --help.
  add_tokenizer_command(root);
  add_data_command(root);
  add_train_command(root);
  add_generate_command(root);
  add_chat_command(root);
  add_eval_command(root);
  add_checkpoint_command(root);
  add_import_command(root);
  add_export_command(root);
  add_inspect_command(root);
  add_program_command(root);
  add_check_command(root);
  add_devices_command(root);
  add_plan_command(root);
  add_simulate_command(root);
  return command_line.parse(argc, argv);
}

}  // namespace
}  // namespace colossus

int main(int argc, char** argv) {
  // A file that grows beyond `ulimit -f` is an error like a full disk, not an end without a word.
  std::signal(SIGXFSZ, SIG_IGN);
  if (colossus::isa_level() == colossus::IsaLevel::kNone) {
    return colossus::report(colossus::unavailable(
        "this processor (" + colossus::cpu_model_name() +
        ") lacks AVX2 and FMA, which the kernels need: any x86-64 processor since 2013 (Intel Haswell) or 2015 (AMD "
        "Excavator) has them; in a virtual machine, ask for the host's processor model"));
  }
  return colossus::run(argc, argv);
}
