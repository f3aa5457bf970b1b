// colossus generate
#pragma once

#include "cli/command.h"

namespace colossus {

void add_generate_command(Command root);

}  // namespace colossus
