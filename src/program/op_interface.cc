#include "program/op_interface.h"

#include <fmt/format.h>

namespace colossus {
namespace {
std::string describe(const TensorType& type) {
  return type.shape.to_string() + " " + std::string(dtype_name(type.dtype));
}
}  // namespace

Cost OpShapes::memory_traffic(std::span<const Operand> input_specs) const {
  Cost cost;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    if (!inputs_[i]) continue;
    const auto bytes = static_cast<double>(inputs_[i]->num_bytes());
    cost.bytes_read += bytes;
    if (i < input_specs.size() && input_specs[i].mutated()) cost.bytes_written += bytes;
  }
  for (const auto& output : outputs_)
    if (output) cost.bytes_written += static_cast<double>(output->num_bytes());
  return cost;
}

Status Inference::fail(int i, std::string_view needed) const {
  const auto at = std::min(static_cast<size_t>(i), input_specs_.size() - 1);
  return invalid(fmt::format("{}.{}: got {}; needed {}", op_name_, input_specs_[at].name,
                             has_input(i) ? describe(input(i)) : "nothing", needed));
}

Status Inference::fail_attribute(std::string_view attribute, std::string_view got_and_needed) const {
  return invalid(fmt::format("{}.{}: {}", op_name_, attribute, got_and_needed));
}

Status Inference::need_rank(int i, int rank) const {
  return shape(i).rank() == rank ? ok_status() : fail(i, fmt::format("{} dimensions", rank));
}

Status Inference::need_shape(int i, const Shape& needed, std::string_view why) const {
  return shape(i) == needed ? ok_status() : fail(i, fmt::format("{}: {}", needed.to_string(), why));
}

Status Inference::need_size(int i, int dimension, int64_t size, std::string_view why) const {
  const int rank = shape(i).rank();
  const int at = dimension < 0 ? rank + dimension : dimension;
  if (at < 0 || at >= rank)
    return fail(i, fmt::format("at least {} dimensions", dimension < 0 ? -dimension : dimension + 1));
  return shape(i)[at] == size ? ok_status() : fail(i, fmt::format("size {} in dimension {}: {}", size, at, why));
}

Status Inference::need_dtype(int i, DType dtype) const {
  return input(i).dtype == dtype ? ok_status() : fail(i, dtype_name(dtype));
}

Status Inference::need_float(int i) const { return is_float(input(i).dtype) ? ok_status() : fail(i, "a float type"); }

Status Inference::need_weight(int i, DType activations) const {
  const DType dtype = input(i).dtype;
  if (activations == DType::kF64) return need_dtype(i, DType::kF64);
  return dtype == DType::kF32 || dtype == DType::kBF16 ? ok_status() : fail(i, "f32 or bf16");
}

Status Inference::need_like(int i, int other) const {
  const auto at = static_cast<size_t>(other);
  return input(i) == input(other) ? ok_status()
                                  : fail(i, fmt::format("{}, like {}", describe(input(other)), input_specs_[at].name));
}

Status Inference::need_of_columns(int i, int x, std::string_view why) const {
  RETURN_IF_ERROR(need_shape(i, {shape(x)[-1]}, why));
  return need_dtype(i, statistics_dtype(input(x).dtype));
}

Status Inference::need_of_rows(int i, int x, std::string_view why) const {
  RETURN_IF_ERROR(need_shape(i, shape(x).without_last(), why));
  return need_dtype(i, statistics_dtype(input(x).dtype));
}

Placement Partition::term_of_sum() const {
  Placement term;
  for (const Placement::OnAxis& cut : tokens().axes()) term = term.partial(cut.axis);
  return term;
}

}  // namespace colossus
