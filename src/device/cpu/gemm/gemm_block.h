// One thread's share of a matrix multiplication: a rectangle of C, block by block through the caches.
#pragma once

#include "device/cpu/gemm/gemm.h"

namespace colossus::gemm_internal {

// Rows [row_begin, row_end) and panels of kPanelColumns columns [panel_begin, panel_end).
struct Rectangle {
  int64_t row_begin = 0;
  int64_t row_end = 0;
  int64_t panel_begin = 0;
  int64_t panel_end = 0;

  bool empty() const { return row_begin >= row_end || panel_begin >= panel_end; }
};

// The best table for this processor (isa_level()).
const GemmKernels& active_gemm_kernels();

inline int64_t num_panels(int64_t n) { return (n + kPanelColumns - 1) / kPanelColumns; }
// Rows of a register tile for this problem.
int64_t tile_rows(const GemmKernels& kernels, const GemmArgs& args);

void multiply_rectangle(const GemmKernels& kernels, const GemmArgs& args, const Rectangle& rectangle,
                        std::byte* workspace);

// Rows [k_begin, k_begin + k) of `b` (K, N) into panels [panel_begin, panel_end), `panel_words` apart.
struct PackPanels {
  MatrixRef b;
  int64_t n = 0;
  int64_t k_begin = 0;
  int64_t k = 0;
  int64_t panel_begin = 0;
  int64_t panel_end = 0;
  bool pairs = false;          // of bf16, or floats
  bool round_to_bf16 = false;  // floats that are rounded
  uint32_t* panels = nullptr;
  int64_t panel_words = 0;
};
void pack_panels(const GemmKernels& kernels, const PackPanels& job);

}  // namespace colossus::gemm_internal
