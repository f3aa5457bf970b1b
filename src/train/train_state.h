// What a run is at a step: parameters, optimizer state, the step. Made fresh or read from a checkpoint; saved to one.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "device/tensor_set.h"
#include "model/model.h"
#include "parallel/flat_layout.h"

namespace colossus {

// Writes the initial value of every parameter: a function of (seed, parameter's place in the table, element).
void initialize_parameters(Device& device, const TensorSet& tensors, std::span<const ParameterSpec> parameters,
                           uint64_t seed);

// What a rank has of a parameter or an optimizer state, as a checkpoint names it.
struct StatePart {
  std::string name;
  Role role = Role::kParameter;
  Shape whole;  // of the tensor that it is a part of
  Piece piece;  // of that
  std::shared_ptr<DeviceMemory> memory;
  int64_t offset_bytes = 0;
};

// Parameters (file "model") and optimizer states (file "optimizer") as a checkpoint stores them.
std::vector<CheckpointTensor> checkpoint_tensors(Device& device, const std::vector<StatePart>& parts);

// Reads every part; `parts` hold all parameters. A tensor that is missing or of another shape, and parameters that the
// run does not have, are errors that name both sides; what was read before stays.
Status load_parts(Device& device, const std::vector<StatePart>& parts, const Checkpoint& checkpoint);

}  // namespace colossus
