// The programs of a rank with the exchanges and gathers that its buckets ask for.
//
//   ZeRO 1 and copies along `data`: gradients of all a rank's leaves are exchanged once a step: beside the passes of its
//     last microbatch, in a program that is written for that run, or behind all passes in the program `exchange`. What
//     is there afterwards is the same: in place of its piece of the first accumulator a rank has the sum of all ranks'.
//   ZeRO 2 and 3: in each run.
#pragma once

#include <string>
#include <vector>

#include "train/update_program.h"

namespace colossus {

// ZeRO 2 and 3: a program of a microbatch, or a forward program. Buckets without an exchange or a gather, and what the
// program does not have of the others, leave it as it is.
Program share_state(Program program, const std::vector<UpdateBucket>& buckets);

// What a rank has summed of an accumulator's leaves before (GradientTree's partial(i)): a state of the accumulator's
// size.
std::string partial_sum_name(const std::string& accumulator, size_t i);

// The rank's program `index` for the run that adds the last microbatch of `leaves`, which are those that the rank adds
// up. Buckets that are exchanged in it also add the leaf to those before: all but they is as ever. Without operations
// where there is none.
Program write_last_run(const Program& program, size_t index, const std::vector<UpdateBucket>& buckets,
                       LeafRange leaves);

// The exchange behind the passes, of leaves that are added up: of the buckets that no program's last run exchanges, or of
// all.
enum class ExchangedBehind { kOthers, kAll };
Program write_exchange(const std::vector<UpdateBucket>& buckets, LeafRange leaves, ExchangedBehind which);

}  // namespace colossus
