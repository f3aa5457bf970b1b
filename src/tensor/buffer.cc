#include "tensor/buffer.h"

#include <sys/mman.h>

#include <string>
#include <utility>

#include "base/platform.h"

namespace colossus {
namespace {
constexpr int64_t kHugePage = 2 << 20;
}

Result<Buffer> Buffer::allocate(int64_t num_bytes) {
  CHECK(num_bytes >= 0);
  Buffer buffer;
  if (num_bytes == 0) return buffer;
  const auto failed = [&] {
    return exhausted("a buffer of " + std::to_string(num_bytes) + " bytes does not fit the " +
                     std::to_string(total_memory_bytes()) +
                     " bytes of this machine; use a smaller batch, more recomputation or a smaller model");
  };
  if (num_bytes > total_memory_bytes()) return failed();
  void* data =
      mmap(nullptr, static_cast<size_t>(num_bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return failed();
  if (num_bytes >= kHugePage) madvise(data, static_cast<size_t>(num_bytes), MADV_HUGEPAGE);
  buffer.data_ = static_cast<std::byte*>(data);
  buffer.num_bytes_ = num_bytes;
  return buffer;
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), num_bytes_(std::exchange(other.num_bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(num_bytes_, other.num_bytes_);
  return *this;
}

Buffer::~Buffer() {
  if (data_) munmap(data_, static_cast<size_t>(num_bytes_));
}

}  // namespace colossus
