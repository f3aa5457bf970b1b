// A KeyValueStore kept by etcd (3.4 or later), spoken to over HTTP.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/key_value_store.h"

namespace colossus {

struct EtcdOptions {
  std::vector<std::string> endpoints;  // "host:port" of members, or of one; "[::1]:2379" for an address with colons
  std::string prefix;                  // a key; put before every key with a '/'. "": none
  double call_seconds = 5;             // one call's, over all endpoints
};

// Asks nobody yet: members may start later. Endpoints are asked in turn, from the last that answered. When none
// answers in time a call is kUnavailable and names each with its reason; an answer that is not etcd's is kCorrupt.
//
// Reads are repeated at the next endpoint. A change is sent to one: once it may have left, it may also be done, now or
// later, and sending it again could undo what others did in between. When its answer is lost the call is kUnavailable
// and says so, and the next call begins with another endpoint.
Result<std::unique_ptr<KeyValueStore>> open_etcd_store(EtcdOptions options);

}  // namespace colossus
