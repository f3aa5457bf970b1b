#include <array>

#include "device/cuda/emulated/language.h"

namespace colossus::gpu {
namespace {

struct Operands {
  unsigned a[4], b[2];
};

float half(unsigned pair, int which) {
  return to_float(BFloat16{static_cast<uint16_t>(which == 0 ? pair & 0xFFFF : pair >> 16)});
}

float a_element(const std::array<Operands, 32>& warp, int row, int column) {
  const auto& a = warp[static_cast<size_t>(row % 8 * 4 + column % 8 / 2)].a;
  return half(a[row / 8 + column / 8 * 2], column % 2);
}

float b_element(const std::array<Operands, 32>& warp, int row, int column) {
  return half(warp[static_cast<size_t>(column * 4 + row % 8 / 2)].b[row / 8], row % 2);
}

}  // namespace

void multiply_16x8x16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  const auto warp = warp_values(Operands{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
  const int group = lane() / 4, pair = lane() % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = group + i / 2 * 8, column = pair * 2 + i % 2;
    float sum = 0;
    for (int k = 0; k < 16; ++k) sum += a_element(warp, row, k) * b_element(warp, k, column);
    d[i] += sum;
  }
}

template <bool kTransposed>
void load_matrices(unsigned (&r)[4], const void* shared_row) {
  CHECK(reinterpret_cast<uintptr_t>(shared_row) % 16 == 0, "ldmatrix reads rows at multiples of 16 bytes");
  const auto rows = warp_values(static_cast<const uint16_t*>(shared_row));
  const int group = lane() / 4, pair = lane() % 4;
  for (int m = 0; m < 4; ++m) {
    const auto element = [&](int which) -> unsigned {
      const int row = kTransposed ? pair * 2 + which : group, column = kTransposed ? group : pair * 2 + which;
      return rows[static_cast<size_t>(m * 8 + row)][column];
    };
    r[m] = element(0) | element(1) << 16;
  }
  // Nobody may overwrite what another lane still reads.
  wait_for_warp();
}
template void load_matrices<false>(unsigned (&)[4], const void*);
template void load_matrices<true>(unsigned (&)[4], const void*);

}  // namespace colossus::gpu
