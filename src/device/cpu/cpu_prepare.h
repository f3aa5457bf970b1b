// What a CPU kernel wants before it runs.
#pragma once

#include "device/cpu/cpu_kernel.h"
#include "program/program.h"

namespace colossus {

// reference: of run_reference, which wants nothing beside what ranks exchange.
CpuPrepare prepare_operation(const Program& program, const Operation& operation, int num_threads,
                             bool reference = false);

}  // namespace colossus
