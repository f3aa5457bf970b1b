// Momentum orthogonalised by Newton-Schulz iteration, for matrices. Jordan et al. 2024
// (kellerjordan.github.io/posts/muon). In two operations, because ranks that share a matrix have its momentum in parts
// and orthogonalise all of it:
//   muon_momentum: g = scale * grad; m = momentum m + g; u = g + momentum m (Nesterov)
//   muon: o = newton_schulz(u), `iterations` of X = a X + (b A + c A^2) X with A = X X^T, (a, b, c) = (3.4445, -4.7750,
//     2.0315), X_0 = u / (|u| + 1e-7); param -= lr * (max(1, cols / rows)^0.5 * o + weight_decay * param)
// (E, K, N) is E matrices; rows = K, cols = N. Jordan et al. write weights (out, in) and rows / cols; ours are stored
// (in, out), which turns it over.
#pragma once

#include <array>

#include "program/op_interface.h"

namespace colossus {

struct MuonMomentum {
  static constexpr std::string_view kName = "muon_momentum";
  enum In { kGrad, kMomentumBuffer, kScale };
  static constexpr std::array kInputs = {
      Operand{"grad"},                                    // f32
      Operand{"momentum_buffer", OperandKind::kMutated},  // like grad
      Operand{"scale"},                                   // () f32; NaN: nothing is touched, and the direction is 0
  };
  enum Out { kDirection };
  static constexpr std::array kOutputs = {Operand{"direction"}};  // u, like grad
  double momentum = 0.95;
  template <class V>
  void attributes(V& v) const {
    v("momentum", momentum);
  }
};

struct Muon {
  static constexpr std::string_view kName = "muon";
  enum In { kParam, kDirection, kLr, kScale };
  static constexpr std::array kInputs = {
      Operand{"param", OperandKind::kMutated},  // (K, N) or (E, K, N), or this rank's part of each matrix
      Operand{"direction"},                     // u of whole matrices, f32
      Operand{"lr"},                            // () f32
      Operand{"scale"},                         // () f32; NaN: nothing is touched
  };
  static constexpr std::array<Operand, 0> kOutputs = {};
  int64_t iterations = 5;
  double weight_decay = 0;
  // param is part `part` of `parts` equal ones of each matrix: of its rows, or of its columns.
  int64_t parts = 1, part = 0;
  bool of_columns = false;

  template <class V>
  void attributes(V& v) const {
    v("iterations", iterations);
    v("weight_decay", weight_decay);
    v("parts", parts);
    v("part", part);
    v("of_columns", of_columns);
  }
};

Status infer(const MuonMomentum& op, Inference& io);
Cost cost(const MuonMomentum& op, const OpShapes& shapes);
Status infer(const Muon& op, Inference& io);
Cost cost(const Muon& op, const OpShapes& shapes);

}  // namespace colossus
