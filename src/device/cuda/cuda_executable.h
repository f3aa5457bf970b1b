// A program with its memory planned and its kernels prepared, bound to the GPU's memory and ready to run as one graph.
//
// Operations that talk to other ranks are given to the streams of their lanes (LaneOrder), which are part of the graph.
// A program is no graph, but given to the streams anew in each run, where the host must read how long messages are, or
// where a send goes on beyond the run. run() of a program that talks waits until it is done: it may fail.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "device/cuda/cuda_kernel.h"
#include "device/cuda/cuda_memory.h"
#include "program/lane_order.h"

namespace colossus {

class CudaExecutable final : public Executable {
 public:
  static Result<std::unique_ptr<CudaExecutable>> make(Program program, CudaResources& resources,
                                                      const CompileOptions& options);
  ~CudaExecutable() override;

  const Program& program() const override { return program_; }
  const MemoryPlan& memory_plan() const override { return plan_; }
  void bind(TensorId id, std::shared_ptr<DeviceMemory> memory, int64_t offset_bytes) override;
  Status load() override;
  Status run() override;
  void read_output(TensorId id, std::span<std::byte> into) override;
  double waited_seconds(Link link) const override { return waited_[static_cast<size_t>(link)]; }
  std::span<const OperationTime> operation_times() const override { return times_; }
  int64_t packed_bytes() const override;

 private:
  CudaExecutable(Program program, CudaResources& resources, const CompileOptions& options);

  Status prepare_kernels();
  Status resolve();  // views and rounded weights, after bindings changed
  View view_of(TensorId id) const;
  Status enqueue_all();
  Status enqueue(size_t at);
  void compute(size_t at);
  Status run_graph();
  // Of programs that talk to other ranks, in cuda_executable_lanes.cc.
  Status open_lanes();
  void close_lanes();
  Status begin_talk();
  Status communicate(size_t at);
  // Sends of earlier runs may still read what operation `at` writes, or receives write what it reads.
  void wait_for_transfers(size_t at);
  // The compute lane waits for these events, and notes for how long.
  void wait_timed(const std::vector<gpu::Event>& events, int64_t place, Link link);
  void wait_for_lanes(const std::vector<int>& operations, int64_t place);
  Status note_transfer(size_t at);
  Status finish_talk(RankGroups& groups);
  Status abort_talk(RankGroups& groups, const Status& error);
  // Of a run whose operations stood between events.
  Status take_times();
  Status make_events();
  void forget_graph();  // of a binding that is no more
  bool talks() const { return groups_ != nullptr; }
  bool is_graph_ = true;
  bool tracing() const { return resources_.trace && resources_.trace->recording(); }

  // One operation as the kernels see it: ranges of views_, gemms_ and rounded_data_.
  struct Call {
    size_t first_input, num_inputs, first_output, num_outputs, first_gemm, first_rounded;
    std::byte* workspace = nullptr;
    int64_t workspace_bytes = 0;
    CudaLane* lane = nullptr;   // of what talks to other ranks
    gpu::Event done = nullptr;  // behind that
    int64_t wait_place = -1;    // where the compute lane waits for other lanes before the operation, or for transfers
    bool has_stash = false;     // among its operands
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
  struct StashView {
    size_t view;  // in views_
    TensorId tensor;
  };
  std::vector<StashView> stash_views_;
  std::vector<View> views_;
  std::vector<const std::byte*> rounded_data_;
  bool resolved_ = false;
  uint64_t arena_generation_ = 0;  // of the arena that views_ point into

  // Of the memory that is bound now: written down when the program runs for the second time.
  bool has_run_ = false;
  gpu::Graph graph_ = nullptr;

  // Of a program that talks to other ranks.
  RankGroups* const groups_;
  RankGroups* waited_for_groups_ = nullptr;  // in this run: of transfers of other programs
  LaneOrder order_;
  std::vector<int> last_of_lanes_;    // operations that the end of the run waits for
  gpu::Event issue_ = nullptr;        // where the compute lane has come to
  gpu::Event end_ = nullptr;          // of the run
  std::vector<Link> wait_links_;      // by wait_place; the last is the end of the run
  std::vector<int64_t> wait_places_;  // where it waited, as it was given to the streams last
  PinnedMemory wait_times_;           // the GPU's clock before and behind each of these waits
  std::array<double, static_cast<size_t>(Link::kParameters) + 1> waited_{};
  int64_t first_number_ = 0;  // of its operations, on the lanes

  std::vector<OperationTime> times_;
  std::vector<gpu::Event> events_;  // before and behind each operation, and the run's end; made when first needed
  bool timed_ = false;              // this run
  struct TracePlace {
    std::string lane;
    int32_t label;
  };
  std::vector<TracePlace> traced_;  // by operation
};

}  // namespace colossus
