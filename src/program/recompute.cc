// Activation recomputation (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"; selective:
// Korthikanti et al. 2022). Backward operations that read a forward tensor we do not keep read a copy made again,
// written just before the first of them. The copy's operations are the forward ones, so bits do not change.

#include <fmt/format.h>

#include <algorithm>

#include "program/builder.h"
#include "program/passes.h"

namespace colossus {
namespace {

template <class T, class... Ts>
constexpr bool is_one_of = (std::is_same_v<T, Ts> || ...);

bool is_cheap(const Op& op) {
  return std::visit(
      [](const auto& o) {
        return is_one_of<std::remove_cvref_t<decltype(o)>, RmsNorm, LayerNorm, Activation, GatedActivation, Rotary,
                         Cast, Scale, SoftCap, Add, Dropout, TokenDispatch>;
      },
      op);
}

class Recomputation {
 public:
  Recomputation(const Program& program, Recompute policy)
      : old_(program), writer_(program.tensors.size(), -1), again_(program.tensors.size()), builder_(header(program)) {
    for (size_t at = 0; at < old_.operations.size(); ++at)
      for (TensorId id : old_.operations[at].outputs)
        if (id) writer_[index(id)] = static_cast<int>(at);
    discarded_.assign(program.tensors.size(), false);
    for (size_t i = 0; i < program.tensors.size(); ++i) discarded_[i] = may_discard(static_cast<int32_t>(i), policy);
    keep_what_layers_pass_on();
  }

  Program run() {
    for (const Operation& operation : old_.operations) {
      Operation next = operation;
      if (operation.phase == Phase::kBackward)
        for (TensorId& id : next.inputs)
          if (id && discarded_[index(id)]) id = made_again(id);
      result_.push_back(std::move(next));
    }
    Program program = builder_.program();
    program.operations = std::move(result_);
    DCHECK(verify(program).ok(), verify(program).message().c_str());
    return program;
  }

 private:
  static size_t index(TensorId id) { return static_cast<size_t>(id.index); }
  static Program header(Program program) {
    program.operations.clear();
    return program;
  }

  bool may_discard(int32_t tensor, Recompute policy) const {
    const int writer = writer_[static_cast<size_t>(tensor)];
    if (policy == Recompute::kNone || writer < 0 || old_.tensor({tensor}).role == Role::kOutput) return false;
    const Operation& maker = old_.operations[static_cast<size_t>(writer)];
    if (maker.phase != Phase::kForward || layer_of(maker.scope) < 0) return false;
    return policy == Recompute::kFull || is_cheap(maker.op);
  }

  // The residual stream is kept, or the first backward operation would compute the whole forward pass again.
  void keep_what_layers_pass_on() {
    for (const Operation& operation : old_.operations) {
      if (operation.phase != Phase::kForward) continue;
      for (TensorId id : operation.inputs)
        if (id && discarded_[index(id)] &&
            layer_of(operation.scope) != layer_of(old_.operations[static_cast<size_t>(writer_[index(id)])].scope))
          discarded_[index(id)] = false;
    }
    // The fused head reads the last layer's output in what is then a backward operation.
    for (const Operation& operation : old_.operations)
      for (TensorId id : operation.inputs)
        if (id && discarded_[index(id)] && layer_of(operation.scope) < 0) discarded_[index(id)] = false;
  }

  TensorId made_again(TensorId id) {
    if (again_[index(id)]) return again_[index(id)];
    Operation copy = old_.operations[static_cast<size_t>(writer_[index(id)])];
    for (TensorId& input : copy.inputs)
      if (input && discarded_[index(input)]) input = made_again(input);
    copy.phase = Phase::kRecompute;
    for (TensorId& output : copy.outputs) {
      if (!output) continue;
      const Tensor& original = old_.tensor(output);
      const TensorId twin = builder_.declare(original.name + ".again", original.type, Role::kActivation);
      again_[index(output)] = twin;
      output = twin;
    }
    result_.push_back(std::move(copy));
    return again_[index(id)];
  }

  const Program& old_;
  std::vector<int> writer_;      // by old tensor
  std::vector<bool> discarded_;  // by old tensor: not kept from forward to backward
  std::vector<TensorId> again_;  // by old tensor: its copy, once made
  Builder builder_;              // holds the tensors of the result
  std::vector<Operation> result_;
};

}  // namespace

std::string_view recompute_name(Recompute recompute) {
  switch (recompute) {
    case Recompute::kNone: return "none";
    case Recompute::kSelective: return "selective";
    case Recompute::kFull: return "full";
  }
  return "?";
}

Program recompute(Program program, Recompute policy) {
  if (policy == Recompute::kNone) return program;
  return Recomputation(program, policy).run();
}

}  // namespace colossus
