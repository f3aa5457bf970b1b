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

// What a rank has of a parameter or an optimizer state, as a checkpoint names it.
struct StatePart {
  std::string name;
  Role role = Role::kParameter;
  Shape whole;  // of the tensor that it is a part of
  Piece piece;  // of that
  std::shared_ptr<DeviceMemory> memory;
  int64_t offset_bytes = 0;
};

// Of one that has all parameters, as these tensors.
std::vector<StatePart> whole_parameters(const TensorSet& tensors, std::span<const ParameterSpec> table);

// Writes the initial value of parameters: a function of (seed, parameter's place in the table, element of the whole).
void initialize_parameters(Device& device, std::span<const ParameterSpec> table, const std::vector<StatePart>& parts,
                           uint64_t seed);

// Parameters (file "model") and optimizer states (file "optimizer") as a checkpoint stores them.
std::vector<CheckpointTensor> checkpoint_tensors(Device& device, const std::vector<StatePart>& parts);

// Reads every part. A tensor that is missing or of another shape, and parameters that are not in the run's table, are
// errors that name both sides; what was read before stays.
Status load_parts(Device& device, std::span<const ParameterSpec> table, const std::vector<StatePart>& parts,
                  const Checkpoint& checkpoint);

}  // namespace colossus
