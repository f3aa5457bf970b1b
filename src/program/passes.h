// Passes: from a program to a program. Each is pure, verified after it ran in debug builds, and golden-tested.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "program/program.h"

namespace colossus {

// An output to differentiate and the tensor (an input of the same shape) that holds its gradient.
struct GradientSeed {
  TensorId output;
  TensorId grad;
};

// Appends the adjoint of every operation that lies between a parameter and a seeded output. The gradient of parameter
// "p" is the tensor "grad.p", role gradient, fp32 (fp64 of an fp64 parameter); running the program adds into it.
// wanted_inputs: inputs whose gradients are wanted too; they become outputs "grad.<name>".
// Fails for an operation without an adjoint, naming it.
Result<Program> differentiate(Program forward, std::span<const GradientSeed> seeds,
                              std::span<const TensorId> wanted_inputs = {});

// Fewer, larger operations with the same meaning: residual additions join the operation that made one of the terms,
// the head's forward disappears into its gradient (which gives the loss as well), and, where no adjoint needs what lies
// before it, an activation joins its matmul.
Program fuse(Program program);

enum class Recompute {
  kNone,       // keep every activation the adjoints read
  kSelective,  // keep what matmuls, attention and routing made; compute norms, activations, rotations and casts again
  kFull,       // keep the residual stream between layers only: tensors whose scope changes
};
std::string_view recompute_name(Recompute recompute);

// Writes again, just before the backward operation that reads it, what the forward pass need not keep. Bits do not
// change.
Program recompute(Program program, Recompute policy);

// Removes operations whose results nobody reads and which change no memory. Halves of a transfer stay: the other half is
// in another rank's program.
Program eliminate_dead(Program program);

}  // namespace colossus
