// Do the pieces of a tensor hold every element of it exactly once?
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/status.h"
#include "tensor/placement.h"

namespace colossus {

// A shape whose elements can be counted, whatever order its sizes are multiplied in, and are no more than fit a file.
Status check_shape(const Shape& shape);

// The slice lies within a tensor of this shape, the range within the slice.
Status check_piece(const Shape& whole, const Piece& piece);

// An element that is not held once.
struct CoverageFault {
  std::vector<int64_t> element;  // its coordinates; the first such one, row by row
  std::vector<size_t> holders;   // which pieces hold it: none, or several
};

// Nothing when all is well. The pieces are such as check_piece lets through. Time and memory depend on their number,
// not on sizes: about n log n for n pieces cut along one dimension after the other, at worst n^2.
std::optional<CoverageFault> find_coverage_fault(const Shape& whole, std::span<const Piece> pieces);

}  // namespace colossus
