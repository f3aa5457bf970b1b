// colossus train
#pragma once

#include <CLI/CLI.hpp>

namespace colossus {

void add_train_command(CLI::App& app, int& exit_code);

}  // namespace colossus
