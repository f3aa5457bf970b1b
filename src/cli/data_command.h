// colossus data
#pragma once

#include <CLI/CLI.hpp>

namespace colossus {

void add_data_command(CLI::App& app, int& exit_code);

}  // namespace colossus
