// For tests only: groups whose ranks are threads, and bytes that say where they came from.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/rng.h"
#include "comm/communicator.h"

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
inline Result<CommGroup> make_loopback_gloo_group(const GroupOptions& options_of_all) {
  static std::atomic<int> generation = 0;
  const auto store = make_memory_store();
  const std::string key = fmt::format("test/{}", generation++);
  CommGroup group(static_cast<size_t>(options_of_all.size));
  std::vector<Status> errors(group.size());
  in_threads(options_of_all.size, [&](int rank) {
    GroupOptions options = options_of_all;
    options.rank = rank;
    auto end = join_gloo_group(options, *store, key, "lo");
    errors[static_cast<size_t>(rank)] = end.status();
    if (end.ok()) group[static_cast<size_t>(rank)] = std::move(end).value();
  });
  for (const Status& error : errors) RETURN_IF_ERROR(error);
  return group;
}

}  // namespace colossus
