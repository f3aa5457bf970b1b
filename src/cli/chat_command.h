// colossus chat
#pragma once

#include "cli/command.h"

namespace colossus {

void add_chat_command(Command root);

}  // namespace colossus
