// A program with its memory planned and its kernels prepared, bound to the GPU's memory and ready to run as one graph.
#pragma once

#include <memory>
#include <vector>

#include "device/cuda/cuda_kernel.h"
#include "device/cuda/cuda_memory.h"

namespace colossus {

class CudaExecutable final : public Executable {
 public:
  // Fails where the program talks to other ranks: that is not there for GPUs.
  static Result<std::unique_ptr<CudaExecutable>> make(Program program, CudaResources& resources,
                                                      const CompileOptions& options);
  ~CudaExecutable() override;

  const Program& program() const override { return program_; }
  const MemoryPlan& memory_plan() const override { return plan_; }
  void bind(TensorId id, std::shared_ptr<DeviceMemory> memory, int64_t offset_bytes) override;
  Status load() override;
  Status run() override;
  void read_output(TensorId id, std::span<std::byte> into) override;
  double waited_seconds(Link) const override { return 0; }
  std::span<const OperationTime> operation_times() const override { return times_; }
  int64_t packed_bytes() const override;

 private:
  CudaExecutable(Program program, CudaResources& resources, bool profile);

  Status prepare_kernels();
  Status resolve();  // views and rounded weights, after bindings changed
  View view_of(TensorId id) const;
  void enqueue(size_t at);
  void enqueue_all();
  Status run_graph();
  // Each operation between two events, for times and traces.
  Status run_timed();
  Status make_events();
  void forget_graph();  // of a binding that is no more
  bool tracing() const { return resources_.trace && resources_.trace->recording(); }

  // One operation as the kernels see it: ranges of views_, gemms_ and rounded_data_.
  struct Call {
    size_t first_input, num_inputs, first_output, num_outputs, first_gemm, first_rounded;
    std::byte* workspace = nullptr;
    int64_t workspace_bytes = 0;
  };

  Program program_;
  CudaResources& resources_;
  MemoryPlan plan_;
  std::vector<Call> calls_;                          // by operation
  std::vector<std::vector<RoundedWeight>> rounded_;  // by operation
  std::vector<int> gemms_;
  std::vector<std::shared_ptr<CudaMemory>> bound_;  // by tensor; null in the arena
  std::vector<int64_t> bound_offset_;               // by tensor, in bytes
  std::vector<std::shared_ptr<Bf16Copy>> copies_;   // every one this program reads, once
  std::vector<CudaMemory*> mutated_;                // memories this program changes
  std::vector<View> views_;
  std::vector<const std::byte*> rounded_data_;
  bool resolved_ = false;
  uint64_t arena_generation_ = 0;  // of the arena that views_ point into

  // Of the memory that is bound now: written down when the program runs for the second time.
  bool has_run_ = false;
  gpu::Graph graph_ = nullptr;

  std::vector<OperationTime> times_;
  std::vector<gpu::Event> events_;     // before each operation and behind the last; made when first needed
  std::vector<int32_t> trace_labels_;  // by operation
};

}  // namespace colossus
