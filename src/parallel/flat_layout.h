// Where parameters lie in flat memory, and which piece of it each rank updates.
//
// Tensors lie one after another in buckets: a bucket is what ranks exchange in one operation. Each bucket is cut into
// one piece a rank, at places where a cut changes no bit:
//   AdamW: multiples of kSumOfSquaresBlock elements from the tensor's start, for the norm is a sum of such blocks
//   Muon: whole matrices
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tensor/shape.h"

namespace colossus {

struct FlatTensor {
  std::string name;
  Shape shape;
  bool whole_matrices = false;  // of the two last dimensions
  int64_t part = 0;             // of the model: tensors of two parts lie in two buckets
  int64_t offset = 0;           // in its bucket, in elements

  int64_t size() const { return shape.num_elements(); }
  int64_t end() const { return offset + size(); }
};

struct ElementRange {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const ElementRange&) const = default;
};

struct Bucket {
  std::vector<FlatTensor> tensors;
  int64_t size = 0;  // elements, with the gaps that aligning leaves

  // Cut into `count` pieces of nearly equal sizes, in order, each a range of elements; together they hold all tensors.
  std::vector<ElementRange> cut(int64_t count) const;
  // The part of tensors[i] that lies in a range, in elements from the tensor's start.
  ElementRange part(size_t i, const ElementRange& range) const;
};

// `tensors` in their order (offsets are filled in), a new bucket as soon as one has bucket_elements or more, and where
// another part begins.
std::vector<Bucket> make_buckets(std::span<const FlatTensor> tensors, int64_t bucket_elements);

}  // namespace colossus
