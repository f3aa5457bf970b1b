// A program with its memory planned and its kernels prepared, bound to memory and ready to run.
#pragma once

#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "device/cpu/packed_weights.h"

namespace colossus {

class CpuExecutable final : public Executable {
 public:
  static Result<std::unique_ptr<CpuExecutable>> make(Program program, ThreadPool& pool, PackedWeights& packed_weights,
                                                     bool reference, const CompileOptions& options);

  const Program& program() const override { return program_; }
  const MemoryPlan& memory_plan() const override { return plan_; }
  void bind(TensorId id, std::shared_ptr<DeviceMemory> memory) override;
  void run() override;
  void read_output(TensorId id, std::span<std::byte> into) override;
  std::span<const OperationTime> operation_times() const override { return times_; }
  int64_t resident_bytes() const override;

 private:
  CpuExecutable(Program program, ThreadPool& pool, PackedWeights& packed_weights, bool reference)
      : program_(std::move(program)), pool_(pool), packed_weights_(packed_weights), reference_(reference) {}

  void prepare_kernels();
  void resolve();  // views and packed weights, after bindings changed
  View view_of(TensorId id) const;
  void run_operation(size_t at);

  // One operation as the kernels see it: ranges of views_ and packed_data_.
  struct Call {
    size_t first_input, num_inputs, first_output, num_outputs, first_packed;
    std::byte* workspace = nullptr;
    int64_t workspace_bytes = 0;
  };

  Program program_;
  ThreadPool& pool_;
  PackedWeights& packed_weights_;
  const bool reference_;
  MemoryPlan plan_;
  Buffer arena_;
  std::vector<std::vector<WeightPacking>> packings_;    // by operation
  std::vector<Call> calls_;                              // by operation
  std::vector<std::shared_ptr<CpuMemory>> bound_;        // by tensor; null in the arena
  std::vector<std::shared_ptr<PackedWeight>> packed_;    // every one this program reads, once
  std::vector<CpuMemory*> mutated_;                      // memories this program changes
  std::vector<View> views_;
  std::vector<const std::byte*> packed_data_;
  std::vector<OperationTime> times_;
  bool resolved_ = false;
};

}  // namespace colossus
