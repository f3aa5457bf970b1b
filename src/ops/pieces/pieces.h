// Flat buffers of which each rank of a group has a piece: how gradients are summed and parameters are handed back.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "base/function_ref.h"
#include "ops/collective/collective.h"
#include "program/op_interface.h"

namespace colossus {

class Builder;

// Of a flat buffer of the same size on all ranks, rank i has elements [bounds[2 i], bounds[2 i + 1]), which may be
// none.
struct PieceAttributes : CollectiveAttributes {
  std::vector<int64_t> bounds;

  int64_t begin(int64_t of_rank) const { return bounds[static_cast<size_t>(2 * of_rank)]; }
  int64_t end(int64_t of_rank) const { return bounds[static_cast<size_t>(2 * of_rank + 1)]; }
  int64_t size(int64_t of_rank) const { return end(of_rank) - begin(of_rank); }
  template <class V>
  void attributes(V& v) const {
    CollectiveAttributes::attributes(v);
    v("bounds", bounds);
  }
  // Pieces lie within a buffer of this size and do not overlap.
  Status check(const Inference& io, int64_t buffer_size) const;
};

// Every rank has some sums of the whole buffer (its parts of the gradient tree, docs/numerics.md) and gets its own
// piece of those of all others: the first half of a reduce-scatter. The order of the second half is the run's, see
// tree_sum, which reads the rank's own sums where they are: a copy of them beside what comes would cost two ranks a
// tenth of the whole exchange.
struct ExchangePieces : PieceAttributes {
  static constexpr std::string_view kName = "exchange_pieces";
  enum In { kSums };
  static constexpr std::array kInputs = {
      Operand{"sums", OperandKind::kVariadic},  // (N) f32 each, num_sums[rank] of them
  };
  enum Out { kBefore, kBehind };
  static constexpr std::array kOutputs = {
      // (sums, size of this rank's piece) f32, in order of rank: those of all ranks before this one, and behind it.
      // Either may have no rows.
      Operand{"before"},
      Operand{"behind"},
  };
  std::vector<int64_t> num_sums;  // of each rank; at least one

  int64_t num_before() const;  // sums of the ranks before this one
  int64_t num_behind() const;
  template <class V>
  void attributes(V& v) const {
    PieceAttributes::attributes(v);
    v("num_sums", num_sums);
  }
};

// The nodes are the rows of all `nodes`, one after the other. nodes[into] += nodes[from] for each pair of `additions`,
// in order; the first S nodes then are the sums.
struct TreeSum {
  static constexpr std::string_view kName = "tree_sum";
  enum In { kSum, kNodes };
  static constexpr std::array kInputs = {
      // (N), which is one sum, or (S, N) f32: overwritten. One sum may lie where any of the nodes does, several where
      // the first S nodes do, each in the place of its own.
      Operand{"sum", OperandKind::kMutated}, Operand{"nodes", OperandKind::kVariadic},  // (any, N) f32 each
  };
  static constexpr std::array<Operand, 0> kOutputs = {};
  std::vector<int64_t> additions;  // into, from, into, from, ... (parallel/leaf_shares.h)
  template <class V>
  void attributes(V& v) const {
    v("additions", additions);
  }
};

// The nodes of a tree_sum of what an exchange of `sums` gave, rank by rank: what came, and between it the rank's own
// piece of each of `sums`, where it is: view(sum, shape, offset), elements of it from `offset` on.
std::vector<TensorId> nodes_by_rank(const ExchangePieces& op, const std::vector<TensorId>& received,
                                    const std::vector<TensorId>& sums,
                                    FunctionRef<TensorId(TensorId sum, Shape shape, int64_t offset)> view);
// Writes the exchange as well.
std::vector<TensorId> exchanged_nodes(const ExchangePieces& op, const std::vector<TensorId>& sums, Builder& b);

// Each rank has its own piece of the buffer; afterwards all have all pieces. What lies in no piece stays.
struct GatherPieces : PieceAttributes {
  static constexpr std::string_view kName = "gather_pieces";
  enum In { kBuffer };
  static constexpr std::array kInputs = {
      Operand{"buffer", OperandKind::kMutated},  // (N) f32
  };
  static constexpr std::array<Operand, 0> kOutputs = {};
};

// The same out of place, where a rank keeps nothing but its piece: what the others have of a buffer lives as long as it
// is read. The pieces make up the whole buffer.
struct CollectPieces : PieceAttributes {
  static constexpr std::string_view kName = "collect_pieces";
  enum In { kPiece };
  static constexpr std::array kInputs = {
      Operand{"piece"},  // (size of this rank's piece) f32
  };
  enum Out { kWhole };
  static constexpr std::array kOutputs = {
      Operand{"whole"},  // (N) f32
  };
};

Status infer(const ExchangePieces& op, Inference& io);
Cost cost(const ExchangePieces& op, const OpShapes& shapes);
Status infer(const TreeSum& op, Inference& io);
Cost cost(const TreeSum& op, const OpShapes& shapes);
Status infer(const GatherPieces& op, Inference& io);
Cost cost(const GatherPieces& op, const OpShapes& shapes);
Status infer(const CollectPieces& op, Inference& io);
Cost cost(const CollectPieces& op, const OpShapes& shapes);

}  // namespace colossus
