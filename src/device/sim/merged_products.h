// Products that other software runs as one where our programs have several: those of one operand, as q, k and v, or
// gate and up, whose weights it keeps side by side; and with them their gradients.
#pragma once

#include "device/sim/kernel_work.h"

namespace colossus {

// `works` are those of the program's operations. The first product of each such group becomes all of it; the others ask
// for nothing (KernelWork::absorbed).
void merge_products(const Program& program, PlayableProgram& works);

}  // namespace colossus
