// ZeRO 2 and 3: the programs of a rank with the exchanges and gathers that its buckets ask for.
#pragma once

#include <vector>

#include "train/update_program.h"

namespace colossus {

// A program of a microbatch, or a forward program. Buckets without an exchange or a gather, and what the program does
// not have of the others, leave it as it is.
Program share_state(Program program, const std::vector<UpdateBucket>& buckets);

}  // namespace colossus
