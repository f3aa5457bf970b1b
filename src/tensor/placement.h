// How a tensor is cut over a mesh of ranks, and which part of it a rank holds. Shared by what writes per-rank programs,
// what stores checkpoints and what runs either.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "base/function_ref.h"
#include "tensor/shape.h"

namespace colossus {

// Along which ranks share the work of a run (parallel/mesh.h says how they lie).
enum class MeshAxis : uint8_t {
  kPipeline,      // layers
  kData,          // sequences; parameters and optimizer state are copies
  kShard,         // sequences; optimizer state, gradients and parameters are cut, as zero_stage says
  kContext,       // tokens of a sequence
  kTensor,        // heads, feed-forward width; between their products, tokens
  kExpertData,    // ranks with the same experts
  kExpert,        // experts
  kExpertTensor,  // each expert's width
};
inline constexpr std::array kMeshAxes = {MeshAxis::kPipeline, MeshAxis::kData,        MeshAxis::kShard,
                                         MeshAxis::kContext,  MeshAxis::kTensor,      MeshAxis::kExpertData,
                                         MeshAxis::kExpert,   MeshAxis::kExpertTensor};
std::string_view mesh_axis_name(MeshAxis axis);

// Which ranks an operation talks to: those that differ from this one along `axes` alone, or some stages of the
// pipeline. Every group is a lane of its own: its operations run in program order, beside all others.
enum class Link : uint8_t {  // of stages in the pipeline, but for the last two
  kNone,
  kFromPrevious,
  kToNext,
  kFromNext,
  kToPrevious,
  kEnds,  // the first and the last, with all their ranks along the other axes: they share a tied embedding
  // Of no stages: the ranks along the axes, on a lane that is no other's.
  kGradients,   // sums of gradients, exchanged beside the backward pass
  kParameters,  // gathered ahead of their use
};
struct RankGroup {
  uint16_t axes = 0;  // a bit for each MeshAxis
  Link link = Link::kNone;

  static constexpr RankGroup along(std::initializer_list<MeshAxis> axes) {
    RankGroup group;
    for (const MeshAxis axis : axes) group = group.with(axis);
    return group;
  }
  // A group of two: the one that sends is rank 0.
  static constexpr RankGroup to(Link link) {
    RankGroup group = along({MeshAxis::kPipeline});
    group.link = link;
    return group;
  }
  constexpr RankGroup with(MeshAxis axis) const {
    RankGroup group = *this;
    group.axes = static_cast<uint16_t>(group.axes | 1U << static_cast<unsigned>(axis));
    return group;
  }
  constexpr bool contains(MeshAxis axis) const { return (axes >> static_cast<unsigned>(axis) & 1) != 0; }
  // Two stages next to one another.
  constexpr bool is_of_neighbours() const { return link >= Link::kFromPrevious && link <= Link::kToPrevious; }
  std::string name() const;  // "data+shard", "pipeline.to_next"
  auto operator<=>(const RankGroup&) const = default;
};

// Where one rank stands: its coordinate on every axis, and the axes' sizes.
struct MeshPosition {
  struct OnAxis {
    int64_t coordinate = 0;
    int64_t size = 1;
  };
  std::array<OnAxis, kMeshAxes.size()> axes;

  OnAxis& operator[](MeshAxis axis) { return axes[static_cast<size_t>(axis)]; }
  const OnAxis& operator[](MeshAxis axis) const { return axes[static_cast<size_t>(axis)]; }
};

// What each axis does to a tensor; axes that are not mentioned hold copies.
class Placement {
 public:
  enum class Kind : uint8_t {
    kCut,      // in nearly equal runs along a dimension: rank i of n holds [size * i / n, size * (i + 1) / n)
    kPartial,  // every rank holds a term of a sum
    kOwned,    // one rank holds it whole, the others nothing
  };
  struct OnAxis {
    MeshAxis axis;
    Kind kind;
    int dimension = 0;  // of kCut
    int64_t owner = 0;  // of kOwned: a coordinate
    bool operator==(const OnAxis&) const = default;
  };

  Placement() = default;  // copies everywhere

  // Each axis once. Several axes may cut one dimension: a later one cuts what the earlier ones left.
  Placement cut(MeshAxis axis, int dimension) const {
    return with({.axis = axis, .kind = Kind::kCut, .dimension = dimension});
  }
  Placement partial(MeshAxis axis) const { return with({.axis = axis, .kind = Kind::kPartial}); }
  Placement owned(MeshAxis axis, int64_t owner) const {
    return with({.axis = axis, .kind = Kind::kOwned, .owner = owner});
  }
  Placement without(MeshAxis axis) const;  // copies along it

  const std::vector<OnAxis>& axes() const { return axes_; }
  const OnAxis* find(MeshAxis axis) const;
  std::string to_string() const;  // "cut(0, tensor) partial(data)"; "copies"
  bool operator==(const Placement&) const = default;

 private:
  Placement with(OnAxis on_axis) const;

  std::vector<OnAxis> axes_;
};

// A box within a tensor.
struct Slice {
  std::array<int64_t, Shape::kMaxRank> begin{};
  Shape shape;

  bool empty() const { return shape.num_elements() == 0; }
  bool operator==(const Slice&) const = default;
};

// What the rank at `position` holds of a tensor of this (whole) shape.
Slice local_slice(const Shape& whole, const Placement& placement, const MeshPosition& position);

// What both hold; empty if nothing.
Slice intersection(const Slice& a, const Slice& b);

// Calls run(offset in a, offset in b, count), in elements, for the longest runs of what a and b both hold, where each
// is stored row by row on its own; both offsets rise from call to call. So data moves between any two layouts, or a
// file (the slice that is the whole tensor) and any layout, in few large pieces.
void for_each_common_run(const Slice& a, const Slice& b, FunctionRef<void(int64_t, int64_t, int64_t)> run);

// Elements [begin, end) of a slice stored row by row: a rank's share where a slice is cut further with no regard to
// its rows.
struct Piece {
  Slice slice;
  int64_t begin = 0, end = 0;

  int64_t size() const { return end - begin; }
  bool operator==(const Piece&) const = default;
};

Piece whole_piece(const Slice& slice);
Piece whole_piece(const Shape& shape);

// The same for pieces; offsets count from their beginnings. Looks at no more rows than both pieces touch.
void for_each_common_run(const Piece& a, const Piece& b, FunctionRef<void(int64_t, int64_t, int64_t)> run);

}  // namespace colossus
