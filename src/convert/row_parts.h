// The rows of one tensor where others have them: what is read without making anything of it.
#pragma once

#include <span>

#include "convert/source.h"

namespace colossus {

// Rows of the target (all dimensions but the last are rows), and where they begin in a source.
struct RowPart {
  int64_t row = 0, rows = 0;
  const SourceTensor* source = nullptr;
  int64_t source_row = 0, source_col = 0;  // of the source seen as a matrix
  // Above 0: of each run of so many rows the source has the halves interleaved.
  int64_t head_dim = 0;
};

// Bytes of the target from `offset` on. The parts cover its rows, in their order; cols: of the target. Thread-safe.
Status read_rows(std::span<const RowPart> parts, int64_t cols, int64_t offset, std::span<std::byte> into);

}  // namespace colossus
