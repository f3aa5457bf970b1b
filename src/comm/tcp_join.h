// How processes that know nothing but a store come to be connected. Not for use outside of comm/tcp_*.
//
// Rank 0 tells in the store where it listens, and a secret. All others connect to it and say where they listen; when
// all have come it tells everybody all addresses, and each rank connects to those below it. So a rank reads one key of
// the store, and all connections of a run are made at the same time.
#pragma once

#include <vector>

#include "comm/key_value_store.h"
#include "comm/tcp_network.h"
#include "comm/tcp_socket.h"

namespace colossus {

// sockets[i]: connected with rank i; not valid for the own rank.
Result<std::vector<Descriptor>> join_by_tcp(const NetworkOptions& options, KeyValueStore& store,
                                            const std::string& key);

}  // namespace colossus
