// colossus import, export, inspect
#pragma once

#include "cli/command.h"

namespace colossus {

void add_import_command(Command root);
void add_export_command(Command root);
void add_inspect_command(Command root);

}  // namespace colossus
