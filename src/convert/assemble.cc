#include "convert/assemble.h"

#include <algorithm>
#include <cstring>

#include "convert/transpose.h"

namespace colossus {
namespace {

constexpr int64_t kBandBytes = 16 << 20;

int64_t columns_of(const Shape& shape) { return shape.rank() == 0 ? 1 : shape[-1]; }

}  // namespace

// Whole rows of a source in memory: columns of it are rows of the target.
class TurnedMatrix {
 public:
  Status load(const Box& box, int64_t element_bytes) {
    const int64_t row_bytes = columns_of(box.source->shape) * element_bytes;
    if (source_ == box.source && row_ == box.source_row && rows_ == box.cols) return ok_status();
    source_ = nullptr;
    bytes_.resize(static_cast<size_t>(box.cols * row_bytes));
    RETURN_IF_ERROR(box.source->read(box.source_row * row_bytes, bytes_));
    source_ = box.source;
    row_ = box.source_row;
    rows_ = box.cols;
    return ok_status();
  }
  const std::byte* data() const { return bytes_.data(); }

 private:
  const SourceTensor* source_ = nullptr;
  int64_t row_ = 0, rows_ = 0;
  std::vector<std::byte> bytes_;
};

struct AssemblyBuffers {
  TurnedMatrix turned;
  const Assembly* band_of = nullptr;
  std::vector<std::byte> band, rows_read;
};

std::shared_ptr<AssemblyBuffers> make_assembly_buffers() { return std::make_shared<AssemblyBuffers>(); }

Assembly::Assembly(Shape shape, DType dtype, std::vector<Box> boxes, std::shared_ptr<AssemblyBuffers> buffers)
    : rows_(columns_of(shape) == 0 ? 0 : shape.num_elements() / columns_of(shape)),
      cols_(columns_of(shape)),
      element_bytes_(dtype_bytes(dtype)),
      band_rows_(std::max<int64_t>(1, kBandBytes / std::max<int64_t>(1, cols_ * element_bytes_))),
      boxes_(std::move(boxes)),
      buffers_(std::move(buffers)) {}

Status Assembly::read(int64_t offset, std::span<std::byte> into) {
  // One tensor as it is needs no band.
  if (boxes_.size() == 1 && !boxes_[0].transposed && boxes_[0].cols == columns_of(boxes_[0].source->shape))
    return boxes_[0].source->read(boxes_[0].source_row * cols_ * element_bytes_ + offset, into);
  const int64_t row_bytes = cols_ * element_bytes_;
  while (!into.empty()) {
    const int64_t row = offset / row_bytes;
    if (buffers_->band_of != this || row < band_first_ || row >= band_end_) RETURN_IF_ERROR(fill_band(row));
    const int64_t in_band = offset - band_first_ * row_bytes;
    const int64_t num_bytes =
        std::min(static_cast<int64_t>(into.size()), (band_end_ - band_first_) * row_bytes - in_band);
    std::memcpy(into.data(), buffers_->band.data() + in_band, static_cast<size_t>(num_bytes));
    into = into.subspan(static_cast<size_t>(num_bytes));
    offset += num_bytes;
  }
  return ok_status();
}

Status Assembly::fill_band(int64_t first_row) {
  buffers_->band_of = nullptr;
  band_first_ = first_row;
  const int64_t end = std::min(rows_, first_row + band_rows_);
  buffers_->band.resize(static_cast<size_t>((end - first_row) * cols_ * element_bytes_));
  for (const Box& box : boxes_) {
    const int64_t from = std::max(first_row, box.row), to = std::min(end, box.row + box.rows);
    if (from < to) RETURN_IF_ERROR(box.transposed ? fill_transposed(box, from, to) : fill_same(box, from, to));
  }
  band_end_ = end;
  buffers_->band_of = this;
  return ok_status();
}

Status Assembly::fill_same(const Box& box, int64_t begin, int64_t end) {
  const int64_t source_row_bytes = columns_of(box.source->shape) * element_bytes_;
  if (box.cols == cols_ && box.cols == columns_of(box.source->shape)) {
    const auto rows = std::span(buffers_->band)
                          .subspan(static_cast<size_t>((begin - band_first_) * source_row_bytes),
                                   static_cast<size_t>((end - begin) * source_row_bytes));
    return box.source->read((box.source_row + begin - box.row) * source_row_bytes, rows);
  }
  buffers_->rows_read.resize(static_cast<size_t>((end - begin) * source_row_bytes));
  RETURN_IF_ERROR(box.source->read((box.source_row + begin - box.row) * source_row_bytes, buffers_->rows_read));
  for (int64_t row = begin; row < end; ++row)
    std::memcpy(buffers_->band.data() + ((row - band_first_) * cols_ + box.col) * element_bytes_,
                buffers_->rows_read.data() + (row - begin) * source_row_bytes + box.source_col * element_bytes_,
                static_cast<size_t>(box.cols * element_bytes_));
  return ok_status();
}

Status Assembly::fill_transposed(const Box& box, int64_t begin, int64_t end) {
  RETURN_IF_ERROR(buffers_->turned.load(box, element_bytes_));
  transpose({.from = buffers_->turned.data(),
             .from_rows = box.cols,
             .from_cols = columns_of(box.source->shape),
             .first_col = box.source_col + begin - box.row,
             .num_cols = end - begin,
             .to = buffers_->band.data() + ((begin - band_first_) * cols_ + box.col) * element_bytes_,
             .to_stride = cols_,
             .element_bytes = element_bytes_,
             .head_dim = box.head_dim,
             .pairs_in_from = box.pairs_in_source});
  return ok_status();
}

}  // namespace colossus
