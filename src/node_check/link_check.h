// Are the links between machines fast, and do bytes arrive as they were sent? Two machines at a time, over the
// transport that training uses (comm/communicator.h). Pairs of one round run at once, as they would in a job.
#pragma once

#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/key_value_store.h"
#include "node_check/report.h"

namespace colossus {

struct LinkCheckOptions {
  int node = 0;                 // of this machine, among
  int num_nodes = 1;            // all that run the check at the same time
  int max_rounds = 8;           // partners; a node meets every other one in num_nodes - 1 (or num_nodes) rounds
  std::string id;               // of this check: not used before in the store; letters, digits, '-', '_', '.'
  std::string interface = {};   // see TcpNetwork
  double timeout_seconds = 60;  // to meet a partner; partners may begin later
  int64_t num_bytes = int64_t{64} << 20;  // sent each way
};

// Who `node` meets in a round of a tournament in which everybody meets everybody once: the circle method. -1: nobody,
// with an odd number of nodes.
int partner_in_round(int round, int node, int num_nodes);
int num_rounds(int num_nodes);

struct LinkMeasure {
  double latency_seconds = 0;       // one way: half of the median round trip
  double bytes_per_second = 0;      // of what this end sent
  double clock_offset_seconds = 0;  // the partner's wall clock less ours, known to half of the shortest round trip
  bool damaged = false;             // bytes came that the partner did not send
};
// Of a group of two; both call it at the same time.
Result<LinkMeasure> measure_link(Communicator& pair, int64_t num_bytes);

// "links" (reached and unharmed), "link_bandwidth" and "link_latency" (of the worst partner), "clock_offset".
std::vector<CheckResult> check_links(KeyValueStore& store, const LinkCheckOptions& options);

}  // namespace colossus
