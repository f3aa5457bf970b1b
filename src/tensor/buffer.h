// Owned, page-aligned, zeroed memory for tensors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "tensor/view.h"

namespace colossus {

class Buffer {
 public:
  Buffer() = default;
  // Fails with kExhausted (asked, available) instead of being killed later; large buffers ask for huge pages.
  static Result<Buffer> allocate(int64_t num_bytes);
  // A place without memory: whoever reads or writes there before commit() is killed.
  static Result<Buffer> reserve(int64_t num_bytes);
  // Gives a reserved place its memory. Fails as allocate() does.
  Status commit();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  std::byte* data() const { return data_; }
  int64_t num_bytes() const { return num_bytes_; }
  View view(DType dtype, const Shape& shape, int64_t offset_bytes = 0) const {
    CHECK(offset_bytes + shape.num_elements() * dtype_bytes(dtype) <= num_bytes_);
    return {data_ + offset_bytes, shape, dtype};
  }

 private:
  std::byte* data_ = nullptr;
  int64_t num_bytes_ = 0;
};

}  // namespace colossus
