#include <cuda_runtime.h>
#include <fmt/format.h>

#include <mutex>

#include "device/cuda/gpu.h"
#include "device/cuda/native/launch_kernel.h"

namespace colossus::gpu {
namespace {

std::mutex mutex;  // of the two below: groups of ranks meet in threads of their own
cudaError_t first_error = cudaSuccess;
const char* first_error_call = "";

void check(cudaError_t error, const char* call) {
  const std::lock_guard lock(mutex);
  if (error == cudaSuccess || first_error != cudaSuccess) return;
  first_error = error;
  first_error_call = call;
}

Status status_of(cudaError_t error, const char* call) {
  check(error, call);
  const std::lock_guard lock(mutex);
  if (first_error == cudaSuccess) return ok_status();
  const std::string message =
      fmt::format("{}: {} ({})", first_error_call, cudaGetErrorString(first_error), cudaGetErrorName(first_error));
  if (first_error == cudaErrorMemoryAllocation) {
    first_error = cudaSuccess;  // the only one that leaves the device as it was
    return exhausted(message);
  }
  return unavailable(message);
}

cudaStream_t native(Stream stream) { return reinterpret_cast<cudaStream_t>(stream); }
cudaEvent_t native(Event event) { return reinterpret_cast<cudaEvent_t>(event); }
cudaGraphExec_t native(Graph graph) { return reinterpret_cast<cudaGraphExec_t>(graph); }

}  // namespace

Result<int> num_gpus() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {
    int driver = 0;
    cudaDriverGetVersion(&driver);
    if (driver == 0) return unavailable("no NVIDIA driver is loaded here; install it, or run on a machine with a GPU");
    return unavailable(
        fmt::format("the NVIDIA driver knows CUDA {}.{}; this program needs {}.{}: install a newer driver",
                    driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10));
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
    return unavailable(
        "the NVIDIA driver shows this process no GPU; is CUDA_VISIBLE_DEVICES empty, or /dev/nvidia0 "
        "missing in the container?");
  if (error != cudaSuccess) return unavailable(fmt::format("cudaGetDeviceCount: {}", cudaGetErrorString(error)));
  return count;
}

Result<Properties> open(int index) {
  ASSIGN_OR_RETURN(const int count, num_gpus());
  if (index < 0 || index >= count)
    return not_found(fmt::format("GPU {}: this process sees {}, numbered from 0", index, count));
  RETURN_IF_ERROR(status_of(cudaSetDevice(index), "cudaSetDevice"));
  cudaDeviceProp found;
  RETURN_IF_ERROR(status_of(cudaGetDeviceProperties(&found, index), "cudaGetDeviceProperties"));
  if (found.major != 9)
    return unavailable(
        fmt::format("GPU {} ({}) has compute capability {}.{}; the kernels are written for 9.0: H100, "
                    "H200, GH200",
                    index, found.name, found.major, found.minor));
  return Properties{.name = found.name,
                    .major = found.major,
                    .minor = found.minor,
                    .num_multiprocessors = found.multiProcessorCount,
                    .memory_bytes = static_cast<int64_t>(found.totalGlobalMem)};
}

Result<std::byte*> allocate(int64_t num_bytes) {
  void* memory = nullptr;
  const size_t size = num_bytes > 0 ? static_cast<size_t>(num_bytes) : 1;
  RETURN_IF_ERROR(status_of(cudaMalloc(&memory, size), "cudaMalloc"));
  return static_cast<std::byte*>(memory);
}
void release(std::byte* device) { check(cudaFree(device), "cudaFree"); }

Result<std::byte*> allocate_pinned(int64_t num_bytes) {
  void* memory = nullptr;
  const size_t size = num_bytes > 0 ? static_cast<size_t>(num_bytes) : 1;
  RETURN_IF_ERROR(status_of(cudaMallocHost(&memory, size), "cudaMallocHost"));
  return static_cast<std::byte*>(memory);
}
void release_pinned(std::byte* host) { check(cudaFreeHost(host), "cudaFreeHost"); }

Result<Stream> make_stream() {
  cudaStream_t stream;
  RETURN_IF_ERROR(status_of(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"));
  return reinterpret_cast<Stream>(stream);
}
void destroy(Stream stream) { check(cudaStreamDestroy(native(stream)), "cudaStreamDestroy"); }

Result<Event> make_event(bool timed) {
  cudaEvent_t event;
  const unsigned flags = timed ? cudaEventDefault : cudaEventDisableTiming;
  RETURN_IF_ERROR(status_of(cudaEventCreateWithFlags(&event, flags), "cudaEventCreateWithFlags"));
  return reinterpret_cast<Event>(event);
}
void destroy(Event event) { check(cudaEventDestroy(native(event)), "cudaEventDestroy"); }

void copy_to_device(Stream stream, std::byte* device, const std::byte* pinned, int64_t num_bytes) {
  check(cudaMemcpyAsync(device, pinned, static_cast<size_t>(num_bytes), cudaMemcpyHostToDevice, native(stream)),
        "cudaMemcpyAsync to the device");
}
void copy_to_host(Stream stream, std::byte* pinned, const std::byte* device, int64_t num_bytes) {
  check(cudaMemcpyAsync(pinned, device, static_cast<size_t>(num_bytes), cudaMemcpyDeviceToHost, native(stream)),
        "cudaMemcpyAsync to the host");
}
void copy_on_device(Stream stream, std::byte* to, const std::byte* from, int64_t num_bytes) {
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(num_bytes), cudaMemcpyDeviceToDevice, native(stream)),
        "cudaMemcpyAsync on the device");
}
void copy_rows_on_device(Stream stream, std::byte* to, int64_t to_step, const std::byte* from, int64_t from_step,
                         int64_t row_bytes, int64_t num_rows) {
  if (row_bytes == 0 || num_rows == 0) return;
  check(cudaMemcpy2DAsync(to, static_cast<size_t>(to_step), from, static_cast<size_t>(from_step),
                          static_cast<size_t>(row_bytes), static_cast<size_t>(num_rows), cudaMemcpyDeviceToDevice,
                          native(stream)),
        "cudaMemcpy2DAsync on the device");
}
void set_zero(Stream stream, std::byte* device, int64_t num_bytes) {
  check(cudaMemsetAsync(device, 0, static_cast<size_t>(num_bytes), native(stream)), "cudaMemsetAsync");
}

void record(Stream stream, Event event) { check(cudaEventRecord(native(event), native(stream)), "cudaEventRecord"); }
void wait(Stream stream, Event event) {
  check(cudaStreamWaitEvent(native(stream), native(event), 0), "cudaStreamWaitEvent");
}
Status synchronize(Stream stream) { return status_of(cudaStreamSynchronize(native(stream)), "cudaStreamSynchronize"); }
Status synchronize(Event event) { return status_of(cudaEventSynchronize(native(event)), "cudaEventSynchronize"); }

Result<bool> is_past(Event event) {
  const cudaError_t found = cudaEventQuery(native(event));
  if (found == cudaErrorNotReady) return false;
  RETURN_IF_ERROR(status_of(found, "cudaEventQuery"));
  return true;
}

double elapsed_seconds(Event from, Event to) {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, native(from), native(to)), "cudaEventElapsedTime");
  return milliseconds * 1e-3;
}

