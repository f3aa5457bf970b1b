#include "device/cpu/simd.h"

#include "base/platform.h"

namespace colossus {

bool use_avx512() {
  static const bool use = isa_level() >= IsaLevel::kAvx512;
  return use;
}

}  // namespace colossus
