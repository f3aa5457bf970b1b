// How long an operation takes on one GPU: a roofline whose roofs are those that kernels reach, not those of the data
// sheet. Few numbers, each with a meaning; docs/simulator.md says where they come from and how well they do.
#pragma once

#include <string>
#include <vector>

#include "device/sim/hardware.h"
#include "device/sim/kernel_work.h"

namespace colossus {

// The type in which a layer's products are computed. Sums, norms, attention and the head stay in bf16 or fp32.
enum class ProductType { kF32, kBF16, kFp8, kFp4 };
inline auto field_choices(ProductType) {
  return std::to_array<FieldChoice<ProductType>>({{ProductType::kF32, "f32"},
                                                  {ProductType::kBF16, "bf16"},
                                                  {ProductType::kFp8, "fp8"},
                                                  {ProductType::kFp4, "fp4"}});
}

// Of a kind of GPU and its libraries.
struct KernelRates {
  double clock = 1;  // of the peaks of products and attention, held for hours under the part's bound on power
  // Largest share of the peak that products of large, fitting matrices reach while the part is busy for hours.
  double matmul_bf16 = 0.8;
  double matmul_fp8 = 0.7;
  double matmul_fp4 = 0.6;
  double grouped = 0.9;  // of that, for the products of many experts at once
  // A product's k at which filling and draining its pipeline costs as much as the work.
  double half_k = 256;
  // Blocks of the result that kernels compute whole; 0: those of GPUs' libraries, the best of several sizes.
  int64_t tile_m = 0, tile_n = 0;
  // Share of the bf16 peak that attention reaches with long sequences and D = 128.
  double attention = 0.5;
  double attention_grad = 0.4;
  double half_tokens = 512;  // tokens at which it reaches half of that
  double memory = 0.85;      // share of the memory's bandwidth that simple kernels reach
  double packed_bytes =
      0;                 // moved for each parameter to bring it into the form that products read; GPUs read it as it is
  double launch_us = 3;  // from the end of a kernel to the start of the next
  void visit_fields(FieldVisitor& v);
};

class KernelTimes {
 public:
  KernelTimes(const GpuSpec& gpu, const KernelRates& rates, ProductType products);

  // Not of communication.
  double seconds(const KernelWork& work) const;
  double launch_seconds() const { return rates_.launch_us * 1e-6; }
  // Of attention that computes all scores, masked or not, stores them, and reads and writes them for scale, mask,
  // softmax and dropout (Shoeybi et al. 2019).
  double unfused_attention_seconds(const KernelWork& work, bool dropout) const;

  // Share of the units' time that a product of this shape keeps them busy with work of its own: tiles at the edges and
  // the last, partly filled wave.
  double fill(int64_t m, int64_t n, int64_t count) const;

 private:
  double product_seconds(const KernelWork& work) const;

  GpuSpec gpu_;
  KernelRates rates_;
  ProductType products_;
};

}  // namespace colossus
