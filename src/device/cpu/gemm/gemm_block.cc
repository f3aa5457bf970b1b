#include "device/cpu/gemm/gemm_block.h"

#include <algorithm>

#include "base/check.h"
#include "base/platform.h"

namespace colossus::gemm_internal {
namespace {

// Blocking for 32 KB of L1 and 1 MB of L2 per core. A block of B, kBlockPanels panels of kBlockWords words (384 KB),
// stays in L2 while the tiles of A stream past it, each copied once (21 KB) and met by all panels. Where k takes several
// blocks, unfinished tiles of C wait in a buffer (224 KB) that stays in L2 too.
constexpr int64_t kBlockPanels = 8;
constexpr int64_t kPartialRows = 224;
constexpr int64_t kTileFloats = int64_t{kMaxTileRows} * kPanelColumns;
constexpr int64_t kPanelBlockWords = int64_t{kBlockWords} * kPanelColumns;
// Row-major B is packed in squarish pieces: a panel's rows lie on as many pages as there are rows.
constexpr int64_t kPackRows = 32;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

struct Workspace {
  alignas(64) uint32_t a_tile[kTileBytes / 4];
  alignas(64) float tile[kTileFloats];  // a finished sum on its way to the epilogue
  alignas(64) float partial[kPartialRows * kPanelColumns * kBlockPanels];
  alignas(64) uint32_t b_block[kPanelBlockWords * kBlockPanels];
};

struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

// Part `i` of `parts` nearly equal parts.
Range split(Range whole, int64_t parts, int64_t i) {
  return {whole.begin + whole.size() * i / parts, whole.begin + whole.size() * (i + 1) / parts};
}

class RectangleRun {
 public:
  RectangleRun(const GemmKernels& kernels, const GemmArgs& args, Workspace& workspace)
      : kernels_(kernels), args_(args), workspace_(workspace) {
    packed_ = args.packed_b.data != nullptr;
    const bool bf16 = (packed_ ? args.packed_b.dtype : args.compute) == DType::kBF16;
    // Without the dot product, a B that is packed here anyway is widened once, not in every tile.
    b_pairs_ = bf16 && (packed_ || kernels.pairs_in_a);
    a_pairs_ = bf16 && kernels.pairs_in_a;
    round_to_bf16_ = bf16;
    tiles_ = b_pairs_ ? &kernels.bf16 : &kernels.f32;
    num_k_blocks_ = std::max<int64_t>(1, ceil_div(args.k, a_pairs_ ? 2 * kBlockWords : kBlockWords));
    k_block_ = round_up(ceil_div(args.k, num_k_blocks_), 32);
    plain_ = args.alpha == 1.0F && !args.bias && args.activation == GemmActivation::kNone && args.c_dtype == DType::kF32 &&
             !(args.addend && (args.accumulate || args.ld_addend != args.ldc));
  }

  void run(const Rectangle& rectangle) {
    const int64_t num_tiles = ceil_div(rectangle.row_end - rectangle.row_begin, tiles_->max_rows);
    const int64_t num_row_blocks = num_k_blocks_ == 1 ? 1 : ceil_div(num_tiles, kPartialRows / tiles_->max_rows);
    const Range panels = {rectangle.panel_begin, rectangle.panel_end};
    const int64_t num_panel_blocks = ceil_div(panels.size(), kBlockPanels);
    for (int64_t i = 0; i < num_row_blocks; ++i) {
      const Range tiles = split({0, num_tiles}, num_row_blocks, i);
      for (int64_t j = 0; j < num_panel_blocks; ++j)
        for (int64_t block = 0; block < num_k_blocks_; ++block)
          multiply_block(rectangle, num_tiles, tiles, split(panels, num_panel_blocks, j), block);
    }
  }

 private:
  // All of these tiles and panels for one block of k.
  void multiply_block(const Rectangle& rectangle, int64_t num_tiles, Range tiles, Range panels, int64_t block) {
    k_begin_ = std::min(block * k_block_, args_.k);
    k_ = std::min(k_block_, args_.k - k_begin_);
    first_ = block == 0;
    last_ = block == num_k_blocks_ - 1;
    if (!packed_) pack_b_block(panels);
    const Range rows = {rectangle.row_begin, rectangle.row_end};
    for (int64_t t = tiles.begin; t < tiles.end; ++t) {
      const Range tile_rows = split(rows, num_tiles, t);
      pack_a_tile(tile_rows);
      const Range next = t + 1 < tiles.end ? split(rows, num_tiles, t + 1) : Range{};
      for (int64_t p = panels.begin; p < panels.end; ++p) {
        prefetch_a(next, panels.size(), p - panels.begin);
        float* partial = workspace_.partial + ((t - tiles.begin) * panels.size() + p - panels.begin) * tiles_->max_rows * kPanelColumns;
        multiply_tile(tile_rows, p, panel_words(p, panels), partial);
      }
    }
  }

