// What a run is at a step: parameters, optimizer state, the step. Made fresh or read from a checkpoint; saved to one.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "checkpoint/checkpoint.h"
#include "device/tensor_set.h"
#include "model/model.h"

namespace colossus {

// Writes the initial value of every parameter: a function of (seed, parameter's place in the table, element).
void initialize_parameters(Device& device, const TensorSet& tensors, std::span<const ParameterSpec> parameters,
                           uint64_t seed);

// Parameters (file "model") and optimizer states (file "optimizer") as a checkpoint stores them.
std::vector<CheckpointTensor> checkpoint_tensors(Device& device, const TensorSet& tensors);

// Reads every parameter, and with `optimizer` every optimizer state. A tensor that is missing, superfluous or of
// another shape is an error that names both sides; what was read before it stays.
Status load_tensors(Device& device, const TensorSet& tensors, const Checkpoint& checkpoint, bool optimizer);

// Which part of which tensor a rank's memory holds.
struct TensorPart {
  Shape whole;
  Piece piece;  // as many elements as the memory has
};

// The same for a rank that holds parts, whatever layout the checkpoint was written in. Tensors of the checkpoint that
// this rank has no part of are not superfluous.
Status load_tensors(Device& device, const TensorSet& tensors, const Checkpoint& checkpoint, bool optimizer,
                    FunctionRef<TensorPart(const std::string& name, const TensorSet::Entry& entry)> part_of);

}  // namespace colossus
