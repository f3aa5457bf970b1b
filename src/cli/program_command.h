// colossus program
#pragma once

#include "cli/command.h"

namespace colossus {

void add_program_command(Command root);

}  // namespace colossus
