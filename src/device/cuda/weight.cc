#include "device/cuda/weight.h"

#include "device/cuda/device_kernels.h"

namespace colossus {
namespace {

int64_t converted_bytes(int64_t num_elements, DType operands) {
  return (num_elements * dtype_bytes(operands) + 63) / 64 * 64;
}

}  // namespace

int64_t prepare_weight(CudaPrepare& prepare, int input, DType operands) {
  const TensorType& weight = prepare.shapes.input(input);
  if (weight.dtype == operands) return 0;
  if (operands == DType::kBF16 && prepare.is_parameter(input)) {
    prepare.round(input);
    return 0;
  }
  return converted_bytes(weight.shape.num_elements(), operands);
}

int64_t weight_workspace_bytes(const CudaCall& call, int input, DType operands) {
  const View& weight = call.input(input);
  if (weight.dtype == operands || call.rounded(input)) return 0;
  return converted_bytes(weight.num_elements(), operands);
}

const std::byte* weight_as(const CudaCall& call, int input, DType operands, std::byte* workspace) {
  const View& weight = call.input(input);
  if (weight.dtype == operands) return weight.data;
  if (const std::byte* kept = call.rounded(input)) return kept;
  if (operands == DType::kBF16)
    round_to_bf16(call.stream, weight.as<float>(), workspace, weight.num_elements());
  else
    widen_bf16(call.stream, weight.data, reinterpret_cast<float*>(workspace), weight.num_elements());
  return workspace;
}

}  // namespace colossus