  int64_t words(int64_t k) const { return b_pairs_ ? (k + 1) / 2 : k; }

  const uint32_t* panel_words(int64_t panel, Range block) const {
    if (!packed_) return workspace_.b_block + (panel - block.begin) * words(k_) * kPanelColumns;
    const auto* data = reinterpret_cast<const uint32_t*>(args_.packed_b.data);
    return data + (panel * words(args_.k) + words(k_begin_)) * kPanelColumns;
  }

  void pack_b_block(Range panels) {
    pack_panels(kernels_, {.b = args_.b,
                           .n = args_.n,
                           .k_begin = k_begin_,
                           .k = k_,
                           .panel_begin = panels.begin,
                           .panel_end = panels.end,
                           .pairs = b_pairs_,
                           .round_to_bf16 = round_to_bf16_,
                           .panels = workspace_.b_block,
                           .panel_words = words(k_) * kPanelColumns});
  }

  const std::byte* a_at(int64_t row, int64_t k) const {
    const int64_t element = args_.a.transposed ? k * args_.a.ld + row : row * args_.a.ld + k;
    return static_cast<const std::byte*>(args_.a.data) + element * dtype_bytes(args_.a.dtype);
  }

  void pack_a_tile(Range rows) {
    if (k_ == 0) return;
    const PackAJob job = {.source = a_at(rows.begin, k_begin_),
                          .ld = args_.a.ld,
                          .rows = static_cast<int>(rows.size()),
                          .k = k_,
                          .source_bf16 = args_.a.dtype == DType::kBF16,
                          .round_to_bf16 = round_to_bf16_,
                          .tile = workspace_.a_tile};
    if (args_.a.transposed) (a_pairs_ ? kernels_.pack_a_pairs_by_columns : kernels_.pack_a_f32_by_columns)(job);
    else (a_pairs_ ? kernels_.pack_a_pairs_by_rows : kernels_.pack_a_f32_by_rows)(job);
  }

  // Fetches share `part` of `parts` of the next tile's rows of A, while this tile computes.
  void prefetch_a(Range rows, int64_t parts, int64_t part) const {
    if (rows.size() == 0) return;
    constexpr int64_t kLine = 64;
    const int64_t row_bytes = k_ * dtype_bytes(args_.a.dtype);
    if (args_.a.transposed) {
      const Range share = split({k_begin_, k_begin_ + k_}, parts, part);
      for (int64_t k = share.begin; k < share.end; ++k) {
        _mm_prefetch(a_at(rows.begin, k), _MM_HINT_T1);
        _mm_prefetch(a_at(rows.end - 1, k), _MM_HINT_T1);
      }
    } else {
      const Range share = split({0, ceil_div(row_bytes, kLine)}, parts, part);
      for (int64_t row = rows.begin; row < rows.end; ++row)
        for (int64_t line = share.begin; line < share.end; ++line)
          _mm_prefetch(a_at(row, k_begin_) + line * kLine, _MM_HINT_T1);
    }
  }

  void multiply_tile(Range rows, int64_t panel, const uint32_t* b, float* partial) {
    const int64_t column = panel * kPanelColumns;
    const int columns = static_cast<int>(std::min<int64_t>(kPanelColumns, args_.n - column));
    const int64_t c_offset = (rows.begin * args_.ldc + column) * dtype_bytes(args_.c_dtype);
    std::byte* c = static_cast<std::byte*>(args_.c) + c_offset;
    const bool direct = last_ && plain_ && columns == kPanelColumns;
    TileJob job = {.a = workspace_.a_tile,
                   .b = b,
                   .num_words = words(k_),
                   .start = first_ ? nullptr : partial,
                   .add = nullptr,
                   .out = last_ ? workspace_.tile : partial,
                   .ld_out = kPanelColumns};
    if (last_) prefetch_c(c, rows.size());
    if (direct) {
      job.out = reinterpret_cast<float*>(c);
      job.ld_out = args_.ldc;
      if (args_.accumulate) job.add = job.out;
      if (args_.addend) job.add = static_cast<const float*>(args_.addend) + rows.begin * args_.ld_addend + column;
    }
    (args_.a.transposed ? tiles_->by_columns : tiles_->by_rows)[rows.size()](job);
    if (last_ && !direct) finish(rows, column, columns, c);
  }

