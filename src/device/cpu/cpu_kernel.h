// What a CPU kernel of an operation is: two functions beside the op, in src/ops/x/x_cpu.cc,
//   template <> void prepare_cpu(const X& op, CpuPrepare& prepare);   once, when a program is compiled
//   template <> void run_cpu(const X& op, const CpuCall& call);       each step: no allocation, no lock
// and in src/ops/x/x_reference.cc the plain meaning of the op, in fp64 through View::get and set:
//   template <> void run_reference(const X& op, const ReferenceCall& call);
// An operation that talks to other ranks has instead one kernel for all devices (device/collectives.h).
// An operation that lacks one of them does not link.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "base/thread_pool.h"
#include "program/op_interface.h"
#include "tensor/view.h"

namespace colossus {

// A weight in the layout the GEMM kernels read, kept beside it and renewed when the weight changes.
// op(w) is (k, n): as stored, or transposed from (n, k). `count` matrices lie one after another (experts).
struct WeightPacking {
  int input = 0;
  int64_t k = 0, n = 0;
  int64_t count = 1;
  bool transposed = false;
  DType dtype = DType::kF32;  // of the packed form
};

class CpuPrepare {
 public:
  CpuPrepare(OpShapes op_shapes, int threads) : shapes(std::move(op_shapes)), num_threads(threads) {}

  const OpShapes shapes;
  const int num_threads;

  // Scratch while the operation runs, 64-byte aligned, uninitialised. Counted by the memory plan.
  int64_t workspace_bytes = 0;
  // The executor packs input `packing.input` when it is a parameter; call.packed(slot) is null otherwise. Where it is
  // not, the kernel reads nothing but the packed form, for the weight may not be in memory in any other.
  int pack(const WeightPacking& packing) {
    packings.push_back(packing);
    return static_cast<int>(packings.size()) - 1;
  }
  std::vector<WeightPacking> packings;
};

class CpuCall {
 public:
  CpuCall(ThreadPool& thread_pool, const View* inputs, int num_inputs, const View* outputs, int num_outputs,
          std::byte* workspace_memory, const std::byte* const* packed)
      : pool(thread_pool),
        workspace(workspace_memory),
        inputs_(inputs),
        num_inputs_(num_inputs),
        outputs_(outputs),
        num_outputs_(num_outputs),
        packed_(packed) {}

  ThreadPool& pool;
  std::byte* const workspace;

  int num_inputs() const { return num_inputs_; }
  bool has_input(int i) const { return i < num_inputs_ && inputs_[i].data; }
  bool has_output(int i) const { return i < num_outputs_ && outputs_[i].data; }
  const View& input(int i) const {
    DCHECK(has_input(i));
    return inputs_[i];
  }
  const View& output(int i) const {
    DCHECK(has_output(i));
    return outputs_[i];
  }
  const std::byte* packed(int slot) const { return packed_[slot]; }

 private:
  const View* inputs_;
  int num_inputs_;
  const View* outputs_;
  int num_outputs_;
  const std::byte* const* packed_;
};

// Reference kernels are given the same operands; absent ones have a null View.
using ReferenceCall = CpuCall;

template <class Op>
void prepare_cpu(const Op& op, CpuPrepare& prepare);
template <class Op>
void run_cpu(const Op& op, const CpuCall& call);
template <class Op>
void run_reference(const Op& op, const ReferenceCall& call);
}  // namespace colossus
