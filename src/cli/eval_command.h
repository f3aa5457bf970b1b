// colossus eval
#pragma once

#include <CLI/CLI.hpp>

namespace colossus {

void add_eval_command(CLI::App& app, int& exit_code);

}  // namespace colossus
