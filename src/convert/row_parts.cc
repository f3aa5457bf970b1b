#include "convert/row_parts.h"

#include <algorithm>

#include "convert/transpose.h"

namespace colossus {

Status read_rows(std::span<const RowPart> parts, int64_t cols, int64_t offset, std::span<std::byte> into) {
  const int64_t element_bytes = dtype_bytes(parts.front().source->dtype), row_bytes = cols * element_bytes;
  while (!into.empty()) {
    const int64_t row = offset / row_bytes, in_row = offset % row_bytes;
    const auto behind = std::ranges::upper_bound(parts, row, {}, &RowPart::row);
    CHECK(behind != parts.begin());
    const RowPart& part = *std::prev(behind);
    const int64_t row_in_part = row - part.row;
    CHECK(row_in_part < part.rows);
    const Shape& shape = part.source->shape;
    const int64_t source_cols = shape.rank() == 0 ? 1 : shape[-1];
    // Rows that lie there as they are needed are read at once, others one by one.
    const bool together = part.head_dim == 0 && source_cols == cols;
    const int64_t end = together ? part.rows * row_bytes - row_in_part * row_bytes : row_bytes;
    const int64_t num_bytes = std::min(end - in_row, static_cast<int64_t>(into.size()));
    const int64_t source_row =
        part.source_row + (part.head_dim > 0 ? place_among_pairs(row_in_part, part.head_dim) : row_in_part);
    RETURN_IF_ERROR(part.source->read((source_row * source_cols + part.source_col) * element_bytes + in_row,
                                      into.first(static_cast<size_t>(num_bytes))));
    into = into.subspan(static_cast<size_t>(num_bytes));
    offset += num_bytes;
  }
  return ok_status();
}

}  // namespace colossus
