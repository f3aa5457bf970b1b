#include "checkpoint/coverage.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace colossus {
namespace {

using Coordinates = std::array<int64_t, Shape::kMaxRank>;

struct Box {
  Coordinates begin{}, end{};
  size_t piece = 0;
};

// Cuts elements [begin, end) of a slice into at most two boxes for each dimension.
class BoxCutter {
 public:
  BoxCutter(const Slice& slice, size_t piece, std::vector<Box>& boxes) : slice_(slice), boxes_(boxes) {
    box_.piece = piece;
    for (int d = slice.shape.rank() - 1, rank = d + 1; d >= 0; --d)
      strides_[static_cast<size_t>(d)] = d == rank - 1 ? 1 : strides_[static_cast<size_t>(d + 1)] * slice.shape[d + 1];
  }

  // Of what lies below the coordinates that box_ has for the dimensions before `d`.
  void cut(int d, int64_t begin, int64_t end) {
    if (begin == end) return;
    if (d == slice_.shape.rank()) {
      boxes_.push_back(box_);
      return;
    }
    const int64_t stride = strides_[static_cast<size_t>(d)];
    const int64_t first = begin / stride, last = (end - 1) / stride;
    if (first == last && (begin != first * stride || end != (first + 1) * stride)) {
      set(d, first, first + 1);
      return cut(d + 1, begin - first * stride, end - first * stride);
    }
    const int64_t first_whole = (begin + stride - 1) / stride, end_whole = end / stride;
    if (first < first_whole) {
      set(d, first, first_whole);
      cut(d + 1, begin - first * stride, stride);
    }
    if (first_whole < end_whole) {
      set(d, first_whole, end_whole);
      for (int inner = d + 1; inner < slice_.shape.rank(); ++inner) set(inner, 0, slice_.shape[inner]);
      boxes_.push_back(box_);
    }
    if (end_whole * stride < end) {
      set(d, end_whole, end_whole + 1);
      cut(d + 1, 0, end - end_whole * stride);
    }
  }

 private:
  void set(int d, int64_t begin, int64_t end) {
    const auto i = static_cast<size_t>(d);
    box_.begin[i] = slice_.begin[i] + begin;
    box_.end[i] = slice_.begin[i] + end;
  }

  const Slice& slice_;
  Coordinates strides_{};
  Box box_;
  std::vector<Box>& boxes_;
};

// Goes along a dimension from one place where boxes begin or end to the next; between two such places the same boxes
// are met, and these must cover the other dimensions exactly once.
class Sweep {
 public:
  explicit Sweep(const Shape& whole) : whole_(whole) {}

  // False at the first element that is not covered once.
  bool covers(int d, std::vector<const Box*> boxes) {
    if (d == whole_.rank()) {
      holders_ = std::move(boxes);
      return holders_.size() == 1;
    }
    const auto i = static_cast<size_t>(d);
    std::sort(boxes.begin(), boxes.end(), [i](const Box* a, const Box* b) { return a->begin[i] < b->begin[i]; });
    std::vector<const Box*> met;
    size_t next = 0;
    for (int64_t at = 0, until = 0; at < whole_[d]; at = until) {
      std::erase_if(met, [&](const Box* box) { return box->end[i] <= at; });
      while (next < boxes.size() && boxes[next]->begin[i] <= at) met.push_back(boxes[next++]);
      until = next < boxes.size() ? boxes[next]->begin[i] : whole_[d];
      for (const Box* box : met) until = std::min(until, box->end[i]);
      element_[i] = at;
      if (!covers(d + 1, met)) return false;
    }
    return true;
  }

  CoverageFault fault() const {
    CoverageFault fault{.element = {element_.begin(), element_.begin() + whole_.rank()}, .holders = {}};
    for (const Box* box : holders_) fault.holders.push_back(box->piece);
    std::sort(fault.holders.begin(), fault.holders.end());
    return fault;
  }

 private:
  const Shape& whole_;
  Coordinates element_{};
  std::vector<const Box*> holders_;
};

}  // namespace

Status check_shape(const Shape& shape) {
  // Without the zeros: strides are products of some of the sizes only. 8: the largest element.
  int64_t bytes = 8;
  for (const int64_t size : shape.sizes())
    if (size < 0 || __builtin_mul_overflow(bytes, std::max<int64_t>(size, 1), &bytes))
      return invalid(fmt::format("{} is no shape that a file can hold", shape.to_string()));
  return ok_status();
}

Status check_piece(const Shape& whole, const Piece& piece) {
  const Shape& shape = piece.slice.shape;
  bool inside = shape.rank() == whole.rank();
  for (int d = 0; inside && d < whole.rank(); ++d) {
    const int64_t begin = piece.slice.begin[static_cast<size_t>(d)];
    inside = begin >= 0 && shape[d] >= 0 && shape[d] <= whole[d] && begin <= whole[d] - shape[d];
  }
  if (!inside)
    return invalid(fmt::format("a slice {} at [{}] does not lie within {}", shape.to_string(),
                               fmt::join(std::span(piece.slice.begin).first(static_cast<size_t>(shape.rank())), ", "),
                               whole.to_string()));
  if (piece.begin < 0 || piece.end < piece.begin || piece.end > shape.num_elements())
    return invalid(
        fmt::format("elements {} to {} do not lie within a slice of {}", piece.begin, piece.end, shape.num_elements()));
  return ok_status();
}

std::optional<CoverageFault> find_coverage_fault(const Shape& whole, std::span<const Piece> pieces) {
  if (whole.num_elements() == 0) return std::nullopt;
  std::vector<Box> boxes;
  for (size_t i = 0; i < pieces.size(); ++i)
    BoxCutter(pieces[i].slice, i, boxes).cut(0, pieces[i].begin, pieces[i].end);
  std::vector<const Box*> pointers;
  for (const Box& box : boxes) pointers.push_back(&box);
  Sweep sweep(whole);
  if (sweep.covers(0, std::move(pointers))) return std::nullopt;
  return sweep.fault();
}

}  // namespace colossus
