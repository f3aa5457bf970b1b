// Memory of the GPU, and what is shared by the executables of a device.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "device/cuda/cuda_lanes.h"
#include "device/cuda/gemm.h"
#include "device/cuda/gpu.h"
#include "device/device.h"
#include "tensor/view.h"

namespace colossus {

class CudaMemory final : public DeviceMemory {
 public:
  static Result<std::shared_ptr<CudaMemory>> make(int64_t num_bytes);
  ~CudaMemory() override { gpu::release(data_); }
  int64_t num_bytes() const override { return num_bytes_; }
  std::byte* data() const { return data_; }

  uint64_t version = 1;  // moves on when the contents change

 private:
  CudaMemory(std::byte* data, int64_t num_bytes) : data_(data), num_bytes_(num_bytes) {}
  std::byte* const data_;
  const int64_t num_bytes_;
};

// A range of fp32 in bf16, renewed when the memory it lies in has changed.
class Bf16Copy {
 public:
  static Result<std::shared_ptr<Bf16Copy>> make(std::shared_ptr<CudaMemory> source, const View& weight);
  // Does nothing when the weight has not changed.
  void renew(gpu::Stream stream);
  const std::byte* data() const { return copy_->data(); }
  int64_t num_bytes() const { return copy_->num_bytes(); }

 private:
  Bf16Copy(std::shared_ptr<CudaMemory> source, const View& weight, std::shared_ptr<CudaMemory> copy)
      : source_(std::move(source)), weight_(weight), copy_(std::move(copy)) {}
  std::shared_ptr<CudaMemory> source_;
  View weight_;
  std::shared_ptr<CudaMemory> copy_;
  uint64_t version_ = 0;
};

// Copies by what they are of: executables that read the same weight share one.
class Bf16Copies {
 public:
  Result<std::shared_ptr<Bf16Copy>> get(const std::shared_ptr<CudaMemory>& source, const View& weight);

 private:
  std::map<std::pair<const std::byte*, int64_t>, std::weak_ptr<Bf16Copy>> by_place_;
};

// One arena for all executables of a device: they run one at a time. It grows when a larger one is compiled.
struct CudaArena {
  std::shared_ptr<CudaMemory> memory;
  uint64_t generation = 0;  // moves on when the memory does
};

// A send or receive that goes on when the run that issued it has ended.
struct CudaTransfer {
  const void* owner;               // the executable
  ConstByteSpan bytes;             // what it still reads, or writes
  bool writes;                     // a receive
  std::shared_ptr<CudaMemory> in;  // where they lie
  gpu::Event event;                // behind it
  Link link;                       // of its group
  RankGroups* groups;
};

// What executables of a device have in common; outlives them.
struct CudaResources {
  explicit CudaResources(int gpu_index) : lanes(gpu_index) {}
  ~CudaResources();
  CudaResources(const CudaResources&) = delete;
  CudaResources& operator=(const CudaResources&) = delete;

  // Between memory of callers and the GPU's; done when they return.
  void write(std::byte* device, std::span<const std::byte> bytes);
  Status write(std::byte* device, int64_t num_bytes, const StoredBytes& bytes);
  void read(const std::byte* device, std::span<std::byte> into);

  // Forgets those transfers that are done.
  void look_at_transfers();
  // Until those of this owner are done, or all (null). Fails as CudaLanes::wait() does; then none is under way.
  Status wait_for_transfers(const void* owner);

  gpu::Properties properties;
  Trace* trace = nullptr;
  gpu::Stream stream = nullptr;  // the compute lane
  std::unique_ptr<gpu::Gemms> gemms;
  Bf16Copies bf16_copies;
  CudaArena arena;
  CudaLanes lanes;
  std::vector<CudaTransfer> transfers;  // in order
  std::byte* staging = nullptr;         // pinned
  static constexpr int64_t kStagingBytes = 32 << 20;
};

}  // namespace colossus
