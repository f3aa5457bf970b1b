// Matrix products on a GPU: cuBLASLt (native/), or loops (emulated/). Matrices are row-major, and dense where GemmSpec
// says nothing else.
#pragma once

#include <compare>
#include <map>
#include <memory>

#include "base/status.h"
#include "device/cuda/gpu.h"
#include "tensor/dtype.h"

namespace colossus::gpu {

// d (m, n) = alpha * op(a) op(b) + bias + addend, in fp32 (no tf32), rounded once.
struct GemmSpec {
  int64_t m = 0, n = 0, k = 0;   // op(a) is (m, k), op(b) (k, n)
  DType operands = DType::kF32;  // of a and b: f32 or bf16
  DType result = DType::kF32;    // of d, addend and bias; not bf16 where operands are f32
  bool transpose_a = false;      // a is stored (k, m)
  bool transpose_b = false;      // b is stored (n, k)
  bool has_bias = false;         // (n)
  bool has_addend = false;       // (m, n); may be d itself: the product is added into it
  // How many such products, `stride_*` elements apart; a stride of 0 is the same matrix for all.
  int64_t batch = 1, stride_a = 0, stride_b = 0, stride_d = 0;
  // Elements from a row to the next as a, b, and d with the addend are stored; 0: no more than a row has.
  int64_t ld_a = 0, ld_b = 0, ld_d = 0;
  auto operator<=>(const GemmSpec&) const = default;
};

struct GemmOperands {
  const std::byte *a = nullptr, *b = nullptr;
  std::byte* d = nullptr;
  const std::byte* bias = nullptr;
  const std::byte* addend = nullptr;
  float alpha = 1;
};

// Products made ready: the algorithm of each is chosen once, by shape alone, so that a run has the same bits again.
class Gemms {
 public:
  static Result<std::unique_ptr<Gemms>> make();
  ~Gemms();

  // A number for run(); the same for the same spec.
  Result<int> prepare(const GemmSpec& spec);
  void run(Stream stream, int prepared, const GemmOperands& operands);
  // Of the first product that could not be started; ok if there is none.
  Status status() const;

 private:
  Gemms();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace colossus::gpu