  void prefetch_c(const std::byte* c, int64_t rows) const {
    const int64_t row_bytes = args_.ldc * dtype_bytes(args_.c_dtype);
    for (int64_t r = 0; r < rows; ++r) {
      _mm_prefetch(c + r * row_bytes, _MM_HINT_T0);
      if (args_.c_dtype == DType::kF32) _mm_prefetch(c + r * row_bytes + 64, _MM_HINT_T0);
    }
  }

  void finish(Range rows, int64_t column, int columns, std::byte* c) const {
    const std::byte* addend = static_cast<const std::byte*>(args_.addend);
    if (addend) addend += (rows.begin * args_.ld_addend + column) * dtype_bytes(args_.c_dtype);
    kernels_.finish({.tile = workspace_.tile,
                     .rows = static_cast<int>(rows.size()),
                     .columns = columns,
                     .alpha = args_.alpha,
                     .activation = args_.activation,
                     .accumulate = args_.accumulate,
                     .c_bf16 = args_.c_dtype == DType::kBF16,
                     .bias = args_.bias ? args_.bias + column : nullptr,
                     .addend = addend,
                     .ld_addend = args_.ld_addend,
                     .c = c,
                     .ldc = args_.ldc});
  }

  const GemmKernels& kernels_;
  const GemmArgs& args_;
  Workspace& workspace_;
  bool packed_ = false;
  bool b_pairs_ = false;
  bool a_pairs_ = false;
  bool round_to_bf16_ = false;
  bool plain_ = false;  // whole tiles can go from the registers to C
  const TileFunctions* tiles_ = nullptr;
  int64_t num_k_blocks_ = 0;
  int64_t k_block_ = 0;
  // The block of k at work.
  int64_t k_begin_ = 0;
  int64_t k_ = 0;
  bool first_ = false;
  bool last_ = false;
};

GemmKernels choose_kernels() {
  GemmKernels kernels = select_isa(gemm_kernels<Avx512>(), gemm_kernels<Avx2>());
  if (isa_level() >= IsaLevel::kAvx512Bf16) {
    kernels.name = "avx512bf16";
    kernels.bf16 = dot_product_tiles();
    kernels.pairs_in_a = true;
  }
  return kernels;
}

}  // namespace

const GemmKernels& active_gemm_kernels() {
  static const GemmKernels kernels = choose_kernels();
  return kernels;
}

int64_t tile_rows(const GemmKernels& kernels, const GemmArgs& args) {
  const bool packed_bf16 = args.packed_b.data && args.packed_b.dtype == DType::kBF16;
  return packed_bf16 ? kernels.bf16.max_rows : kernels.f32.max_rows;
}

void multiply_rectangle(const GemmKernels& kernels, const GemmArgs& args, const Rectangle& rectangle, std::byte* workspace) {
  if (rectangle.empty()) return;
  DCHECK(reinterpret_cast<uintptr_t>(workspace) % 64 == 0);
  RectangleRun(kernels, args, *reinterpret_cast<Workspace*>(workspace)).run(rectangle);
}

void pack_panels(const GemmKernels& kernels, const PackPanels& job) {
  const int64_t step = job.b.transposed ? std::max<int64_t>(job.k, 1) : kPackRows;
  for (int64_t k = 0; k < job.k; k += step) {
    for (int64_t panel = job.panel_begin; panel < job.panel_end; ++panel) {
      const int64_t row = job.k_begin + k;
      const int64_t column = panel * kPanelColumns;
      const int64_t element = job.b.transposed ? column * job.b.ld + row : row * job.b.ld + column;
      const int64_t word = (job.pairs ? k / 2 : k) * kPanelColumns;
      (job.pairs ? kernels.pack_b_pairs : kernels.pack_b_f32)(
          {.source = static_cast<const std::byte*>(job.b.data) + element * dtype_bytes(job.b.dtype),
           .ld = job.b.ld,
           .k = std::min(step, job.k - k),
           .columns = static_cast<int>(std::min<int64_t>(kPanelColumns, job.n - column)),
           .source_bf16 = job.b.dtype == DType::kBF16,
           .transposed = job.b.transposed,
           .round_to_bf16 = job.round_to_bf16,
           .panel = job.panels + (panel - job.panel_begin) * job.panel_words + word});
    }
  }
}

}  // namespace colossus::gemm_internal

namespace colossus {

int64_t gemm_workspace_bytes() { return sizeof(gemm_internal::Workspace); }

}  // namespace colossus
