// What runs programs. A device knows no model; a model knows no device.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/trace.h"
#include "comm/rank_groups.h"
#include "program/memory_plan.h"
#include "program/program.h"
#include "tensor/stored_bytes.h"

namespace colossus {

constexpr int64_t kTensorAlignment = 64;  // bytes

// Memory on a device, zeroed when made.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual int64_t num_bytes() const = 0;
  // What it takes: none while it is only a place for what is stored elsewhere.
  virtual int64_t held_bytes() const { return num_bytes(); }
};

struct OperationTime {
  double seconds = 0;  // summed over runs
  int64_t num_runs = 0;
};

// A program made ready for one device: memory planned, weights' packed forms known. Not thread-safe.
class Executable {
 public:
  virtual ~Executable() = default;
  virtual const Program& program() const = 0;
  virtual const MemoryPlan& memory_plan() const = 0;
  // Reads what is stored elsewhere (Device::allocate_stored) and brings weights into the device's own layout, which
  // run() would do first. Fails as the reads do.
  virtual Status load() = 0;
  // Gives tensor `id` (any role outside the arena; no view) its memory. Every such tensor is bound before run();
  // several executables, and several tensors, may share a memory, which is kept alive. offset_bytes: where in it the
  // tensor begins, a multiple of kTensorAlignment.
  virtual void bind(TensorId id, std::shared_ptr<DeviceMemory> memory, int64_t offset_bytes = 0) = 0;
  // One pass through the program. Operations are done when it returns or at synchronize(), as the device likes. Fails
  // only as load() does, or when other ranks do: then what the program changes is in no defined state.
  // A send from a stash, and a receive into one that nothing in the program reads, wait for their peer beside the runs
  // that follow, whatever is bound for them. A program that writes to the memory that such a send reads, or has a stash
  // that such a receive writes, waits for it; Device::write() and its like do not. If one fails, its groups are
  // aborted, and a run of any executable of this device, at the latest the next, or synchronize() returns the failure.
  virtual Status run() = 0;
  // The contents of an output: until the next run of any executable of this device, for they share one arena.
  virtual void read_output(TensorId id, std::span<std::byte> into) = 0;
  // Of the last run: how long its computation waited for operations of groups with this link.
  virtual double waited_seconds(Link link) const = 0;
  // Times by operation, index as in program().operations; empty unless compiled with profile.
  virtual std::span<const OperationTime> operation_times() const = 0;
  // Bytes of weights in the device's own layout; executables that read the same weights share them.
  virtual int64_t packed_bytes() const = 0;
};

struct CompileOptions {
  bool profile = false;
  // Of a program that talks to other ranks: looked up at each run, so ends may be replaced between two runs. Outlives
  // the executable.
  RankGroups* groups = nullptr;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string description() const = 0;  // "2 cores of Intel Xeon ..., avx512"
  virtual Result<std::unique_ptr<Executable>> compile(Program program, const CompileOptions& options = {}) = 0;
  virtual Result<std::shared_ptr<DeviceMemory>> allocate(int64_t num_bytes) = 0;
  // Memory for what is stored elsewhere: programs read it, and nothing writes to it or copies it. It is read from there
  // by Executable::load(), in parts; what operations only need in the device's own layout is held in no other.
  virtual Result<std::shared_ptr<DeviceMemory>> allocate_stored(int64_t num_bytes, StoredBytes bytes) = 0;
  virtual void write(DeviceMemory& memory, int64_t offset_bytes, std::span<const std::byte> bytes) = 0;
  virtual void read(const DeviceMemory& memory, int64_t offset_bytes, std::span<std::byte> into) = 0;
  virtual void zero(DeviceMemory& memory) = 0;
  virtual void copy(DeviceMemory& into, const DeviceMemory& from) = 0;  // of the same size
  // into += from, both n fp32: the tree of gradient leaves.
  virtual void add(DeviceMemory& into, const DeviceMemory& from, int64_t num_floats) = 0;
  // Until nothing is under way. The failure of a send or receive that went on after its run.
  virtual Status synchronize() = 0;
  // What activations should be for speed here: bf16 where the hardware multiplies it, else f32.
  virtual DType preferred_compute_dtype() const = 0;
  // Where the operations of all runs are recorded; null: nowhere.
  virtual Trace* trace() const = 0;
  // Measured once, cached: FLOP/s of register-only arithmetic in that dtype.
  virtual double peak_flops(DType dtype) = 0;
};

}  // namespace colossus
