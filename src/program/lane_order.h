// In which order the operations of a program may run when those that talk to other ranks run beside the others.
//
// Compute operations are one lane; every RankGroup is another. A lane's operations run one after the other in the order
// of the program. The compute lane issues: an operation of another lane starts no earlier than when the compute lane
// has come to its place. What else must wait follows from the data.
#pragma once

#include <vector>

#include "program/program.h"

namespace colossus {

struct LaneOrder {
  // By operation: earlier operations of other lanes that must be done before it starts, the fewest that say so. Those
  // of the compute lane are not named: they are done when the operation is issued.
  std::vector<std::vector<int>> waits;
  // By operation: the last operation of the compute lane that may start before this one is known to be done. Until
  // then its operands and scratch must keep their places.
  std::vector<int> done_by;
  // By operation: it reads one stash or writes one, and nothing else, and no other operation here waits for it. Such a
  // send or receive may wait for its peer beyond the run, while the compute lane goes on with the next program.
  std::vector<char> outlives_run;
};

LaneOrder order_lanes(const Program& program);

}  // namespace colossus
