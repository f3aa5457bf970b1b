// colossus plan
#pragma once

#include "cli/command.h"

namespace colossus {

void add_plan_command(Command root);

}  // namespace colossus
