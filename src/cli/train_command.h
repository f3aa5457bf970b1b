// colossus train
#pragma once

#include "cli/command.h"

namespace colossus {

void add_train_command(Command root);

}  // namespace colossus
