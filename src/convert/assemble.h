// The bytes of one tensor made of matrices of others, from front to back: what import and export stream.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "convert/source.h"

namespace colossus {

// A box of the target, seen as a matrix (all but the last dimension are rows), and where it comes from. The source box
// is of the same size, or of the transposed one, and has whole rows where it is transposed.
struct Box {
  int64_t row = 0, col = 0, rows = 0, cols = 0;
  const SourceTensor* source = nullptr;
  int64_t source_row = 0, source_col = 0;  // of the source seen as a matrix
  bool transposed = false;
  // With transposed: of each run of so many elements along the side that was turned over the source has the halves
  // interleaved (pairs_in_source) or the target has; 0: both have one order.
  int64_t head_dim = 0;
  bool pairs_in_source = false;
};

// What assemblies work in: the source matrix that is being turned over, and the rows that are being made. Shared by all
// of a model, which are read one after the other: the next often needs the same matrix, and a model has thousands.
struct AssemblyBuffers;
std::shared_ptr<AssemblyBuffers> make_assembly_buffers();

class Assembly {
 public:
  // The boxes cover the target; rows of the band they are made in are as many as fit into some mebibytes. Sources
  // outlive this.
  Assembly(Shape shape, DType dtype, std::vector<Box> boxes, std::shared_ptr<AssemblyBuffers> buffers);
  Status read(int64_t offset, std::span<std::byte> into);

 private:
  Status fill_band(int64_t first_row);
  Status fill_same(const Box& box, int64_t begin, int64_t end);
  Status fill_transposed(const Box& box, int64_t begin, int64_t end);

  int64_t rows_, cols_, element_bytes_, band_rows_;
  std::vector<Box> boxes_;
  std::shared_ptr<AssemblyBuffers> buffers_;
  int64_t band_first_ = 0, band_end_ = 0;  // rows that are in the band, where it is this one's
};

}  // namespace colossus
