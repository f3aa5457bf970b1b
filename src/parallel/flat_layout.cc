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

}  // namespace

std::vector<ElementRange> Bucket::cut(int64_t count) const {
  // Where the bucket may be cut: in front of a unit.
  std::vector<int64_t> places;
  for (const FlatTensor& tensor : tensors)
    for (int64_t at = 0; at < std::max<int64_t>(tensor.size(), 1); at += unit_of(tensor))
      places.push_back(tensor.offset + at);
  places.push_back(size);
  std::vector<ElementRange> pieces;
  int64_t begin = 0;
  for (int64_t i = 1; i <= count; ++i) {
    const int64_t wanted = size * i / count;
    auto place = std::lower_bound(places.begin(), places.end(), wanted);
    if (place != places.begin() && wanted - *(place - 1) < *place - wanted) --place;
    const int64_t end = i == count ? size : std::max(begin, *place);
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
