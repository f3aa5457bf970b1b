// A tensor handed from one stage of the pipeline to its neighbour: two halves, in the programs of two ranks. On a link
// the n-th send and the n-th receive belong together.
#pragma once

#include <array>

#include "program/op_interface.h"
#include "tensor/placement.h"

namespace colossus {

struct TransferAttributes {
  RankGroup group;  // RankGroup::to(link): two ranks, of which 0 sends
  template <class V>
  void attributes(V& v) const {
    v("group", group);
  }
  Status check(const Inference& io) const;
};

// Done when the neighbour has taken it. A send from a stash does not keep the run waiting (LaneOrder::outlives_run),
// nor does a receive into one that nothing in its program reads.
struct Send : TransferAttributes {
  static constexpr std::string_view kName = "send";
  enum In { kX };
  static constexpr std::array kInputs = {
      Operand{"x"},
  };
  static constexpr std::array<Operand, 0> kOutputs = {};
};

// What comes is the x of the neighbour's send; its type is agreed on beforehand.
struct Receive : TransferAttributes {
  static constexpr std::string_view kName = "receive";
  static constexpr std::array<Operand, 0> kInputs = {};
  enum Out { kX };
  static constexpr std::array kOutputs = {
      Operand{"x"},
  };
  Shape shape;
  DType dtype = DType::kF32;
  template <class V>
  void attributes(V& v) const {
    TransferAttributes::attributes(v);
    v("shape", shape);
    v("dtype", dtype);
  }
};

Status infer(const Send& op, Inference& io);
Cost cost(const Send& op, const OpShapes& shapes);
Status infer(const Receive& op, Inference& io);
Cost cost(const Receive& op, const OpShapes& shapes);

}  // namespace colossus
