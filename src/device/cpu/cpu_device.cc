#include "device/cpu/cpu_device.h"

#include <fmt/format.h>

#include <cstring>
#include <map>

#include "base/platform.h"
#include "device/cpu/array_simd.h"
#include "device/cpu/cpu_executable.h"
#include "device/cpu/peak.h"
#include "device/cpu/simd.h"

namespace colossus {
namespace {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const CpuOptions& options)
      : reference_(options.reference),
        resources_(options.num_threads > 0 ? options.num_threads : num_usable_cores(), options.pin, options.trace) {}

  std::string description() const override {
    return fmt::format("{} {} of {}, {}", resources_.pool.num_threads(),
                       resources_.pool.num_threads() == 1 ? "thread" : "threads", cpu_model_name(),
                       reference_ ? "reference kernels" : isa_level_name(isa_level()));
  }

  Result<std::unique_ptr<Executable>> compile(Program program, const CompileOptions& options) override {
    ASSIGN_OR_RETURN(auto executable, CpuExecutable::make(std::move(program), resources_, reference_, options));
    return std::unique_ptr<Executable>(std::move(executable));
  }

  Result<std::shared_ptr<DeviceMemory>> allocate(int64_t num_bytes) override {
    ASSIGN_OR_RETURN(Buffer buffer, Buffer::allocate(num_bytes));
    return std::shared_ptr<DeviceMemory>(std::make_shared<CpuMemory>(std::move(buffer)));
  }

  Result<std::shared_ptr<DeviceMemory>> allocate_stored(int64_t num_bytes, StoredBytes bytes) override {
    ASSIGN_OR_RETURN(Buffer place, Buffer::reserve(num_bytes));
    return std::shared_ptr<DeviceMemory>(std::make_shared<CpuMemory>(std::move(place), std::move(bytes)));
  }

  void write(DeviceMemory& memory, int64_t offset_bytes, std::span<const std::byte> bytes) override {
    auto& cpu = static_cast<CpuMemory&>(memory);
    CHECK(offset_bytes >= 0 && offset_bytes + static_cast<int64_t>(bytes.size()) <= cpu.num_bytes());
    if (!bytes.empty()) std::memcpy(cpu.buffer.data() + offset_bytes, bytes.data(), bytes.size());
    ++cpu.version;
  }

  void read(const DeviceMemory& memory, int64_t offset_bytes, std::span<std::byte> into) override {
    const auto& cpu = static_cast<const CpuMemory&>(memory);
    CHECK(offset_bytes >= 0 && offset_bytes + static_cast<int64_t>(into.size()) <= cpu.num_bytes());
    if (!into.empty()) std::memcpy(into.data(), cpu.buffer.data() + offset_bytes, into.size());
  }

  void zero(DeviceMemory& memory) override {
    auto& cpu = static_cast<CpuMemory&>(memory);
    const Traced traced(trace(), kComputeLane, "zero");
    resources_.pool.parallel_for(cpu.num_bytes(), 1 << 16, [&](int64_t begin, int64_t end) {
      std::memset(cpu.buffer.data() + begin, 0, static_cast<size_t>(end - begin));
    });
    ++cpu.version;
  }

  void copy(DeviceMemory& into, const DeviceMemory& from) override {
    auto& to = static_cast<CpuMemory&>(into);
    const auto& source = static_cast<const CpuMemory&>(from);
    CHECK(to.num_bytes() == source.num_bytes());
    const Traced traced(trace(), kComputeLane, "copy");
    resources_.pool.parallel_for(to.num_bytes(), 1 << 16, [&](int64_t begin, int64_t end) {
      std::memcpy(to.buffer.data() + begin, source.buffer.data() + begin, static_cast<size_t>(end - begin));
    });
    ++to.version;
  }

  void add(DeviceMemory& into, const DeviceMemory& from, int64_t num_floats) override {
    auto& sum = static_cast<CpuMemory&>(into);
    const auto& term = static_cast<const CpuMemory&>(from);
    CHECK(num_floats * 4 <= sum.num_bytes() && num_floats * 4 <= term.num_bytes());
    const Traced traced(trace(), kComputeLane, "add");
    auto* to = reinterpret_cast<float*>(sum.buffer.data());
    const auto* add = reinterpret_cast<const float*>(term.buffer.data());
    const ArrayKernels& kernels = select_isa(array_kernels<Avx512>(), array_kernels<Avx2>());
    resources_.pool.parallel_for(num_floats, 1 << 14, [&](int64_t begin, int64_t end) {
      kernels.add(to + begin, add + begin, to + begin, end - begin);
    });
    ++sum.version;
  }

  Status synchronize() override {
    resources_.transfers.wait_for_all();
    return resources_.transfers.take_failure();
  }

  Trace* trace() const override { return resources_.trace; }

  DType preferred_compute_dtype() const override {
    return isa_level() == IsaLevel::kAvx512Bf16 ? DType::kBF16 : DType::kF32;
  }

  double peak_flops(DType dtype) override {
    const auto [entry, fresh] = peak_flops_.try_emplace(dtype, 0);
    if (fresh) entry->second = measure_peak_flops(resources_.pool.num_threads(), dtype);
    return entry->second;
  }

 private:
  const bool reference_;
  CpuResources resources_;
  std::map<DType, double> peak_flops_;
};

}  // namespace

Result<std::unique_ptr<Device>> make_cpu_device(const CpuOptions& options) {
  if (isa_level() == IsaLevel::kNone)
    return unavailable(
        fmt::format("the processor ({}) lacks AVX2 and FMA, which every kernel needs; use a machine from 2013 or later",
                    cpu_model_name()));
  return std::unique_ptr<Device>(std::make_unique<CpuDevice>(options));
}

}  // namespace colossus
