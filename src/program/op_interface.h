// What an op's own file needs: its operands' types while shapes are inferred or costs counted, and the program being
// written while its adjoint is derived.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "program/operand.h"
#include "program/tensor_id.h"
#include "tensor/dtype.h"
#include "tensor/placement.h"
#include "tensor/shape.h"

namespace colossus {

class Builder;

struct TensorType {
  Shape shape;
  DType dtype = DType::kF32;

  int64_t num_bytes() const { return shape.num_elements() * dtype_bytes(dtype); }
  bool operator==(const TensorType&) const = default;
};

// Of parameters, statistics, losses and gates beside activations of this type.
constexpr DType statistics_dtype(DType activations) { return activations == DType::kF64 ? DType::kF64 : DType::kF32; }

// The types of one operation's operands; an absent optional operand has none.
class OpShapes {
 public:
  OpShapes(std::vector<std::optional<TensorType>> inputs, std::vector<std::optional<TensorType>> outputs)
      : inputs_(std::move(inputs)), outputs_(std::move(outputs)) {}

  int num_inputs() const { return static_cast<int>(inputs_.size()); }
  bool has_input(int i) const { return i < num_inputs() && inputs_[static_cast<size_t>(i)].has_value(); }
  bool has_output(int i) const {
    return i < static_cast<int>(outputs_.size()) && outputs_[static_cast<size_t>(i)].has_value();
  }
  const TensorType& input(int i) const { return checked(inputs_, i); }
  const TensorType& output(int i) const { return checked(outputs_, i); }
  const Shape& shape(int i) const { return input(i).shape; }
  const Shape& out_shape(int i) const { return output(i).shape; }

  // Every present input read once (mutated ones also written), every output written once.
  Cost memory_traffic(std::span<const Operand> input_specs) const;

 protected:
  static const TensorType& checked(const std::vector<std::optional<TensorType>>& types, int i) {
    CHECK(i >= 0 && i < static_cast<int>(types.size()) && types[static_cast<size_t>(i)].has_value(),
          "operand is absent");
    return *types[static_cast<size_t>(i)];
  }
  std::vector<std::optional<TensorType>> inputs_, outputs_;
};

// Shape inference of one operation: checks inputs, sets outputs. Every failure names the op and the operand:
// "matmul.b: got [768, 64] f32; needed rows = 512, the columns of a".
class Inference : public OpShapes {
 public:
  Inference(std::string_view op_name, std::span<const Operand> input_specs, std::span<const Operand> output_specs,
            std::vector<std::optional<TensorType>> inputs)
      : OpShapes(std::move(inputs), std::vector<std::optional<TensorType>>(output_specs.size())),
        op_name_(op_name),
        input_specs_(input_specs) {}

  Status need_rank(int i, int rank) const;
  Status need_shape(int i, const Shape& shape, std::string_view why) const;
  Status need_size(int i, int dimension, int64_t size, std::string_view why) const;
  Status need_dtype(int i, DType dtype) const;
  Status need_float(int i) const;
  // Of a matrix or table that is read and nothing else, beside such activations: f32 or, as it may be stored, bf16; f64
  // beside f64.
  Status need_weight(int i, DType activations) const;
  Status need_like(int i, int other) const;  // same shape and dtype
  // A number for each column (C), or for each row (...), of x (..., C), in statistics_dtype of x.
  Status need_of_columns(int i, int x, std::string_view why) const;
  Status need_of_rows(int i, int x, std::string_view why) const;
  // For rules of the op's own. `needed` continues the sentence "got ...; needed ".
  Status fail(int i, std::string_view needed) const;
  Status fail_attribute(std::string_view attribute, std::string_view got_and_needed) const;

  void set_output(int i, Shape shape, DType dtype) {
    outputs_[static_cast<size_t>(i)] = TensorType{std::move(shape), dtype};
  }
  std::vector<std::optional<TensorType>> take_outputs() { return std::move(outputs_); }

 private:
  std::string_view op_name_;
  std::span<const Operand> input_specs_;
};

// Reverse-mode differentiation of one operation. adjoint(op, a) writes the operations that turn the gradients of the
// outputs into gradients of the inputs.
//   Inputs that are activations get theirs by contribute().
//   Parameters have an accumulator, a tensor of role gradient that operations add into in place.
class Adjoint {
 public:
  virtual ~Adjoint() = default;
  virtual Builder& builder() = 0;
  virtual TensorId input(int i) const = 0;  // the forward operands; none when left out
  virtual TensorId output(int i) const = 0;
  virtual TensorId output_grad(int i) const = 0;      // none when nothing depends on that output
  virtual bool wants(int i) const = 0;                // does input i, or what it came from, have parameters?
  virtual void contribute(int i, TensorId grad) = 0;  // summed over the uses of that tensor
  virtual TensorId accumulator(int i) = 0;            // of parameter i; CHECKs that it is one and wanted
  virtual void fail(std::string message) = 0;         // this use of the op has no adjoint
};

// What one rank does of an operation of the whole program. partition(op, p) writes it: from the rank's parts of the
// inputs to its part of each output. A Placement says which part that is, of the whole tensor.
//
// Gradients are derived afterwards, from the rank's program. So a rule keeps this: on an axis that an activation is not
// cut along, what ranks compute from their copies is different work, whose gradients add up; only losses, and the sums
// they are made of, are computed alike by all.
class Partition {
 public:
  virtual ~Partition() = default;
  virtual Builder& builder() = 0;  // of the rank's program
  virtual const MeshPosition& position() const = 0;
  // How the residual stream (B, T, C), and whatever has a row for each token, lies between the large products: cut
  // along T (Korthikanti et al. 2022).
  virtual const Placement& tokens() const = 0;

  virtual const Shape& whole_shape(int i) const = 0;    // of input i
  virtual const Placement& placement(int i) const = 0;  // of input i as it is
  // The rank's part of input i in the wanted placement; none when left out. Writes the collective that takes it there,
  // once for each tensor and placement. An input of the program is declared in the placement that is wanted first.
  virtual TensorId input(int i, const Placement& wanted) = 0;
  TensorId input(int i) { return input(i, placement(i)); }
  virtual TensorId convert(TensorId part, const Placement& from, const Placement& to) = 0;
  virtual void set_output(int i, TensorId part, const Placement& placement) = 0;
  // A tensor that whoever reads output i needs too: companion(i) of the reader, none when there is no such thing.
  virtual void set_companion(int i, TensorId part) = 0;
  virtual TensorId companion(int i) const = 0;
  // Where the tokens that the rank has of `whole` (B, T) stand in their sequences: i32 like its part. None when it has
  // all T.
  virtual TensorId positions(const Shape& whole, const Placement& tokens) = 0;
  virtual void fail(std::string message) = 0;  // this use of the op cannot be cut

  int64_t size(MeshAxis axis) const { return position()[axis].size; }
  // Of a number to which each rank's tokens add a term: partial on the axes that cut them.
  Placement term_of_sum() const;
};

}  // namespace colossus
