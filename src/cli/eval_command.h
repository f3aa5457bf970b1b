// colossus eval
#pragma once

#include "cli/command.h"

namespace colossus {

void add_eval_command(Command root);

}  // namespace colossus
