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

// sum = the x of all ranks. Floats are added in order of rank, whoever adds them: every rank has the same bits.
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
};

Status infer(const AllReduce& op, Inference& io);
Cost cost(const AllReduce& op, const OpShapes& shapes);

}  // namespace colossus
