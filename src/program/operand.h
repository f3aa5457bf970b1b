// What an operation says of its operands. Every op struct in src/ops/ has
//   kName                       its one spelling everywhere: file, dump, metric
//   kInputs, kOutputs           an array of Operand each
//   enum In {...}, enum Out     their positions by name, in the same order
//   attributes(v)               calls v("name", member) for each attribute, for printing and equality
// and, as free functions beside it, infer(), cost() and (when it can be differentiated) adjoint().
#pragma once

#include <string_view>

namespace colossus {

enum class OperandKind {
  kRequired,
  kOptional,
  kMutated,  // read and written in place: a gradient added into, a parameter updated, a cache appended to
  kOptionalMutated,
  kVariadic,  // any number from here on; only the last input
};

struct Operand {
  std::string_view name;
  OperandKind kind = OperandKind::kRequired;

  constexpr bool optional() const { return kind == OperandKind::kOptional || kind == OperandKind::kOptionalMutated; }
  constexpr bool mutated() const { return kind == OperandKind::kMutated || kind == OperandKind::kOptionalMutated; }
};

// The resource an operation occupies. Data dependencies do the ordering, so overlap is a property of the program.
enum class Lane { kCompute, kCopy, kIntraNode, kInterNode };

// What an operation costs, whatever runs it. Work on optional or data-dependent parts is counted as executed on average
// (balanced experts; causal attention counts the unmasked half).
struct Cost {
  double flops = 0;  // a multiply-add is 2
  double bytes_read = 0;
  double bytes_written = 0;
  double bytes_sent = 0;  // to other ranks

  Cost& operator+=(const Cost& other) {
    flops += other.flops;
    bytes_read += other.bytes_read;
    bytes_written += other.bytes_written;
    bytes_sent += other.bytes_sent;
    return *this;
  }
};

}  // namespace colossus
