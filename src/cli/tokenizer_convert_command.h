#pragma once

#include "cli/command.h"

namespace colossus {

void add_tokenizer_convert(Command parent);
void add_tokenizer_evaluate(Command parent);

}  // namespace colossus
