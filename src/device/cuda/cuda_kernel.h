// What a GPU kernel of an operation is: two functions beside the op, in src/ops/x/x_cuda.cu,
//   template <> Status prepare_cuda(const X& op, CudaPrepare& prepare);   once, when a program is compiled
//   template <> void run_cuda(const X& op, const CudaCall& call);         gives work to call.stream, and nothing more
// run_cuda is called once for each binding of the program's memory and its work is then repeated as a graph: it decides
// by shapes and attributes alone, never by contents, and waits for nothing. Results do not depend on the order in which
// blocks run: no atomics on floats. fp64 programs run on the CPU's reference kernels only.
//
// An operation that lacks one of them does not link.
#pragma once

#include <vector>

#include "device/cuda/gemm.h"
#include "device/cuda/gpu.h"
#include "program/op_interface.h"
#include "tensor/view.h"

namespace colossus {

// A parameter as the kernels read it: rounded to bf16, kept beside it and renewed when it changes.
struct RoundedWeight {
  int input = 0;
};

class CudaPrepare {
 public:
  CudaPrepare(OpShapes op_shapes, std::vector<bool> parameters, gpu::Gemms& gemms)
      : shapes(std::move(op_shapes)), parameters_(std::move(parameters)), gemms_(gemms) {}

  const OpShapes shapes;

  // Scratch while the operation runs, 64-byte aligned, undefined contents. Counted by the memory plan.
  int64_t workspace_bytes = 0;

  // The number under which CudaCall::gemm() runs this product.
  Result<int> gemm(const gpu::GemmSpec& spec) {
    ASSIGN_OR_RETURN(const int number, gemms_.prepare(spec));
    gemms.push_back(number);
    return static_cast<int>(gemms.size()) - 1;
  }
  bool is_parameter(int input) const { return parameters_.at(static_cast<size_t>(input)); }
  // The executor keeps input `input`, fp32, in bf16 when it is a parameter: CudaCall::rounded().
  void round(int input) { rounded.push_back({input}); }

  std::vector<int> gemms;  // of the device
  std::vector<RoundedWeight> rounded;

 private:
  const std::vector<bool> parameters_;  // by input
  gpu::Gemms& gemms_;
};

class CudaCall {
 public:
  struct Operands {
    const View* inputs = nullptr;
    int num_inputs = 0;
    const View* outputs = nullptr;
    int num_outputs = 0;
    std::byte* workspace = nullptr;
    const int* gemms = nullptr;
    const RoundedWeight* rounded_weights = nullptr;
    const std::byte* const* rounded = nullptr;  // of each of those
    size_t num_rounded = 0;
  };
  CudaCall(gpu::Stream launch_stream, gpu::Gemms& gemms, const Operands& operands)
      : stream(launch_stream), workspace(operands.workspace), gemms_(gemms), operands_(operands) {}

  const gpu::Stream stream;
  std::byte* const workspace;

  // Views point into the GPU's memory.
  bool has_input(int i) const { return i < operands_.num_inputs && operands_.inputs[i].data; }
  bool has_output(int i) const { return i < operands_.num_outputs && operands_.outputs[i].data; }
  int num_inputs() const { return operands_.num_inputs; }
  const View& input(int i) const {
    DCHECK(has_input(i));
    return operands_.inputs[i];
  }
  const View& output(int i) const {
    DCHECK(has_output(i));
    return operands_.outputs[i];
  }
  // Null where the input is no parameter of fp32, or was not asked for.
  const std::byte* rounded(int input) const {
    for (size_t i = 0; i < operands_.num_rounded; ++i)
      if (operands_.rounded_weights[i].input == input) return operands_.rounded[i];
    return nullptr;
  }
  void gemm(int slot, const gpu::GemmOperands& operands) const { gemms_.run(stream, operands_.gemms[slot], operands); }

 private:
  gpu::Gemms& gemms_;
  const Operands operands_;
};

template <class Op>
Status prepare_cuda(const Op& op, CudaPrepare& prepare);
template <class Op>
void run_cuda(const Op& op, const CudaCall& call);

}  // namespace colossus
