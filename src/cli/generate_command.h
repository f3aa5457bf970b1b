// colossus generate
#pragma once

#include <CLI/CLI.hpp>

namespace colossus {

void add_generate_command(CLI::App& app, int& exit_code);

}  // namespace colossus
