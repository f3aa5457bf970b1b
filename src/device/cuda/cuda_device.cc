#include "device/cuda/cuda_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "device/cuda/cuda_executable.h"
#include "device/cuda/cuda_memory.h"
#include "device/cuda/device_kernels.h"

namespace colossus {
namespace {

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(std::unique_ptr<CudaResources> resources) : resources_(std::move(resources)) {}

  std::string description() const override {
    const gpu::Properties& gpu = resources_->properties;
    return fmt::format("{}, {:.0f} GiB", gpu.name, static_cast<double>(gpu.memory_bytes) / (1 << 30));
  }

  Result<std::unique_ptr<Executable>> compile(Program program, const CompileOptions& options) override {
    ASSIGN_OR_RETURN(auto executable, CudaExecutable::make(std::move(program), *resources_, options));
    return std::unique_ptr<Executable>(std::move(executable));
  }

  Result<std::shared_ptr<DeviceMemory>> allocate(int64_t num_bytes) override {
    ASSIGN_OR_RETURN(auto memory, CudaMemory::make(num_bytes));
    gpu::set_zero(resources_->stream, memory->data(), num_bytes);
    return std::shared_ptr<DeviceMemory>(std::move(memory));
  }

  // Read at once: a GPU has no layout of its own for weights that would be read from elsewhere.
  Result<std::shared_ptr<DeviceMemory>> allocate_stored(int64_t num_bytes, StoredBytes bytes) override {
    ASSIGN_OR_RETURN(auto memory, CudaMemory::make(num_bytes));
    RETURN_IF_ERROR(resources_->write(memory->data(), num_bytes, bytes));
    return std::shared_ptr<DeviceMemory>(std::move(memory));
  }

  void write(DeviceMemory& memory, int64_t offset_bytes, std::span<const std::byte> bytes) override {
    auto& to = static_cast<CudaMemory&>(memory);
    CHECK(offset_bytes >= 0 && offset_bytes + static_cast<int64_t>(bytes.size()) <= to.num_bytes());
    resources_->write(to.data() + offset_bytes, bytes);
    ++to.version;
  }

  void read(const DeviceMemory& memory, int64_t offset_bytes, std::span<std::byte> into) override {
    const auto& from = static_cast<const CudaMemory&>(memory);
    CHECK(offset_bytes >= 0 && offset_bytes + static_cast<int64_t>(into.size()) <= from.num_bytes());
    resources_->read(from.data() + offset_bytes, into);
  }

  void zero(DeviceMemory& memory) override {
    auto& to = static_cast<CudaMemory&>(memory);
    gpu::set_zero(resources_->stream, to.data(), to.num_bytes());
    ++to.version;
  }

  void copy(DeviceMemory& into, const DeviceMemory& from) override {
    auto& to = static_cast<CudaMemory&>(into);
    const auto& source = static_cast<const CudaMemory&>(from);
    CHECK(to.num_bytes() == source.num_bytes());
    gpu::copy_on_device(resources_->stream, to.data(), source.data(), to.num_bytes());
    ++to.version;
  }

  void add(DeviceMemory& into, const DeviceMemory& from, int64_t num_floats) override {
    auto& sum = static_cast<CudaMemory&>(into);
    const auto& term = static_cast<const CudaMemory&>(from);
    CHECK(num_floats * 4 <= sum.num_bytes() && num_floats * 4 <= term.num_bytes());
    add_floats(resources_->stream, reinterpret_cast<float*>(sum.data()), reinterpret_cast<const float*>(term.data()),
               num_floats);
    ++sum.version;
  }

  Status synchronize() override {
    const Status transferred = resources_->wait_for_transfers(nullptr);
    const Status done = gpu::synchronize(resources_->stream);
    return transferred.ok() ? done : transferred;
  }
  Trace* trace() const override { return resources_->trace; }
  DType preferred_compute_dtype() const override { return DType::kBF16; }

  // Of the dense products of Hopper's SXM parts by their datasheet (132 multiprocessors: 989 TFLOP/s of bf16), which is
  // what published shares of the peak are of; the fp32 rate is that of the ordinary units.
  double peak_flops(DType dtype) override {
    constexpr double kClockHz = 1.83e9, kBf16PerClock = 4096, kF32PerClock = 256;
    return resources_->properties.num_multiprocessors * kClockHz *
           (dtype == DType::kBF16 ? kBf16PerClock : kF32PerClock);
  }

 private:
  std::unique_ptr<CudaResources> resources_;
};

}  // namespace

void CudaResources::write(std::byte* device, std::span<const std::byte> bytes) {
  for (size_t at = 0; at < bytes.size(); at += kStagingBytes) {
    const size_t size = std::min<size_t>(bytes.size() - at, kStagingBytes);
    std::memcpy(staging, bytes.data() + at, size);
    gpu::copy_to_device(stream, device + at, staging, static_cast<int64_t>(size));
    // The staging memory is needed again. A failure stays and is found by the next run.
    (void)gpu::synchronize(stream).ok();
  }
}

Status CudaResources::write(std::byte* device, int64_t num_bytes, const StoredBytes& bytes) {
  for (int64_t at = 0; at < num_bytes; at += kStagingBytes) {
    const int64_t size = std::min(num_bytes - at, kStagingBytes);
    RETURN_IF_ERROR(bytes.read(at, {staging, static_cast<size_t>(size)}));
    gpu::copy_to_device(stream, device + at, staging, size);
    RETURN_IF_ERROR(gpu::synchronize(stream));
  }
  return ok_status();
}

void CudaResources::read(const std::byte* device, std::span<std::byte> into) {
  for (size_t at = 0; at < into.size(); at += kStagingBytes) {
    const size_t size = std::min<size_t>(into.size() - at, kStagingBytes);
    gpu::copy_to_host(stream, staging, device + at, static_cast<int64_t>(size));
    (void)gpu::synchronize(stream).ok();
    std::memcpy(into.data() + at, staging, size);
  }
}

Result<std::unique_ptr<Device>> make_cuda_device(const CudaOptions& options) {
  auto resources = std::make_unique<CudaResources>(options.index);
  ASSIGN_OR_RETURN(resources->properties, gpu::open(options.index));
  resources->trace = options.trace;
  ASSIGN_OR_RETURN(resources->stream, gpu::make_stream());
  ASSIGN_OR_RETURN(resources->gemms, gpu::Gemms::make());
  ASSIGN_OR_RETURN(resources->staging, gpu::allocate_pinned(CudaResources::kStagingBytes));
  return std::unique_ptr<Device>(std::make_unique<CudaDevice>(std::move(resources)));
}

int count_cuda_devices() {
  const auto count = gpu::num_gpus();
  return count.ok() ? *count : 0;
}

Result<std::string> describe_cuda_devices() {
  ASSIGN_OR_RETURN(const int count, gpu::num_gpus());
  std::string text;
  for (int index = 0; index < count; ++index) {
    const auto found = gpu::open(index);
    if (!found.ok()) {
      text += fmt::format("{}: not used: {}\n", index, found.status().message());
      continue;
    }
    text += fmt::format("{}: {}, {} multiprocessors, {:.1f} GiB of memory\n", index, found->name,
                        found->num_multiprocessors, static_cast<double>(found->memory_bytes) / (1 << 30));
  }
  return text;
}

}  // namespace colossus
