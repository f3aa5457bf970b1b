#include "device/cpu/gemm/gemm_block.h"

#include <algorithm>

#include "base/check.h"
#include "base/platform.h"

namespace colossus::gemm_internal {
namespace {

// Blocking for 32 KB of L1 and 1 MB of L2 per core. A block of B, kBlockPanels panels of kBlockWords words (384 KB),
// and kResidentTiles packed tiles of A (as much) stay in L2. What is packed on the way must serve often, since a copy
// costs about one cycle per element where a multiplication of 64 costs one: a row-major A that the kernels can read in
// place is packed only where at least kManyPanels of B read it. Where k takes several blocks, unfinished tiles of C
// wait in a buffer, about as large as L2 where B comes packed, larger where packing is to be saved.
constexpr int64_t kBlockPanels = 8;
constexpr int64_t kResidentTiles = 16;
constexpr int64_t kManyPanels = 24;
constexpr int64_t kInPlaceRows = 4;  // so few are never worth packing
constexpr int64_t kSmallRows = 448;
constexpr int64_t kLargeRows = 672;
constexpr int64_t kLargePanels = 24;
constexpr int64_t kMaxTiles = kLargeRows / kMaxTileRows;
// Rows that are a multiple of this many bytes apart fall into one or two sets of L1 and drive each other out.
constexpr int64_t kCollidingBytes = 2048;
constexpr int64_t kTileFloats = int64_t{kMaxTileRows} * kPanelColumns;
constexpr int64_t kPanelBlockWords = int64_t{kBlockWords} * kPanelColumns;
// What is stored by k is packed in squarish pieces: a panel's or tile's elements lie on as many pages as there are k.
constexpr int64_t kPackRows = 32;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

struct Workspace {
  alignas(64) uint32_t a_block[kTileBytes / 4 * kMaxTiles];
  alignas(64) float tile[kTileFloats];  // a finished sum on its way to the epilogue
  alignas(64) float partial[kLargeRows * kPanelColumns * kLargePanels];
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
    direct_a_ = reads_a_in_place();
    a_stride_ = args.a.ld / (a_pairs_ ? 2 : 1);
    num_k_blocks_ = std::max<int64_t>(1, ceil_div(args.k, a_pairs_ ? 2 * kBlockWords : kBlockWords));
    k_block_ = round_up(ceil_div(args.k, num_k_blocks_), 32);
    plain_ = args.alpha == 1.0F && !args.bias && args.activation == GemmActivation::kNone &&
             args.c_dtype == DType::kF32 && !(args.addend && (args.accumulate || args.ld_addend != args.ldc));
  }

  void run(const Rectangle& rectangle) {
    rows_ = {rectangle.row_begin, rectangle.row_end};
    const Range panels = {rectangle.panel_begin, rectangle.panel_end};
    num_tiles_ = ceil_div(rows_.size(), tiles_->max_rows);
    int64_t super_tiles = std::min(kMaxTiles, (packed_ ? kSmallRows : kLargeRows) / tiles_->max_rows);
    int64_t super_panels = direct_a_ ? kBlockPanels : kLargePanels;
    if (num_k_blocks_ == 1) {  // nothing waits
      super_tiles = direct_a_ ? num_tiles_ : kResidentTiles;
      super_panels = panels.size();
    }
    const int64_t num_row_blocks = ceil_div(num_tiles_, super_tiles);
    const int64_t num_panel_blocks = ceil_div(panels.size(), super_panels);
    for (int64_t i = 0; i < num_row_blocks; ++i)
      for (int64_t j = 0; j < num_panel_blocks; ++j)
        for (int64_t block = 0; block < num_k_blocks_; ++block)
          multiply_super_block(split({0, num_tiles_}, num_row_blocks, i), split(panels, num_panel_blocks, j), block);
  }

 private:
  // All of these tiles and panels for one block of k.
  void multiply_super_block(Range tiles, Range panels, int64_t block) {
    k_begin_ = std::min(block * k_block_, args_.k);
    k_ = std::min(k_block_, args_.k - k_begin_);
    first_ = block == 0;
    last_ = block == num_k_blocks_ - 1;
    if (args_.a.transposed) pack_a_block(tiles);
    float* partial = workspace_.partial;
    const int64_t num_blocks = ceil_div(panels.size(), kBlockPanels);
    for (int64_t i = 0; i < num_blocks; ++i) {
      const Range columns = split(panels, num_blocks, i);
      if (!packed_) pack_b_block(columns);
      for (int64_t t = tiles.begin; t < tiles.end; ++t) {
        const Range rows = rows_of(t);
        const bool packs_rows = i == 0 && !direct_a_ && !args_.a.transposed;
        if (packs_rows) pack_a(t, a_tile(t - tiles.begin), 0, k_);
        const uint32_t* a =
            direct_a_ ? reinterpret_cast<const uint32_t*>(a_at(rows.begin, k_begin_)) : a_tile(t - tiles.begin);
        for (int64_t p = columns.begin; p < columns.end; ++p) {
          fetch_next_rows(packs_rows ? t + 1 : num_tiles_, kFetchRuns * (p - columns.begin), a);
          multiply_tile(a, rows, p, panel_words(p, columns), partial);
          partial += tiles_->max_rows * kPanelColumns;
        }
      }
    }
  }

