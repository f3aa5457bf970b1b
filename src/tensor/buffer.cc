#include "tensor/buffer.h"

#include <sys/mman.h>

#include <string>
#include <utility>

#include "base/platform.h"

namespace colossus {
namespace {
constexpr int64_t kHugePage = 2 << 20;

Status does_not_fit(int64_t num_bytes) {
  return exhausted("a buffer of " + std::to_string(num_bytes) + " bytes does not fit the " +
                   std::to_string(total_memory_bytes()) +
                   " bytes of this machine; use a smaller batch, more recomputation or a smaller model");
}
}  // namespace

Result<Buffer> Buffer::allocate(int64_t num_bytes) {
  ASSIGN_OR_RETURN(Buffer buffer, reserve(num_bytes));
  RETURN_IF_ERROR(buffer.commit());
  return buffer;
}

Result<Buffer> Buffer::reserve(int64_t num_bytes) {
  CHECK(num_bytes >= 0);
  Buffer buffer;
  if (num_bytes == 0) return buffer;
  void* data = mmap(nullptr, static_cast<size_t>(num_bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return does_not_fit(num_bytes);
  buffer.data_ = static_cast<std::byte*>(data);
  buffer.num_bytes_ = num_bytes;
  return buffer;
}

Status Buffer::commit() {
  if (num_bytes_ == 0) return ok_status();
  const auto size = static_cast<size_t>(num_bytes_);
  if (num_bytes_ > total_memory_bytes() || mprotect(data_, size, PROT_READ | PROT_WRITE) != 0)
    return does_not_fit(num_bytes_);
  if (num_bytes_ >= kHugePage) madvise(data_, size, MADV_HUGEPAGE);
  return ok_status();
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
