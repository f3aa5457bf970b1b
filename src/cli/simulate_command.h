// colossus simulate
#pragma once

#include "cli/command.h"

namespace colossus {

void add_simulate_command(Command root);

}  // namespace colossus
