// One rank's end of a group of ranks that exchange bytes. Bytes only: whoever sums gradients does it in the order of
// the run's tree (docs/numerics.md), so a reduce-scatter is an all-to-all and an ordered sum on the device.
//
// All ranks of a group call the same collectives in the same order with matching sizes; between two ranks, sends and
// receives match in order. A call returns when its part is done and its buffers may be used again, or with an error
// that names group, rank, step, operation, bytes and the peers it is about. Every wait has a deadline. After an error
// the group is broken: later calls fail at once with the first error, and peers that wait for this rank fail too.
// Arguments that cannot be right (a rank out of range, sizes that do not fit) are kInvalid, send nothing and break
// nothing.
//
// Every collective exchanges messages directly, between each pair of ranks that have something for each other: nobody
// hears of a dead rank through a third one, so all name the right peer.
//
// One thread at a time uses an end; abort() and flight_recorder() are for any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "comm/flight_recorder.h"

namespace colossus {

struct GroupOptions {
  std::string name = "world";  // of the mesh axis, for messages: "data", "tensor"
  int rank = 0;                // of this end in the group
  int size = 1;
  double timeout_seconds = 30;  // of one operation
};

struct CommTraffic {
  int64_t num_calls = 0;   // that succeeded; the bytes are theirs
  int64_t sent_bytes = 0;  // to other ranks; what a rank hands itself is not counted
  int64_t received_bytes = 0;
};

class Communicator {
 public:
  explicit Communicator(GroupOptions options) : options_(std::move(options)) {}
  // Peers that wait for this rank, now or later, fail at once.
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return options_.rank; }
  int size() const { return options_.size; }
  const std::string& name() const { return options_.name; }
  // For error messages and the flight recorder.
  void set_step(int64_t step) { step_ = step; }
  // Of the operations from now on: a first step takes longer than the others.
  void set_timeout(double seconds) { options_.timeout_seconds = seconds; }

  // all = the `mine` of rank 0, 1, ... one after the other; all.size() = size() * mine.size(). `mine` may lie in its
  // place within `all`, and overlaps it nowhere else.
  Status all_gather(std::span<const std::byte> mine, std::span<std::byte> all);
  // send[i] goes to rank i, receive[i] comes from rank i; send[i] of one rank and receive[own rank] of rank i have the
  // same size, which may be 0. Buffers do not overlap.
  Status all_to_all(std::span<const std::span<const std::byte>> send, std::span<const std::span<std::byte>> receive);
  // Long ones go in pieces: the root gives each rank another one, and the ranks gather them from each other. So the
  // root sends little more than the bytes once, however many ranks there are, and every other rank receives each byte
  // once.
  Status broadcast(std::span<std::byte> bytes, int root);
  Status send(std::span<const std::byte> bytes, int peer);
  Status receive(std::span<std::byte> bytes, int peer);
  // Sends to one peer and receives from another (which may be the same) at the same time: a ring's step.
  Status send_receive(std::span<const std::byte> bytes, int to, std::span<std::byte> into, int from);
  Status barrier();

  // Ends the call in progress on this end, and all later ones, with kInterrupted and this reason. Peers that wait for
  // this rank fail.
  void abort(const std::string& reason);

  // Why the group is broken; ok while it is not. Any thread.
  Status failure() const;
  double timeout_seconds() const { return options_.timeout_seconds; }

  const CommTraffic& traffic() const { return traffic_; }
  // The last operations of this end, for "who waits for whom".
  const FlightRecorder& flight_recorder() const { return recorder_; }

 protected:
  // Only messages of one kind match each other, so that ranks in different collectives wait rather than mix bytes up.
  enum class MessageKind : uint8_t { kPointToPoint = 1, kAllGather, kAllToAll, kBroadcast, kBarrier };
  struct Outgoing {
    int peer;
    std::span<const std::byte> bytes;
  };
  struct Incoming {
    int peer;
    std::span<std::byte> bytes;
  };
  // At most one message to and one from each peer; never to this rank itself.
  struct Exchange {
    MessageKind kind;
    std::vector<Outgoing> sends;
    std::vector<Incoming> receives;
  };

  // The transport's part: all messages at the same time; ok when all have gone and come. `deadline` is on the clock of
  // monotonic_seconds(). Errors need say only what happened ("no answer from rank 3 within 30 s"): the caller adds the
  // rest, and calls do_abort() after any error. No buffer is touched after the return.
  virtual Status do_exchange(const Exchange& exchange, double deadline) = 0;
  // Wakes do_exchange() in another thread and lets the peers know. May be called again.
  virtual void do_abort(const std::string& reason) = 0;

  const GroupOptions& options() const { return options_; }

 private:
  struct Operation {
    std::string_view name;
    int64_t bytes;  // for messages: what the caller spoke of
    int to = -1, from = -1;
  };

  Status run(const Operation& operation, std::span<const Exchange> rounds);
  Status check_peer(std::string_view name, int peer) const;
  // Keeps it if it is the first; returns the first.
  Status break_with(Status error);
  std::string place() const;
  std::string message_of(const Operation& operation, const Status& status) const;

  GroupOptions options_;
  int64_t step_ = -1;
  CommTraffic traffic_;
  FlightRecorder recorder_;
  mutable std::mutex mutex_;
  Status broken_;  // the first error
};

// The ends of a group of threads of this process, by rank. Bytes are copied once, from buffer to buffer. The ends
// share what they need: they may be destroyed in any order, in any thread.
std::vector<std::unique_ptr<Communicator>> make_thread_group(const GroupOptions& options_of_all);

}  // namespace colossus
