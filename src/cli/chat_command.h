// colossus chat
#pragma once

#include <CLI/CLI.hpp>

namespace colossus {

void add_chat_command(CLI::App& app, int& exit_code);

}  // namespace colossus