  Range rows_of(int64_t tile) const { return split(rows_, num_tiles_, tile); }
  uint32_t* a_tile(int64_t tile) const { return workspace_.a_block + tile * (kTileBytes / 4); }
  // A is in rows of the kernel's words, and its rows do not drive each other out of L1.
  bool reads_a_in_place() const {
    if (args_.a.transposed) return false;
    if (a_pairs_ && (args_.a.dtype != DType::kBF16 || args_.a.ld % 2 != 0 || args_.k % 2 != 0)) return false;
    if (!a_pairs_ && (args_.a.dtype != DType::kF32 || round_to_bf16_)) return false;
    const bool colliding = args_.a.ld * dtype_bytes(args_.a.dtype) % kCollidingBytes == 0;
    return args_.m <= kInPlaceRows || (num_panels(args_.n) < kManyPanels && !colliding);
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

  // All tiles of a transposed A: pieces of few k, whose rows lie on few pages.
  void pack_a_block(Range tiles) {
    for (int64_t k = 0; k < k_; k += kPackRows)
      for (int64_t t = tiles.begin; t < tiles.end; ++t)
        pack_a(t, a_tile(t - tiles.begin), k, std::min(kPackRows, k_ - k));
  }

  void pack_a(int64_t tile, uint32_t* to, int64_t k_begin, int64_t k) {
    const Range rows = rows_of(tile);
    (a_pairs_ ? kernels_.pack_a_pairs
              : kernels_.pack_a_f32)({.source = a_at(rows.begin, k_begin_ + k_begin),
                                      .ld = args_.a.ld,
                                      .k = k,
                                      .columns = static_cast<int>(rows.size()),
                                      .source_bf16 = args_.a.dtype == DType::kBF16,
                                      .k_contiguous = !args_.a.transposed,
                                      .round_to_bf16 = round_to_bf16_,
                                      .even_k = true,
                                      .to = to + (a_pairs_ ? k_begin / 2 : k_begin) * kTileColumn});
  }

  // While a tile is multiplied, rows [first, first + kFetchRuns) of the tile that is packed next come nearer.
  void fetch_next_rows(int64_t tile, int64_t first, const uint32_t* nothing) {
    const bool wanted = tile < num_tiles_ && first < rows_of(tile).size();
    fetch_ = wanted ? a_at(rows_of(tile).begin + first, k_begin_) : reinterpret_cast<const std::byte*>(nothing);
    fetch_stride_ = wanted ? args_.a.ld * dtype_bytes(args_.a.dtype) : 0;
  }

  void multiply_tile(const uint32_t* a, Range rows, int64_t panel, const uint32_t* b, float* partial) {
    const int64_t column = panel * kPanelColumns;
    const int columns = static_cast<int>(std::min<int64_t>(kPanelColumns, args_.n - column));
    const int64_t c_offset = (rows.begin * args_.ldc + column) * dtype_bytes(args_.c_dtype);
    std::byte* c = static_cast<std::byte*>(args_.c) + c_offset;
    const bool direct = last_ && plain_ && columns == kPanelColumns;
    TileJob job = {.a = a,
                   .a_stride = a_stride_,
                   .b = b,
                   .num_words = words(k_),
                   .start = first_ ? nullptr : partial,
                   .add = nullptr,
                   .out = last_ ? workspace_.tile : partial,
                   .ld_out = kPanelColumns,
                   .fetch = reinterpret_cast<const char*>(fetch_),
                   .fetch_stride = fetch_stride_};
    if (direct) {
      job.out = reinterpret_cast<float*>(c);
      job.ld_out = args_.ldc;
      if (args_.accumulate) job.add = job.out;
      if (args_.addend) job.add = static_cast<const float*>(args_.addend) + rows.begin * args_.ld_addend + column;
    }
    (direct_a_ ? tiles_->in_place : tiles_->packed)[rows.size()](job);
    if (last_ && !direct) finish(rows, column, columns, c);
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
  bool direct_a_ = false;
  const TileFunctions* tiles_ = nullptr;
  int64_t a_stride_ = 0;  // words
  Range rows_;
  int64_t num_tiles_ = 0;
  int64_t num_k_blocks_ = 0;
  int64_t k_block_ = 0;
  // The block of k at work.
  int64_t k_begin_ = 0;
  int64_t k_ = 0;
  const std::byte* fetch_ = nullptr;
  int64_t fetch_stride_ = 0;
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

void multiply_rectangle(const GemmKernels& kernels, const GemmArgs& args, const Rectangle& rectangle,
                        std::byte* workspace) {
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
           .k_contiguous = job.b.transposed,
           .round_to_bf16 = job.round_to_bf16,
           .even_k = false,
           .to = job.panels + (panel - job.panel_begin) * job.panel_words + word});
    }
  }
}

}  // namespace colossus::gemm_internal

namespace colossus {

int64_t gemm_workspace_bytes() { return sizeof(gemm_internal::Workspace); }

}  // namespace colossus
