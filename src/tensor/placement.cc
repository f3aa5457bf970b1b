#include "tensor/placement.h"

#include <algorithm>

namespace colossus {
namespace {

// Elements of `slice` between neighbours along each dimension.
std::array<int64_t, Shape::kMaxRank> strides_of(const Slice& slice) {
  std::array<int64_t, Shape::kMaxRank> strides{};
  int64_t stride = 1;
  for (int d = slice.shape.rank() - 1; d >= 0; --d) {
    strides[static_cast<size_t>(d)] = stride;
    stride *= slice.shape[d];
  }
  return strides;
}

// The part of a piece's slice that the piece touches, as far as it is one box whose elements lie together in the slice;
// `offset` is where they begin.
struct TouchedBox {
  Slice slice;
  int64_t offset = 0;
};

TouchedBox touched_box(const Piece& piece) {
  TouchedBox box{.slice = piece.slice};
  const auto strides = strides_of(piece.slice);
  for (int d = 0; d < piece.slice.shape.rank(); ++d) {
    const auto i = static_cast<size_t>(d);
    const int64_t first = (piece.begin - box.offset) / strides[i], last = (piece.end - 1 - box.offset) / strides[i];
    box.slice.begin[i] += first;
    box.slice.shape = box.slice.shape.with(d, last - first + 1);
    box.offset += first * strides[i];
    if (first != last) break;
  }
  return box;
}

}  // namespace

std::string_view mesh_axis_name(MeshAxis axis) {
  switch (axis) {
    case MeshAxis::kPipeline: return "pipeline";
    case MeshAxis::kData: return "data";
    case MeshAxis::kShard: return "shard";
    case MeshAxis::kContext: return "context";
    case MeshAxis::kTensor: return "tensor";
    case MeshAxis::kExpertData: return "expert_data";
    case MeshAxis::kExpert: return "expert";
    case MeshAxis::kExpertTensor: return "expert_tensor";
  }
  return "?";
}

std::string RankGroup::name() const {
  std::string text;
  for (const MeshAxis axis : kMeshAxes)
    if (contains(axis)) text += (text.empty() ? "" : "+") + std::string(mesh_axis_name(axis));
  switch (link) {
    case Link::kNone: break;
    case Link::kFromPrevious: return text + ".from_previous";
    case Link::kToNext: return text + ".to_next";
    case Link::kFromNext: return text + ".from_next";
    case Link::kToPrevious: return text + ".to_previous";
    case Link::kEnds: return text + ".ends";
    case Link::kGradients: return text + ".gradients";
    case Link::kParameters: return text + ".parameters";
  }
  return text;
}

Placement Placement::with(OnAxis on_axis) const {
  CHECK(!find(on_axis.axis), "an axis does one thing to a tensor");
  Placement result = *this;
  result.axes_.push_back(on_axis);
  return result;
}

Placement Placement::without(MeshAxis axis) const {
  Placement result = *this;
  std::erase_if(result.axes_, [&](const OnAxis& on_axis) { return on_axis.axis == axis; });
  return result;
}

const Placement::OnAxis* Placement::find(MeshAxis axis) const {
  const auto found =
      std::find_if(axes_.begin(), axes_.end(), [&](const OnAxis& on_axis) { return on_axis.axis == axis; });
  return found == axes_.end() ? nullptr : &*found;
}

std::string Placement::to_string() const {
  if (axes_.empty()) return "copies";
  std::string text;
  for (const OnAxis& on_axis : axes_) {
    const std::string axis(mesh_axis_name(on_axis.axis));
    if (!text.empty()) text += " ";
    switch (on_axis.kind) {
      case Kind::kCut: text += "cut(" + std::to_string(on_axis.dimension) + ", " + axis + ")"; break;
      case Kind::kPartial: text += "partial(" + axis + ")"; break;
      case Kind::kOwned: text += "owned(" + std::to_string(on_axis.owner) + " of " + axis + ")"; break;
    }
  }
  return text;
}

Slice local_slice(const Shape& whole, const Placement& placement, const MeshPosition& position) {
  Slice slice{.shape = whole};
  for (const Placement::OnAxis& on_axis : placement.axes()) {
    const auto [coordinate, size] = position[on_axis.axis];
    if (on_axis.kind == Placement::Kind::kPartial) continue;
    if (on_axis.kind == Placement::Kind::kOwned) {
      if (coordinate != on_axis.owner)
        for (int d = 0; d < whole.rank(); ++d) slice.shape = slice.shape.with(d, 0);
      CHECK(whole.rank() > 0 || coordinate == on_axis.owner, "a scalar cannot be held by nobody");
      continue;
    }
    const int d = on_axis.dimension;
    CHECK(d >= 0 && d < whole.rank(), "a cut along a dimension that is not there");
    const int64_t length = slice.shape[d], begin = length * coordinate / size, end = length * (coordinate + 1) / size;
    slice.begin[static_cast<size_t>(d)] += begin;
    slice.shape = slice.shape.with(d, end - begin);
  }
  return slice;
}

Slice intersection(const Slice& a, const Slice& b) {
  CHECK(a.shape.rank() == b.shape.rank());
  Slice common{.shape = a.shape};
  for (int d = 0; d < a.shape.rank(); ++d) {
    const auto i = static_cast<size_t>(d);
    common.begin[i] = std::max(a.begin[i], b.begin[i]);
    const int64_t end = std::min(a.begin[i] + a.shape[d], b.begin[i] + b.shape[d]);
    common.shape = common.shape.with(d, std::max<int64_t>(0, end - common.begin[i]));
  }
  return common;
}

void for_each_common_run(const Slice& a, const Slice& b, FunctionRef<void(int64_t, int64_t, int64_t)> run) {
  const Slice common = intersection(a, b);
  if (common.empty()) return;
  const auto in_a = strides_of(a), in_b = strides_of(b);
  const int rank = common.shape.rank();
  int64_t offset_a = 0, offset_b = 0;
  for (size_t d = 0; d < static_cast<size_t>(rank); ++d) {
    offset_a += (common.begin[d] - a.begin[d]) * in_a[d];
    offset_b += (common.begin[d] - b.begin[d]) * in_b[d];
  }
  // Dimensions from `inner` on lie in one run: all but the first of them are whole in both.
  int inner = rank;
  int64_t count = 1;
  while (inner > 0) {
    --inner;
    count *= common.shape[inner];
    if (common.shape[inner] != a.shape[inner] || common.shape[inner] != b.shape[inner]) break;
  }
  std::array<int64_t, Shape::kMaxRank> at{};
  for (;;) {
    run(offset_a, offset_b, count);
    int d = inner - 1;
    for (; d >= 0; --d) {
      const auto i = static_cast<size_t>(d);
      offset_a += in_a[i];
      offset_b += in_b[i];
      if (++at[i] < common.shape[d]) break;
      offset_a -= at[i] * in_a[i];
      offset_b -= at[i] * in_b[i];
      at[i] = 0;
    }
    if (d < 0) return;
  }
}

Piece whole_piece(const Slice& slice) { return {.slice = slice, .end = slice.shape.num_elements()}; }
Piece whole_piece(const Shape& shape) { return whole_piece(Slice{.shape = shape}); }

void for_each_common_run(const Piece& a, const Piece& b, FunctionRef<void(int64_t, int64_t, int64_t)> run) {
  if (a.size() == 0 || b.size() == 0) return;
  const TouchedBox box_a = touched_box(a), box_b = touched_box(b);
  for_each_common_run(box_a.slice, box_b.slice, [&](int64_t in_box_a, int64_t in_box_b, int64_t count) {
    // The boxes' first and last rows may reach beyond the pieces.
    const int64_t in_a = box_a.offset + in_box_a - a.begin, in_b = box_b.offset + in_box_b - b.begin;
    const int64_t skip = std::max({int64_t{0}, -in_a, -in_b});
    const int64_t end = std::min({count, a.size() - in_a, b.size() - in_b});
    if (skip < end) run(in_a + skip, in_b + skip, end - skip);
  });
}

}  // namespace colossus
