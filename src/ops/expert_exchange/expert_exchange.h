// Rows of tokens, sorted by expert, to the ranks that have the experts, and back: the all-to-all of expert parallelism
// (Lepikhin et al. 2020), dropless.
//
// The group is E / E_local owners of experts, in order of their experts; `expert_tensor` ranks one after the other
// share each owner's experts, every one with a slice of their width. So a row goes to all ranks of its owner, and what
// comes back is a sum over them.
//
// Shapes are static, loads are not: the rows that arrive lie at the front of a tensor with room for all rows of all
// ranks, R * S. Balanced loads fill one part in E / E_local of it. What lies between the exchanges (the experts' inner
// activations) is R times as large in memory as the rank's own rows, whatever the load; products skip what is empty.
#pragma once

#include "ops/collective/collective.h"

namespace colossus {

struct ExpertExchangeAttributes : CollectiveAttributes {
  // The offsets say how long messages are (Collectives::on_host).
  static constexpr bool kReadsOnHost = true;
  int64_t expert_tensor = 1;
  template <class V>
  void attributes(V& v) const {
    CollectiveAttributes::attributes(v);
    v("expert_tensor", expert_tensor);
  }
};

// Sorted by expert, then by the rank they come from, then as they lay there.
struct RowsToExperts : ExpertExchangeAttributes {
  static constexpr std::string_view kName = "rows_to_experts";
  enum In { kRows, kAllOffsets };
  static constexpr std::array kInputs = {
      Operand{"rows"},         // (S, C), sorted by expert
      Operand{"all_offsets"},  // (R * (E + 1)) i32: of each rank, where each expert begins in its rows
  };
  enum Out { kArrived, kOffsets };
  static constexpr std::array kOutputs = {
      Operand{"arrived"},  // (R * S, C): rows from offsets[E_local] on are not written
      Operand{"offsets"},  // (E_local + 1) i32: where each of this rank's experts begins
  };
};

// Undoes it: the sum over the ranks that share an expert, in their order, for each row that this rank had sent.
struct RowsFromExperts : ExpertExchangeAttributes {
  static constexpr std::string_view kName = "rows_from_experts";
  enum In { kArrived, kAllOffsets };
  static constexpr std::array kInputs = {
      Operand{"arrived"},      // (R * S, C)
      Operand{"all_offsets"},  // (R * (E + 1)) i32
  };
  enum Out { kRows };
  static constexpr std::array kOutputs = {
      Operand{"rows"},  // (S, C)
  };
};

Status infer(const RowsToExperts& op, Inference& io);
Cost cost(const RowsToExperts& op, const OpShapes& shapes);
void adjoint(const RowsToExperts& op, Adjoint& a);
Status infer(const RowsFromExperts& op, Inference& io);
Cost cost(const RowsFromExperts& op, const OpShapes& shapes);
void adjoint(const RowsFromExperts& op, Adjoint& a);

}  // namespace colossus