// Relaxed: cuBLASLt and cuDNN may allocate on their first call.
void begin_capture(Stream stream) {
  check(cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
}

Result<Graph> end_capture(Stream stream) {
  cudaGraph_t captured = nullptr;
  RETURN_IF_ERROR(status_of(cudaStreamEndCapture(native(stream), &captured), "cudaStreamEndCapture"));
  cudaGraphExec_t graph = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&graph, captured, 0);
  check(cudaGraphDestroy(captured), "cudaGraphDestroy");
  RETURN_IF_ERROR(status_of(error, "cudaGraphInstantiate"));
  return reinterpret_cast<Graph>(graph);
}
void launch(Stream stream, Graph graph) { check(cudaGraphLaunch(native(graph), native(stream)), "cudaGraphLaunch"); }
void destroy(Graph graph) { check(cudaGraphExecDestroy(native(graph)), "cudaGraphExecDestroy"); }

Status last_error() { return status_of(cudaPeekAtLastError(), "a kernel's launch"); }

void launch_kernel(const Launch& where, const void* kernel, void** arguments) {
  constexpr int64_t kSharedBytesWithoutAsking = 48 << 10;
  if (where.shared_bytes > kSharedBytesWithoutAsking)
    check(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(where.shared_bytes)),
        "cudaFuncSetAttribute");
  const dim3 grid(where.grid.x, where.grid.y, where.grid.z), block(where.block.x, where.block.y, where.block.z);
  check(cudaLaunchKernel(kernel, grid, block, arguments, static_cast<size_t>(where.shared_bytes), native(where.stream)),
        "cudaLaunchKernel");
}

}  // namespace colossus::gpu
