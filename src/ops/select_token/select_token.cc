#include "ops/select_token/select_token.h"

namespace colossus {

Status infer(const SelectToken&, Inference& io) {
  RETURN_IF_ERROR(io.need_rank(SelectToken::kX, 3));
  const Shape& x = io.shape(SelectToken::kX);
  if (x[1] < 1) return io.fail(SelectToken::kX, "at least 1 token");
  RETURN_IF_ERROR(io.need_shape(SelectToken::kIndex, {x[0]}, "a token of each sequence"));
  RETURN_IF_ERROR(io.need_dtype(SelectToken::kIndex, DType::kI32));
  io.set_output(SelectToken::kY, {x[0], 1, x[2]}, io.input(SelectToken::kX).dtype);
  return ok_status();
}

Cost cost(const SelectToken&, const OpShapes& shapes) {
  Cost cost = shapes.memory_traffic(SelectToken::kInputs);
  // Of x only the rows asked for are read.
  cost.bytes_read +=
      static_cast<double>(shapes.output(SelectToken::kY).num_bytes() - shapes.input(SelectToken::kX).num_bytes());
  return cost;
}

}  // namespace colossus
