// The sizes of a tensor's dimensions, outermost first. Rank 0 is a scalar.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "base/check.h"

namespace colossus {

class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const int64_t> sizes) : rank_(static_cast<int>(sizes.size())) {
    CHECK(rank_ <= kMaxRank);
    for (int i = 0; i < rank_; ++i) sizes_[static_cast<size_t>(i)] = sizes[static_cast<size_t>(i)];
  }

  int rank() const { return rank_; }
  // Negative i counts from the end: shape[-1] is the innermost size.
  int64_t operator[](int i) const {
    const int at = i < 0 ? rank_ + i : i;
    DCHECK(at >= 0 && at < rank_);
    return sizes_[static_cast<size_t>(at)];
  }
  int64_t num_elements() const {
    int64_t count = 1;
    for (int i = 0; i < rank_; ++i) count *= sizes_[static_cast<size_t>(i)];
    return count;
  }
  // Elements in all but the innermost dimension: (B, T, C) has B*T rows. A scalar has one row.
  int64_t num_rows() const {
    return rank_ == 0
               ? 1
               : num_elements() / (sizes_[static_cast<size_t>(rank_ - 1)] ? sizes_[static_cast<size_t>(rank_ - 1)] : 1);
  }
  int64_t row_size() const { return rank_ == 0 ? 1 : sizes_[static_cast<size_t>(rank_ - 1)]; }
  Shape with(int i, int64_t size) const {
    Shape result = *this;
    result.sizes_[static_cast<size_t>(i < 0 ? rank_ + i : i)] = size;
    return result;
  }
  // (E, K, N) gives (E, N, K).
  Shape transposed() const {
    DCHECK(rank_ >= 2);
    return with(-1, (*this)[-2]).with(-2, (*this)[-1]);
  }
  // (B, T, C) gives (B, T). Not of a scalar.
  Shape without_last() const {
    DCHECK(rank_ >= 1);
    return Shape(sizes().first(static_cast<size_t>(rank_ - 1)));
  }
  std::span<const int64_t> sizes() const { return {sizes_.data(), static_cast<size_t>(rank_)}; }
  std::string to_string() const;  // "[4, 1024, 768]"

  bool operator==(const Shape& other) const {
    if (rank_ != other.rank_) return false;
    for (int i = 0; i < rank_; ++i)
      if (sizes_[static_cast<size_t>(i)] != other.sizes_[static_cast<size_t>(i)]) return false;
    return true;
  }

 private:
  std::array<int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};

}  // namespace colossus
