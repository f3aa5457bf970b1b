// colossus tokenizer train | encode | decode | inspect
#pragma once

namespace CLI {
class App;
}

namespace colossus {

// Sets exit_code when one of the subcommands ran. Both must outlive parsing.
void add_tokenizer_command(CLI::App& app, int& exit_code);

}  // namespace colossus
