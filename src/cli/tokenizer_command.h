// colossus tokenizer train | encode | decode | inspect
#pragma once

#include "cli/command.h"

namespace colossus {

void add_tokenizer_command(Command root);

}  // namespace colossus
