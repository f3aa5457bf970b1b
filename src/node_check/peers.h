// Machines that check their links to each other without anybody who starts and compares them: they number themselves in
// a store, and each learns there what the others have measured.
#pragma once

#include <string>
#include <vector>

#include "comm/key_value_store.h"
#include "node_check/report.h"

namespace colossus {

struct PeerPlace {
  int node = 0;
  std::string id;  // of this check: see LinkCheckOptions
};
// The next free number among num_nodes that come within `patience_seconds` of the first; whoever comes when that is
// over, or when all are there, begins another check. The wall clocks of the machines agree to within half of that.
Result<PeerPlace> take_place_among_peers(KeyValueStore& store, int num_nodes, double patience_seconds);

// Hands `report` to the others, waits for theirs, and compares its figures with the medians of all, from three nodes
// on: those that nothing was expected of. One that does not come is waited for until the patience is over, and is bad
// only for its partners.
Status compare_with_peers(KeyValueStore& store, const PeerPlace& place, int num_nodes, double patience_seconds,
                          NodeReport& report);

}  // namespace colossus
