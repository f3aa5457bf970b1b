// colossus checkpoint
#pragma once

#include "cli/command.h"

namespace colossus {

void add_checkpoint_command(Command root);

}  // namespace colossus
