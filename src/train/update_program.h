// The second program of a step: norm of the gradients, clipping, optimizer.
#pragma once

#include <span>

#include "model/model.h"
#include "train/optimizer_config.h"

namespace colossus {

// Inputs: lr () and muon_lr () f32, step () i64 from 1, loss () f32. Gradients "grad.<parameter>" are read, parameters
// and optimizer states ("<parameter>.m", ".v", ".momentum") changed in place. Outputs: grad_norm (), clip_scale (): NaN
// when the step was skipped because loss or norm is not finite.
Result<Program> write_update_program(std::span<const ParameterSpec> parameters, const OptimizerConfig& optimizer);

}  // namespace colossus
