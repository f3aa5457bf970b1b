// Mean loss over held-out rows.
#pragma once

#include <atomic>
#include <vector>

#include "comm/communicator.h"
#include "data/loader.h"
#include "device/tensor_set.h"
#include "model/model.h"

namespace colossus {

struct Evaluation {
  double loss = 0;         // nats per token
  int64_t num_tokens = 0;  // targets
};

class Evaluator {
 public:
  // Forward passes of `options.batch` rows each with the parameters in `tensors`.
  static Result<std::unique_ptr<Evaluator>> create(Device& device, const TensorSet& tensors, const ModelConfig& model,
                                                   const ProgramOptions& options);

  // The first rows of the loader that hold max_tokens targets (0: all rows), summed exactly. `stop` ends it early
  // with kInterrupted; `progress` (0..1) may be null.
  // `ranks`: who else evaluates; they share the rows, and all get the same answer. A stop of one is a stop of all.
  Result<Evaluation> run(const Loader& loader, int64_t max_tokens, const std::atomic<bool>* stop = nullptr,
                         std::atomic<double>* progress = nullptr, Communicator* ranks = nullptr);
  const Executable& executable() const { return *executable_; }

 private:
  Evaluator() = default;

  Device* device_ = nullptr;
  ProgramOptions options_;
  TensorSet inputs_;
  std::unique_ptr<Executable> executable_;
  TensorId token_loss_;
  std::vector<int32_t> tokens_, targets_, document_start_;
  std::vector<float> losses_;
};

}  // namespace colossus
