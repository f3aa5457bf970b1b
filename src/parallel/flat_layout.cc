#include "parallel/flat_layout.h"

#include <algorithm>

#include "ops/grad_norm/grad_norm.h"

namespace colossus {
namespace {

constexpr int64_t kAlignment = 16;  // elements: a cache line of fp32

int64_t aligned(int64_t elements) { return (elements + kAlignment - 1) / kAlignment * kAlignment; }

// Elements that must stay together.
int64_t unit_of(const FlatTensor& tensor) {
  return tensor.whole_matrices ? tensor.shape[-2] * tensor.shape[-1] : kSumOfSquaresBlock;
}

// Buckets are cut in front of a unit: the nearest such place.
int64_t nearest_cut(const Bucket& bucket, int64_t wanted) {
  const auto after = std::ranges::upper_bound(bucket.tensors, wanted, {}, &FlatTensor::offset);
  const FlatTensor& tensor = *std::prev(after);
  const int64_t unit = unit_of(tensor), last = (std::max<int64_t>(tensor.size(), 1) - 1) / unit;
  const int64_t at = std::min((wanted - tensor.offset) / unit, last);
  const int64_t below = tensor.offset + at * unit;
  const int64_t above = at < last                       ? below + unit
                        : after == bucket.tensors.end() ? bucket.size
                                                        : after->offset;
  return wanted - below < above - wanted ? below : above;
}

}  // namespace

std::vector<ElementRange> Bucket::cut(int64_t count) const {
  std::vector<ElementRange> pieces;
  int64_t begin = 0;
  for (int64_t i = 1; i <= count; ++i) {
    const int64_t end = i == count ? size : std::max(begin, nearest_cut(*this, size * i / count));
    pieces.push_back({begin, end});
    begin = end;
  }
  return pieces;
}

ElementRange Bucket::part(size_t i, const ElementRange& range) const {
  const FlatTensor& tensor = tensors[i];
  const int64_t begin = std::clamp(range.begin, tensor.offset, tensor.end()),
                end = std::clamp(range.end, tensor.offset, tensor.end());
  return {begin - tensor.offset, end - tensor.offset};
}

std::vector<Bucket> make_buckets(std::span<const FlatTensor> tensors, int64_t bucket_elements) {
  std::vector<Bucket> buckets;
  for (const FlatTensor& tensor : tensors) {
    if (buckets.empty() || buckets.back().size >= bucket_elements || buckets.back().tensors.back().part != tensor.part)
      buckets.emplace_back();
    Bucket& bucket = buckets.back();
    bucket.tensors.push_back(tensor);
    bucket.tensors.back().offset = bucket.size;
    bucket.size = aligned(bucket.tensors.back().end());
  }
  return buckets;
}

}  // namespace colossus
