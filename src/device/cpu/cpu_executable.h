// A program with its memory planned and its kernels prepared, bound to memory and ready to run.
#pragma once

#include <array>
#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "device/collectives.h"
#include "device/cpu/comm_lanes.h"
#include "device/cpu/lane_waits.h"
#include "device/cpu/packed_weights.h"
#include "device/cpu/transfers_under_way.h"
#include "program/lane_order.h"

namespace colossus {

// One arena for all executables of a device: they run one at a time. It grows when a larger one is compiled.
struct SharedArena {
  Buffer memory;
  uint64_t generation = 0;  // moves on when the memory does
};

// What executables of a device have in common; outlives them.
struct CpuResources {
  CpuResources(int num_threads, bool pin, Trace* trace) : trace(trace), pool(num_threads, pin) {}

  Trace* const trace;  // may be null
  ThreadPool pool;
  PackedWeights packed_weights;
  SharedArena arena;
  TransfersUnderWay transfers;
  CommLanes comm_lanes;  // last: its threads end before what they use
};

class CpuExecutable final : public Executable {
 public:
  static Result<std::unique_ptr<CpuExecutable>> make(Program program, CpuResources& resources, bool reference,
                                                     const CompileOptions& options);
  ~CpuExecutable() override { resources_.transfers.wait_for_owner(this); }

  const Program& program() const override { return program_; }
  const MemoryPlan& memory_plan() const override { return plan_; }
  void bind(TensorId id, std::shared_ptr<DeviceMemory> memory, int64_t offset_bytes) override;
  Status load() override;
  Status run() override;
  void read_output(TensorId id, std::span<std::byte> into) override;
  double waited_seconds(Link link) const override { return waits_.seconds(link); }
  std::span<const OperationTime> operation_times() const override { return times_; }
  int64_t packed_bytes() const override;

 private:
  CpuExecutable(Program program, CpuResources& resources, bool reference, RankGroups* groups)
      : program_(std::move(program)),
        resources_(resources),
        pool_(resources.pool),
        reference_(reference),
        groups_(groups),
        order_(order_lanes(program_)),
        waits_(program_, order_) {}

  void prepare_kernels();
  void prepare_trace();
  void resolve();  // views and packed weights, after bindings changed
  // Whether operation `at` reads input i through its packed form alone.
  bool reads_packed_only(size_t at, size_t i) const;
  View view_of(TensorId id) const;
  CpuCall call_of(size_t at);
  void compute(size_t at);

  // Operations that talk to other ranks run on the threads of their lanes, or here, if nothing is to be done meanwhile.
  void post(size_t at);
  bool is_waited_for_at_once(size_t at) const;
  void post_beyond_run(size_t at);
  void communicate_in_order(size_t at);
  Status talk(size_t at, const RankCall& call);
  // What operation `at` is about to do, for the trace.
  Traced traced(size_t at) const;
  // A send of an earlier run may still read what operation `at` writes, or a receive write what it reads. False when
  // one has failed.
  bool wait_for_transfers(size_t at);
  // Until those that operation `at` waits for are done; false when one has failed.
  bool wait_for(const std::vector<int>& operations);
  // The same on the compute lane.
  bool stand_still_for(const std::vector<int>& operations);
  Status wait_for_lanes();
  void fail(Status error);

  // One operation as the kernels see it: ranges of views_ and packed_data_.
  struct Call {
    size_t first_input, num_inputs, first_output, num_outputs, first_packed;
    std::byte* workspace = nullptr;
    int64_t workspace_bytes = 0;
    bool has_stash = false;  // among its operands
  };
  struct StashView {
    size_t view;
    TensorId tensor;
  };

  Program program_;
  CpuResources& resources_;
  ThreadPool& pool_;
  const bool reference_;
  RankGroups* const groups_;
  const LaneOrder order_;
  MemoryPlan plan_;
  std::vector<std::vector<WeightPacking>> packings_;   // by operation
  std::vector<Call> calls_;                            // by operation
  std::vector<std::shared_ptr<CpuMemory>> bound_;      // by tensor; null in the arena
  std::vector<int64_t> bound_offset_;                  // by tensor, in bytes
  std::vector<std::shared_ptr<PackedWeight>> packed_;  // every one this program reads, once
  std::vector<CpuMemory*> mutated_;                    // memories this program changes
  std::vector<CpuMemory*> stored_;                     // those that it reads as they are stored, each once
  std::vector<View> views_;
  std::vector<StashView> stash_views_;  // of views_, those that move when a stash is bound to another place
  std::vector<const std::byte*> packed_data_;
  std::vector<OperationTime> times_;
  // By operation; empty without a trace.
  struct TracePlace {
    TraceLane* lane;
    int32_t label;
  };
  std::vector<TracePlace> trace_places_;
  bool resolved_ = false;
  uint64_t arena_generation_ = 0;  // of the arena that views_ point into

  // Between the compute lane and the others, during a run.
  std::mutex mutex_;
  std::condition_variable progress_;
  std::vector<char> done_;  // by operation: of those beside the compute lane
  int64_t num_under_way_ = 0;
  int last_done_ = -1;  // operation of another lane; -1: none was posted
  LaneWaits waits_;
  Status error_;  // the first
};

}  // namespace colossus
