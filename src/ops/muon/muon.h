// Momentum orthogonalised by Newton-Schulz iteration, for matrices. Jordan et al. 2024
// (kellerjordan.github.io/posts/muon). g = scale * grad; m = momentum m + g; u = g + momentum m (Nesterov); o =
// newton_schulz(u), `iterations` of X = a X + (b A + c A^2) X with A = X X^T, (a, b, c) = (3.4445, -4.7750, 2.0315),
// X_0 = u / (|u| + 1e-7); param -= lr * (max(1, cols / rows)^0.5 * o + weight_decay * param). (E, K, N) is E matrices;
// rows = K, cols = N. Jordan et al. write weights (out, in) and rows / cols; ours are stored (in, out), which turns it
// over.
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

struct Muon {
  static constexpr std::string_view kName = "muon";
  enum In { kParam, kGrad, kMomentumBuffer, kLr, kScale };
  static constexpr std::array kInputs = {
      Operand{"param", OperandKind::kMutated},            // (K, N) or (E, K, N)
      Operand{"grad"},                                    // like param, f32
      Operand{"momentum_buffer", OperandKind::kMutated},  // like param
      Operand{"lr"},                                      // () f32
      Operand{"scale"},                                   // () f32; NaN: nothing is touched
  };
  static constexpr std::array<Operand, 0> kOutputs = {};
  double momentum = 0.95;
  int64_t iterations = 5;
  double weight_decay = 0;
  template <class V>
  void attributes(V& v) const {
    v("momentum", momentum);
    v("iterations", iterations);
    v("weight_decay", weight_decay);
  }
};

Status infer(const Muon& op, Inference& io);
Cost cost(const Muon& op, const OpShapes& shapes);

}  // namespace colossus
