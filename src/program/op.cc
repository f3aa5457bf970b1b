#include "program/op.h"

namespace colossus {

std::string_view op_name(const Op& op) {
  return std::visit([](const auto& o) { return o.kName; }, op);
}

std::span<const Operand> input_operands(const Op& op) {
  return std::visit([](const auto& o) { return std::span<const Operand>(o.kInputs); }, op);
}

std::span<const Operand> output_operands(const Op& op) {
  return std::visit([](const auto& o) { return std::span<const Operand>(o.kOutputs); }, op);
}

const Operand& input_operand(const Op& op, size_t i) {
  const auto operands = input_operands(op);
  CHECK(!operands.empty());
  if (i >= operands.size()) {
    CHECK(operands.back().kind == OperandKind::kVariadic, "more inputs than the op has operands");
    return operands.back();
  }
  return operands[i];
}

const RankGroup* group_of(const Op& op) {
  return std::visit(
      [](const auto& o) -> const RankGroup* {
        if constexpr (Communicates<std::remove_cvref_t<decltype(o)>>)
          return &o.group;
        else
          return nullptr;
      },
      op);
}

Lane lane_of(const Op& op) {
  const RankGroup* group = group_of(op);
  if (!group) return Lane::kCompute;
  constexpr RankGroup kInner = RankGroup::along({MeshAxis::kContext, MeshAxis::kTensor, MeshAxis::kExpertTensor});
  return (group->axes & ~kInner.axes) == 0 ? Lane::kIntraNode : Lane::kInterNode;
}

}  // namespace colossus
