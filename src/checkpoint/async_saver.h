// Saves in the background. The caller hands over a snapshot; the next save waits for the one before.
#pragma once

#include <memory>
#include <thread>

#include "base/trace.h"
#include "checkpoint/checkpoint.h"
#include "tensor/buffer.h"

namespace colossus {

// Tensors copied out of a run, so that it can go on while they are written. The buffers are reused from save to save.
class Snapshot {
 public:
  // Copies every piece (through its read) into memory of ours; afterwards tensors() read from there.
  Status take(std::span<const CheckpointTensor> tensors);
  std::span<const CheckpointTensor> tensors() const { return copies_; }

 private:
  std::vector<Buffer> buffers_;
  std::vector<CheckpointTensor> copies_;
};

struct SavePolicy {
  int64_t keep_last = 2;
  bool keep_best = true;
};

class AsyncSaver {
 public:
  // Of several ranks each has a saver, with an end of a group that nothing else uses: see save_checkpoint. All ranks
  // start the same saves, and all get the same errors. `trace` gets a lane with the saves.
  AsyncSaver(FileSystem& files, std::string directory, SavePolicy policy, std::unique_ptr<Communicator> ranks = nullptr,
             Trace* trace = nullptr)
      : files_(files), directory_(std::move(directory)), policy_(policy), ranks_(std::move(ranks)), trace_(trace) {}
  ~AsyncSaver() { wait_quietly(); }
  AsyncSaver(const AsyncSaver&) = delete;
  AsyncSaver& operator=(const AsyncSaver&) = delete;

  // Waits for the save before (returning its error, if it failed), copies, and starts writing. That there was no memory
  // for the copy is the error of this call, or among several ranks of the next.
  Status start(CheckpointState state, std::span<const CheckpointTensor> tensors);
  // Until the last save is on the disk; its error.
  Status wait();

 private:
  void wait_quietly();
  Status save(const Status& taken, const CheckpointState& state);

  FileSystem& files_;
  const std::string directory_;
  const SavePolicy policy_;
  const std::unique_ptr<Communicator> ranks_;  // used by thread_
  Trace* const trace_;
  Snapshot snapshot_;
  std::thread thread_;
  Status result_;  // of the save that thread_ made; read after joining
};

}  // namespace colossus
