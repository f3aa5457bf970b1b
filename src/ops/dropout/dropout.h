// y = x / (1 - rate) where kept, else 0. Srivastava et al. 2014.
// Element i of the global batch (i = first sample * T * C + its place in this microbatch) is kept when
// random_bits(key, i) >= rate * 2^32, key = {seed, kDropout, step: stream << 32 | step mod 2^32}. So the mask does not
// depend on the microbatch, rank or thread that computes it, dropouts of one step differ by their stream, and the
// adjoint draws the same mask again instead of storing it. A rank with some of each sequence's tokens says which.
#pragma once

#include <array>

#include "base/rng.h"
#include "program/op_interface.h"

namespace colossus {

struct Dropout {
  static constexpr std::string_view kName = "dropout";
  enum In { kX, kRng, kPositions };
  static constexpr std::array kInputs = {
      Operand{"x"},                                  // (B, T, C)
      Operand{"rng"},                                // (3) i64: seed, step, global index of sample 0
      Operand{"positions", OperandKind::kOptional},  // (B, T) i32: where the tokens stand in sequences of
                                                     // `sequence_tokens`; the column t of T when absent
  };
  enum Out { kY };
  static constexpr std::array kOutputs = {
      Operand{"y"},  // like x
  };
  double rate = 0;              // in [0, 1)
  int64_t stream = 0;           // a number of its own for each dropout of a program, in [0, 65536)
  int64_t sequence_tokens = 0;  // with positions
  template <class V>
  void attributes(V& v) const {
    v("rate", rate);
    v("stream", stream);
    v("sequence_tokens", sequence_tokens);
  }
};

// What the kernels share: the definition of the mask.
struct DropoutMask {
  DropoutMask(const Dropout& op, int64_t seed, int64_t step);

  RngKey key;
  uint32_t threshold;  // element i is kept when random_bits(key, i) >= threshold
  double scale;        // of kept elements: 1 / (1 - rate)
};

Status infer(const Dropout& op, Inference& io);
Cost cost(const Dropout& op, const OpShapes& shapes);
void adjoint(const Dropout& op, Adjoint& a);
void partition(const Dropout& op, Partition& p);

}  // namespace colossus
