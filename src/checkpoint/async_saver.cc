#include "checkpoint/async_saver.h"

#include <cstring>

#include "comm/agreement.h"

namespace colossus {

Status Snapshot::take(std::span<const CheckpointTensor> tensors) {
  buffers_.resize(tensors.size());
  copies_.assign(tensors.begin(), tensors.end());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const int64_t bytes = tensors[i].num_bytes();
    if (buffers_[i].num_bytes() != bytes) {
      ASSIGN_OR_RETURN(buffers_[i], Buffer::allocate(bytes));
    }
    if (bytes > 0) RETURN_IF_ERROR(tensors[i].read(0, {buffers_[i].data(), static_cast<size_t>(bytes)}));
    copies_[i].read = [data = buffers_[i].data()](int64_t offset, std::span<std::byte> into) {
      std::memcpy(into.data(), data + offset, into.size());
      return ok_status();
    };
  }
  return ok_status();
}

Status AsyncSaver::start(CheckpointState state, std::span<const CheckpointTensor> tensors) {
  RETURN_IF_ERROR(wait());
  const Status taken = snapshot_.take(tensors);
  // Of several ranks the others must hear of it, so that they do not wait for this one.
  if (num_ranks_of(ranks_.get()) == 1) RETURN_IF_ERROR(taken);
  thread_ = std::thread([this, taken, state = std::move(state)] { result_ = save(taken, state); });
  return ok_status();
}

Status AsyncSaver::save(const Status& taken, const CheckpointState& state) {
  const Traced traced(trace_, "checkpoint", "save");
  RETURN_IF_ERROR(agree(ranks_.get(), taken));
  RETURN_IF_ERROR(save_checkpoint(files_, directory_, state, snapshot_.tensors(), ranks_.get()));
  // Old checkpoints go only when the new one is there.
  return prune_checkpoints(files_, directory_, policy_.keep_last, policy_.keep_best, ranks_.get());
}

Status AsyncSaver::wait() {
  wait_quietly();
  return std::exchange(result_, ok_status());
}

void AsyncSaver::wait_quietly() {
  if (thread_.joinable()) thread_.join();
}

}  // namespace colossus
