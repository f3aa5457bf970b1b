// Who waits for whom when a run stands still. A worker that gets nowhere tells where it is in its groups; whoever
// watches the workers compares what they told.
#pragma once

#include <string>
#include <vector>

#include "comm/flight_recorder.h"
#include "comm/key_value_store.h"

namespace colossus {

// The last operations of a rank in one group.
struct GroupRecords {
  std::string group;         // "data+shard"
  std::vector<int> members;  // the run's ranks, by their rank in the group
  int rank = 0;              // of this one, in the group
  std::vector<FlightRecord> records;
};

// With times as ages at `now`: clocks of other machines say something else.
std::string waits_text(const std::vector<GroupRecords>& groups, double now);

// What who_waits_for_whom() finds in each of the groups the texts tell of; "" when nobody waits. A rank that told
// nothing, or what cannot be read, is named where it has peers that did.
std::string who_waits(const std::vector<std::string>& texts);

// The same of the workers of the current generation, as the store has them.
std::string who_waits(KeyValueStore& store);

}  // namespace colossus
