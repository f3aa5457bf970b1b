// For tests only: groups whose ranks are threads, and bytes that say where they came from.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/rng.h"
#include "comm/communicator.h"
#include "comm/tcp_network.h"

namespace colossus {

using CommGroup = std::vector<std::unique_ptr<Communicator>>;
using Bytes = std::vector<std::byte>;

// What `seed` tells apart: a rank, a pair of ranks, a number in a row.
inline Bytes pattern_bytes(uint64_t seed, size_t size) {
  Bytes bytes(size);
  const RngKey key{.seed = seed};
  const auto block = random_block(key, size);
  for (size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<std::byte>(block[i % 4] >> (i / 4 % 4 * 8) ^ i ^ i >> 8 ^ i >> 16);
  }
  return bytes;
}

// Runs `body(rank)` in `size` threads at once.
inline void in_threads(int size, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) threads.emplace_back([&body, rank] { body(rank); });
  for (std::thread& thread : threads) thread.join();
}

inline void on_all_ranks(const CommGroup& group, const std::function<void(Communicator&)>& body) {
  in_threads(static_cast<int>(group.size()), [&](int rank) { body(*group[static_cast<size_t>(rank)]); });
}

// Every rank a thread that joins over loopback.
inline Result<std::vector<std::unique_ptr<TcpNetwork>>> make_loopback_networks(int size) {
  const auto store = make_memory_store();
  std::vector<std::unique_ptr<TcpNetwork>> networks(static_cast<size_t>(size));
  std::vector<Status> errors(networks.size());
  in_threads(size, [&](int rank) {
    auto network =
        TcpNetwork::join({.rank = rank, .size = size, .timeout_seconds = 20, .interface = "lo"}, *store, "test");
    errors[static_cast<size_t>(rank)] = network.status();
    if (network.ok()) networks[static_cast<size_t>(rank)] = std::move(network).value();
  });
  for (const Status& error : errors) RETURN_IF_ERROR(error);
  return networks;
}

inline Result<CommGroup> make_loopback_tcp_group(const GroupOptions& options_of_all) {
  ASSIGN_OR_RETURN(const auto networks, make_loopback_networks(options_of_all.size));
  std::vector<int> members;
  for (int rank = 0; rank < options_of_all.size; ++rank) members.push_back(rank);
  CommGroup group;
  for (const auto& network : networks)
    group.push_back(network->group(options_of_all.name, members, options_of_all.timeout_seconds));
  return group;
}

}  // namespace colossus
