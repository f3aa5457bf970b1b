#pragma once

#include "cli/command.h"

namespace colossus {

// colossus check: is this machine, or a fleet, fit for a run?
void add_check_command(Command root);

}  // namespace colossus
