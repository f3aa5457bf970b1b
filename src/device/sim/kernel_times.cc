#include "device/sim/kernel_times.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace colossus {
namespace {

// Blocks of the result that a unit computes, and the share of its rate that each allows: a smaller one reads more for
// the same work.
struct Tile {
  int64_t m, n;
  double rate;
};
constexpr std::array kTiles = {Tile{256, 128, 1.0}, Tile{128, 256, 1.0}, Tile{128, 128, 0.94}, Tile{128, 64, 0.8},
                               Tile{64, 128, 0.8},  Tile{64, 64, 0.62},  Tile{64, 32, 0.4}};

// Of a bf16 element: read, and written in rows for the product and in columns for the weights' gradient. For fp4 the
// largest of all is looked for first.
constexpr double kFp8RoundingBytes = 2 + 1 + 1;
constexpr double kFp4RoundingBytes = 2 + 2 + 0.5 + 0.5;

int64_t tiles_for(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

}  // namespace

void KernelRates::visit_fields(FieldVisitor& v) {
  v.field("clock", clock, "share of the peaks that power allows for hours", {.max = 1.5, .above = 0});
  v.field("matmul_bf16", matmul_bf16, "share of the peak that large products reach in bf16", {.max = 1, .above = 0});
  v.field("matmul_fp8", matmul_fp8, "the same in fp8", {.max = 1, .above = 0});
  v.field("matmul_fp4", matmul_fp4, "the same in fp4", {.max = 1, .above = 0});
  v.field("grouped", grouped, "of these, the share that products of experts reach", {.max = 1, .above = 0});
  v.field("half_k", half_k, "depth of a product at which half its time is work", {.min = 0});
  v.field("tile_m", tile_m, "rows of the result that are computed at once; 0: as GPUs' libraries have it", {.min = 0});
  v.field("tile_n", tile_n, "columns of it", {.min = 0});
  v.field("attention", attention, "share of the bf16 peak that attention reaches", {.max = 1, .above = 0});
  v.field("attention_grad", attention_grad, "the same of its gradient", {.max = 1, .above = 0});
  v.field("half_tokens", half_tokens, "tokens at which attention reaches half of that", {.min = 0});
  v.field("memory", memory, "share of the memory's bandwidth that simple kernels reach", {.max = 1, .above = 0});
  v.field("packed_bytes", packed_bytes, "moved to bring a parameter into the form that products read", {.min = 0});
  v.field("launch_us", launch_us, "from the end of a kernel to the start of the next", {.min = 0});
}

KernelTimes::KernelTimes(const GpuSpec& gpu, const KernelRates& rates, ProductType products)
    : gpu_(gpu), rates_(rates), products_(products) {
  for (double* peak : {&gpu_.fp32_tflops, &gpu_.bf16_tflops, &gpu_.fp8_tflops, &gpu_.fp4_tflops}) *peak *= rates.clock;
}

double KernelTimes::fill(int64_t m, int64_t n, int64_t count) const {
  if (rates_.tile_m > 0 && rates_.tile_n > 0)
    return static_cast<double>(m) * static_cast<double>(n) /
           static_cast<double>(tiles_for(m, rates_.tile_m) * rates_.tile_m * tiles_for(n, rates_.tile_n) *
                               rates_.tile_n);
  double best = 0;
  for (const Tile& tile : kTiles) {
    const double tiles = static_cast<double>(tiles_for(m, tile.m) * tiles_for(n, tile.n) * count);
    const double used = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(count) /
                        (tiles * static_cast<double>(tile.m * tile.n));
    double waves = 1;
    if (gpu_.num_units > 0) {
      const double whole = tiles / static_cast<double>(gpu_.num_units);
      waves = whole / std::ceil(whole);
    }
    best = std::max(best, tile.rate * used * waves);
  }
  return best;
}

double KernelTimes::product_seconds(const KernelWork& work) const {
  const ProductType type = work.narrow || products_ == ProductType::kF32 ? products_ : ProductType::kBF16;
  double rate = 0, share = rates_.matmul_bf16;
  switch (type) {
    case ProductType::kF32: rate = gpu_.fp32_tflops; break;
    case ProductType::kBF16: rate = gpu_.bf16_tflops; break;
    case ProductType::kFp8: rate = gpu_.fp8_tflops, share = rates_.matmul_fp8; break;
    case ProductType::kFp4: rate = gpu_.fp4_tflops, share = rates_.matmul_fp4; break;
  }
  // The more experts, the more of the product is grouping.
  if (!work.head) share *= rates_.grouped + (1 - rates_.grouped) / static_cast<double>(work.count);
  // What a tile takes beside its products takes as long whatever their type: as deep in work as that is faster.
  const double half_k = rates_.half_k * (gpu_.bf16_tflops > 0 ? std::max(1.0, rate / gpu_.bf16_tflops) : 1);
  const double depth = static_cast<double>(work.k) / (static_cast<double>(work.k) + half_k);
  const double compute = work.flops / (rate * 1e12 * share * depth * fill(work.m, work.n, work.count));
  const double bandwidth = gpu_.memory_gb_per_second * 1e9 * rates_.memory;
  // Rounding runs before the product.
  double rounding = 0;
  if (type == ProductType::kFp8) rounding = kFp8RoundingBytes * work.rounded / bandwidth;
  if (type == ProductType::kFp4) rounding = kFp4RoundingBytes * work.rounded / bandwidth;
  return std::max(compute, work.bytes / bandwidth) + rounding;
}

double KernelTimes::unfused_attention_seconds(const KernelWork& work, bool dropout) const {
  const bool backward = work.kind == WorkKind::kAttentionGrad;
  // `flops` are of the unmasked half: 2 products of 2 D operations a score forward, and 5 backward, of which one is the
  // scores again, which are here.
  const double scores = 2 * work.flops / ((backward ? 5 : 2) * 2 * static_cast<double>(work.head_dim));
  const double products = (backward ? 4 : 2) * 2 * static_cast<double>(work.head_dim) * scores;
  // Bytes a score moves in bf16: written, normalised (read and written), read; backward its gradient is written, and
  // normalised from itself and the score, and the products for q, k and v read one or the other. Dropout adds a
  // reading, a writing and a mask.
  const double bytes = scores * ((backward ? 14 : 8) + (dropout ? 5 : 0));
  const double depth = static_cast<double>(work.head_dim) / (static_cast<double>(work.head_dim) + rates_.half_k);
  return 4 * rates_.launch_us * 1e-6 + products / (gpu_.bf16_tflops * 1e12 * rates_.matmul_bf16 * depth) +
         bytes / (gpu_.memory_gb_per_second * 1e9 * rates_.memory);
}

double KernelTimes::seconds(const KernelWork& work) const {
  if (work.absorbed) return 0;
  if (work.packed > 0) return work.packed * rates_.packed_bytes / (gpu_.memory_gb_per_second * 1e9 * rates_.memory);
  const double launch = rates_.launch_us * 1e-6;
  const double memory = work.bytes / (gpu_.memory_gb_per_second * 1e9 * rates_.memory);
  switch (work.kind) {
    case WorkKind::kMatmul: return launch + product_seconds(work);
    case WorkKind::kAttention:
    case WorkKind::kAttentionGrad: {
      const double share = work.kind == WorkKind::kAttention ? rates_.attention : rates_.attention_grad;
      const double tokens = static_cast<double>(work.tokens);
      const double reached = share * tokens / (tokens + rates_.half_tokens) *
                             std::min(1.0, 0.5 + 0.5 * static_cast<double>(work.head_dim) / 128);
      return launch + std::max(work.flops / (gpu_.bf16_tflops * 1e12 * reached), memory);
    }
    case WorkKind::kMemory: return launch + memory;
    case WorkKind::kCommunication: break;
  }
  CHECK(false, "communication has its price from the network");
  return 0;
}

}  // namespace colossus
