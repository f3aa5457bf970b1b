// The other ranks of a group, as streams of a GPU talk to them: NCCL (native/), or GPUs of other threads (emulated/).
#pragma once

#include <memory>
#include <span>

#include "comm/rank_groups.h"
#include "device/cuda/gpu.h"

namespace colossus::gpu {

struct Outgoing {
  int peer;
  const std::byte* bytes;  // in the GPU's memory, like all of them
  int64_t num_bytes;
};
struct Incoming {
  int peer;
  std::byte* bytes;
  int64_t num_bytes;
};

class Peers final : public DeviceEnd {
 public:
  // For the GPU that is open. All ranks of `group` call it, each in a thread that may wait for the others; they find
  // each other through `group`, which is not used afterwards.
  static Result<std::unique_ptr<Peers>> make(Communicator& group);
  // Work of streams that waits for peers ends first, with whatever contents.
  ~Peers() override;

  int rank() const;
  int size() const;
  // All messages at the same time, when the stream comes to it: at most one to and one from each peer, none to this
  // rank itself, none empty. Between two ranks they match in order, with equal sizes. One stream at a time.
  void exchange(Stream stream, std::span<const Outgoing> sends, std::span<const Incoming> receives);
  // Of the first call that could not be given to the stream, or when a peer is known to be lost.
  Status status();
  // Work of streams that waits for peers, now or later, ends with whatever contents.
  void abort();

 private:
  struct State;
  struct Exchange;
  explicit Peers(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace colossus::gpu
