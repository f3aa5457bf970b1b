#include "train/update_program.h"

#include "program/builder.h"

namespace colossus {

Result<Program> write_update_program(std::span<const ParameterSpec> parameters, const OptimizerConfig& optimizer) {
  Builder b("update");
  const TensorId lr = b.input("lr", {}, DType::kF32), muon_lr = b.input("muon_lr", {}, DType::kF32);
  const TensorId step = b.input("step", {}, DType::kI64), loss = b.input("loss", {}, DType::kF32);
  b.set_phase(Phase::kUpdate);
  std::vector<TensorId> grads;
  for (const ParameterSpec& spec : parameters)
    grads.push_back(b.declare("grad." + spec.name, {spec.shape, DType::kF32}, Role::kGradient));
  const TensorId norm = b.emit(ExactSumValue{.square_root = true}, {b.emit(SumOfSquares{}, grads)});
  const TensorId scale = b.emit(ClipScale{.max_norm = optimizer.clip_norm}, {norm, loss});
  for (size_t i = 0; i < parameters.size(); ++i) {
    const ParameterSpec& spec = parameters[i];
    const TensorType type{spec.shape, DType::kF32};
    const TensorId parameter = b.parameter(spec.name, spec.shape);
    if (optimizer.kind == OptimizerKind::kMuon && spec.kind == ParameterSpec::Kind::kMatrix) {
      const TensorId momentum = b.declare(spec.name + ".momentum", type, Role::kOptimizerState);
      b.emit(Muon{.momentum = optimizer.momentum, .weight_decay = optimizer.muon_weight_decay},
             {parameter, grads[i], momentum, muon_lr, scale});
      continue;
    }
    const TensorId m = b.declare(spec.name + ".m", type, Role::kOptimizerState);
    const TensorId v = b.declare(spec.name + ".v", type, Role::kOptimizerState);
    const double decay = spec.kind == ParameterSpec::Kind::kVector ? 0 : optimizer.weight_decay;
    b.emit(AdamW{.beta1 = optimizer.beta1, .beta2 = optimizer.beta2, .eps = optimizer.eps, .weight_decay = decay},
           {parameter, grads[i], m, v, lr, step, scale});
  }
  if (b.status().ok()) {
    b.mark_output(norm, "grad_norm");
    b.mark_output(scale, "clip_scale");
  }
  return b.finish();
}

}  // namespace colossus
