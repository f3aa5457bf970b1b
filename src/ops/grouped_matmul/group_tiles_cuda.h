// Which rows a block multiplies by which expert's matrix: what the host does not know.
#pragma once

#include "device/cuda/row_kernels.h"

namespace colossus {

// The most tiles that S rows of E experts can make, and those of no expert: tiles end where experts do.
inline int most_group_tiles(int64_t num_rows, int64_t num_experts, int64_t tile_rows) {
  const int64_t most = (num_rows + (num_experts + 1) * (tile_rows - 1)) / tile_rows;
  return static_cast<int>(most < num_rows ? most : num_rows);
}

struct GroupTile {
  int expert;  // E: rows of no expert
  int first_row;
  int num_rows;  // 0: there is no such tile
};

// Experts' tiles one behind the other; a warp looks at 32 experts at a time. All lanes get the same.
__device__ __forceinline__ GroupTile find_group_tile(const int32_t* offsets, int num_experts, int num_rows, int tile,
                                                     int tile_rows) {
  int before = 0;
  for (int first = 0; first <= num_experts; first += 32) {
    const int expert = first + gpu::lane();
    const int begin = expert <= num_experts ? offsets[expert] : num_rows;
    const int end = expert < num_experts ? offsets[expert + 1] : num_rows;
    const int own = (end - begin + tile_rows - 1) / tile_rows;
    const int upto = before + gpu::warp_prefix_sum(own);
    const unsigned behind = __ballot_sync(kAllLanes, tile < upto);
    if (behind != 0) {
      const int lane = __popc(~behind & (behind - 1));
      const int within = (tile - __shfl_sync(kAllLanes, upto - own, lane)) * tile_rows;
      const int first_row = __shfl_sync(kAllLanes, begin, lane) + within;
      const int left = __shfl_sync(kAllLanes, end, lane) - first_row;
      return {first + lane, first_row, left < tile_rows ? left : tile_rows};
    }
    before = __shfl_sync(kAllLanes, upto, 31);
  }
  return {num_experts, 0, 0};
}

}  // namespace colossus
