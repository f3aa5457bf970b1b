#pragma once

#include "cli/command.h"

namespace colossus {

// colossus devices: what programs can run on here.
void add_devices_command(Command root);

}  // namespace colossus
