// What all ranks of a group do together with their tensors.
#pragma once

#include <array>

#include "program/op_interface.h"
#include "tensor/placement.h"

namespace colossus {

struct CollectiveAttributes {
  RankGroup group;
  int64_t ranks = 1;  // in the group
  int64_t rank = 0;   // this one
  template <class V>
  void attributes(V& v) const {
    v("group", group);
    v("ranks", ranks);
    v("rank", rank);
  }
  Status check(const Inference& io) const;
};

// What the rank at this position needs to know of its group.
CollectiveAttributes among(RankGroup group, const MeshPosition& position);

// The same with a dimension of the tensor. Folded, rank i of n has pieces i and 2n - 1 - i of 2n: of tokens that see
// those before them, an even share of the work.
struct CutAttributes : CollectiveAttributes {
  int64_t dimension = 0;
  bool folded = false;
  template <class V>
  void attributes(V& v) const {
    CollectiveAttributes::attributes(v);
    v("dimension", dimension);
    v("folded", folded);
  }
};

// sum = the x of all ranks. Floats are added in order of rank, whoever adds them: every rank has the same bits.
// For losses, and the sums they are made of: all ranks compute the same from the sum, and the gradient they find for it
// is the gradient of each x. (Where ranks do different work with it, gradients would have to be summed as well.)
struct AllReduce : CollectiveAttributes {
  static constexpr std::string_view kName = "all_reduce";
  enum In { kX };
  static constexpr std::array kInputs = {
      Operand{"x"},  // f32, f64, bf16 (added in f32) or i64; the same shape on all ranks
  };
  enum Out { kSum };
  static constexpr std::array kOutputs = {
      Operand{"sum"},  // like x
  };
  // Up to here everyone sends everything to everyone: one round trip instead of two.
  static constexpr int64_t kOneRoundBytes = 16384;
  bool in_one_round(int64_t num_bytes) const { return num_bytes * ranks <= kOneRoundBytes; }
};

// whole = the x of all ranks along `dimension`, rank 0 first or folded.
struct AllGather : CutAttributes {
  static constexpr std::string_view kName = "all_gather";
  enum In { kX };
  static constexpr std::array kInputs = {
      Operand{"x"},  // (..., N, ...), N along `dimension`; any type
  };
  enum Out { kWhole };
  static constexpr std::array kOutputs = {
      Operand{"whole"},  // (..., ranks * N, ...)
  };
};

// part = of the sum of all ranks' x the piece of this rank along `dimension`. Terms are added in order of rank.
struct ReduceScatter : CutAttributes {
  static constexpr std::string_view kName = "reduce_scatter";
  enum In { kX };
  static constexpr std::array kInputs = {
      Operand{"x"},  // (..., ranks * N, ...): f32, f64, bf16 (added in f32) or i64
  };
  enum Out { kPart };
  static constexpr std::array kOutputs = {
      Operand{"part"},  // (..., N, ...)
  };
};

Status infer(const AllReduce& op, Inference& io);
Cost cost(const AllReduce& op, const OpShapes& shapes);
void adjoint(const AllReduce& op, Adjoint& a);
Status infer(const AllGather& op, Inference& io);
Cost cost(const AllGather& op, const OpShapes& shapes);
void adjoint(const AllGather& op, Adjoint& a);
Status infer(const ReduceScatter& op, Inference& io);
Cost cost(const ReduceScatter& op, const OpShapes& shapes);
void adjoint(const ReduceScatter& op, Adjoint& a);

}  // namespace colossus
