// What the supervisor of a machine and its workers tell each other through the machine's store. A generation is one
// membership of a run: which worker process is which rank. When one begins, all its workers, of all machines, meet and
// go on from the newest state they have together.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comm/key_value_store.h"
#include "parallel/mesh.h"

namespace colossus {

struct Membership {
  int64_t id = 0;  // rising from 1
  int64_t data = 1, shard = 1;
  std::vector<std::string> workers;  // by rank

  // The run's layout with this many ranks.
  MeshConfig mesh(MeshConfig run) const;

  friend bool operator==(const Membership&, const Membership&) = default;
};

Status publish(KeyValueStore& store, const Membership& generation);
// Nothing before the first.
Result<std::optional<Membership>> current_membership(KeyValueStore& store);

// How a worker is doing.
struct Heartbeat {
  int64_t beat = 0;        // counts the heartbeats of the process
  int64_t generation = 0;  // it has joined; 0: none yet
  int64_t step = -1;       // finished
  int64_t progress = 0;    // grows as long as it gets on
  std::string waits_in;    // the collective it is in; empty while it computes

  friend bool operator==(const Heartbeat&, const Heartbeat&) = default;
};
Status write_heartbeat(KeyValueStore& store, const std::string& worker, const Heartbeat& heartbeat);
Result<std::optional<Heartbeat>> read_heartbeat(KeyValueStore& store, const std::string& worker);

// Why a worker ends; read by the supervisor after its process did.
Status write_last_words(KeyValueStore& store, const std::string& worker, const std::string& text);
Result<std::string> read_last_words(KeyValueStore& store, const std::string& worker);

// A worker that lost its peers, or cannot go on with them, waits for a new generation, and says so.
struct Broken {
  std::string why;
  std::vector<int64_t> wrong_ranks;  // that compute wrong numbers, as all of them found together
};
Status report_broken(KeyValueStore& store, int64_t generation, const std::string& worker, const Broken& broken);
Result<std::optional<Broken>> read_broken(KeyValueStore& store, int64_t generation, const std::string& worker);

// A worker that has finished the run stays until all have: its memory may be needed until then.
Status report_finished(KeyValueStore& store, int64_t generation, const std::string& worker);
Result<bool> has_finished(KeyValueStore& store, int64_t generation, const std::string& worker);
Status report_all_finished(KeyValueStore& store, int64_t generation);
Result<bool> all_have_finished(KeyValueStore& store, int64_t generation);

// When this machine was last heard by the others, on the clock of all its processes (monotonic_seconds). Workers that
// have not seen a new one for long do nothing more: their places may be others'.
Status write_lease(KeyValueStore& store, double since);
Result<std::optional<double>> read_lease(KeyValueStore& store);

// Where a worker that gets nowhere stands in its groups (train/recovery/waits.h); empty once it gets on.
Status report_waits(KeyValueStore& store, int64_t generation, const std::string& worker, const std::string& text);
Result<std::string> read_waits(KeyValueStore& store, int64_t generation, const std::string& worker);

}  // namespace colossus
