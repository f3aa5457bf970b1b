#include "device/cuda/cuda_memory.h"

#include "base/check.h"
#include "device/cuda/device_kernels.h"

namespace colossus {

Result<std::shared_ptr<CudaMemory>> CudaMemory::make(int64_t num_bytes) {
  ASSIGN_OR_RETURN(std::byte * data, gpu::allocate(num_bytes));
  return std::shared_ptr<CudaMemory>(new CudaMemory(data, num_bytes));
}

Result<std::shared_ptr<Bf16Copy>> Bf16Copy::make(std::shared_ptr<CudaMemory> source, const View& weight) {
  CHECK(weight.dtype == DType::kF32);
  ASSIGN_OR_RETURN(auto copy, CudaMemory::make(weight.num_elements() * 2));
  return std::shared_ptr<Bf16Copy>(new Bf16Copy(std::move(source), weight, std::move(copy)));
}

void Bf16Copy::renew(gpu::Stream stream) {
  if (version_ == source_->version) return;
  round_to_bf16(stream, weight_.as<float>(), copy_->data(), weight_.num_elements());
  version_ = source_->version;
}

Result<std::shared_ptr<Bf16Copy>> Bf16Copies::get(const std::shared_ptr<CudaMemory>& source, const View& weight) {
  std::weak_ptr<Bf16Copy>& place = by_place_[{weight.data, weight.num_elements()}];
  if (auto copy = place.lock()) return copy;
  ASSIGN_OR_RETURN(auto copy, Bf16Copy::make(source, weight));
  place = copy;
  return copy;
}

void CudaResources::look_at_transfers() {
  std::erase_if(transfers, [](const CudaTransfer& transfer) {
    const auto past = gpu::is_past(transfer.event);
    // An error of the GPU stays, and is found by whoever runs next.
    if (past.ok() && !*past) return false;
    gpu::destroy(transfer.event);
    return true;
  });
}

Status CudaResources::wait_for_transfers(const void* owner) {
  Status status;
  std::erase_if(transfers, [&](const CudaTransfer& transfer) {
    if (owner && transfer.owner != owner) return false;
    if (status.ok()) status = lanes.wait(transfer.event, *transfer.groups);
    // After a failure streams run out; whoever frees the memory waits for them.
    gpu::destroy(transfer.event);
    return true;
  });
  return status;
}

CudaResources::~CudaResources() {
  (void)wait_for_transfers(nullptr).ok();
  arena.memory.reset();
  gemms.reset();
  if (staging) gpu::release_pinned(staging);
  if (stream) gpu::destroy(stream);
}

}  // namespace colossus
