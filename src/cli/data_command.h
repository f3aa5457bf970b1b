// colossus data
#pragma once

#include "cli/command.h"

namespace colossus {

void add_data_command(Command root);

}  // namespace colossus
