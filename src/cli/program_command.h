// colossus program
#pragma once

#include <CLI/CLI.hpp>

namespace colossus {

void add_program_command(CLI::App& app, int& exit_code);

}  // namespace colossus
