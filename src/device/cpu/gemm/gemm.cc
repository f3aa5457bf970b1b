#include "device/cpu/gemm/gemm.h"

#include <algorithm>

#include "base/check.h"
#include "device/cpu/gemm/gemm_block.h"

namespace colossus {
namespace {

using gemm_internal::active_gemm_kernels;
using gemm_internal::GemmKernels;
using gemm_internal::num_panels;
using gemm_internal::Rectangle;

// Below this many multiplications waking the pool costs more than it saves.
constexpr int64_t kSerialMultiplications = 64 * 1024;
// Panels packed together: their rows share pages.
constexpr int64_t kPackGroup = 16;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

void check_args(const GemmArgs& args) {
  DCHECK(args.m >= 0 && args.n >= 0 && args.k >= 0);
  DCHECK(!args.packed_b.data || (args.packed_b.k == args.k && args.packed_b.n == args.n));
  DCHECK(args.c_dtype == DType::kF32 || (args.c_dtype == DType::kBF16 && !args.accumulate));
}

void pack_range(const MatrixRef& b, int64_t k, int64_t n, DType dtype, std::byte* packed, int64_t begin, int64_t end) {
  const bool pairs = dtype == DType::kBF16;
  const int64_t panel_words = (pairs ? (k + 1) / 2 : k) * gemm_internal::kPanelColumns;
  for (int64_t panel = begin; panel < end; panel += kPackGroup) {
    gemm_internal::pack_panels(active_gemm_kernels(),
                               {.b = b,
                                .n = n,
                                .k_begin = 0,
                                .k = k,
                                .panel_begin = panel,
                                .panel_end = std::min(end, panel + kPackGroup),
                                .pairs = pairs,
                                .panels = reinterpret_cast<uint32_t*>(packed) + panel * panel_words,
                                .panel_words = panel_words});
  }
}

// How the pool shares C: `rows` x `columns` rectangles.
struct Grid {
  int64_t rows = 1;
  int64_t columns = 1;
};

// The grid whose busiest thread has least to do: tiles to multiply, and operands that several threads pack again.
// Units: cycles per step of k of a tile with full registers.
Grid choose_grid(const GemmArgs& args, int64_t tile_rows, int64_t num_threads) {
  constexpr int64_t kPackA = 2;
  constexpr int64_t kPackB = 5;
  constexpr int64_t kPanelsPerPackedA = 8;
  Grid best;
  int64_t best_cost = INT64_MAX;
  for (int64_t rows = 1; rows <= num_threads; ++rows) {
    const Grid grid = {rows, num_threads / rows};
    const int64_t tiles = ceil_div(ceil_div(args.m, grid.rows), tile_rows);
    const int64_t panels = ceil_div(num_panels(args.n), grid.columns);
    int64_t cost = tile_rows * tiles * panels + kPackA * tiles * ceil_div(panels, kPanelsPerPackedA);
    if (!args.packed_b.data) cost += kPackB * panels;
    if (cost < best_cost) {
      best = grid;
      best_cost = cost;
    }
  }
  return best;
}

Rectangle grid_part(const GemmArgs& args, const Grid& grid, int64_t part) {
  const int64_t row = part % grid.rows;
  const int64_t column = part / grid.rows;
  if (column >= grid.columns) return {};
  const int64_t panels = num_panels(args.n);
  return {.row_begin = args.m * row / grid.rows,
          .row_end = args.m * (row + 1) / grid.rows,
          .panel_begin = panels * column / grid.columns,
          .panel_end = panels * (column + 1) / grid.columns};
}

// A problem of a group is cut along one side, in units of a panel or of a tile's rows.
struct Cut {
  bool by_panels = false;
  int64_t num_units = 0;
  int64_t unit_cost = 0;
};

Cut cut_of(const GemmArgs& args, int64_t tile_rows) {
  const int64_t tiles = ceil_div(args.m, tile_rows);
  const int64_t panels = num_panels(args.n);
  // A B that is not packed is packed by everyone who shares a row of the grid: cut between its panels where possible.
  const bool by_panels = args.packed_b.data ? panels >= tiles : panels > 1;
  const int64_t steps = std::max<int64_t>(args.k, 1);
  if (by_panels) return {true, panels, tiles * steps};
  return {false, tiles, panels * steps};
}

// The first unit of a problem that starts at `before` which lies at or behind `position`.
int64_t unit_at(const Cut& cut, int64_t before, int64_t position) {
  if (position <= before || cut.unit_cost == 0) return 0;
  return std::min(cut.num_units, ceil_div(position - before, cut.unit_cost));
}

}  // namespace

int64_t packed_bytes(int64_t k, int64_t n, DType dtype) {
  const int64_t words = dtype == DType::kBF16 ? (k + 1) / 2 : k;
  return num_panels(n) * gemm_internal::kPanelColumns * words * 4;
}

void pack_b(const MatrixRef& b, int64_t k, int64_t n, DType dtype, std::byte* packed, ThreadPool& pool) {
  pool.parallel_for(num_panels(n), 1,
                    [&](int64_t begin, int64_t end) { pack_range(b, k, n, dtype, packed, begin, end); });
}

void pack_b_serial(const MatrixRef& b, int64_t k, int64_t n, DType dtype, std::byte* packed) {
  pack_range(b, k, n, dtype, packed, 0, num_panels(n));
}

int64_t pack_rows(bool transposed) { return transposed ? gemm_internal::kPanelColumns : 2; }

void pack_b_part(const MatrixRef& rows, int64_t first, int64_t count, int64_t k, int64_t n, DType dtype,
                 std::byte* packed) {
  DCHECK(first % pack_rows(rows.transposed) == 0);
  const bool pairs = dtype == DType::kBF16;
  const int64_t panel_words = (pairs ? (k + 1) / 2 : k) * gemm_internal::kPanelColumns;
  auto* words = reinterpret_cast<uint32_t*>(packed);
  words += rows.transposed ? first / gemm_internal::kPanelColumns * panel_words
                           : (pairs ? first / 2 : first) * gemm_internal::kPanelColumns;
  const int64_t part_n = rows.transposed ? count : n;
  for (int64_t panel = 0; panel < num_panels(part_n); panel += kPackGroup)
    gemm_internal::pack_panels(active_gemm_kernels(), {.b = rows,
                                                       .n = part_n,
                                                       .k_begin = 0,
                                                       .k = rows.transposed ? k : count,
                                                       .panel_begin = panel,
                                                       .panel_end = std::min(num_panels(part_n), panel + kPackGroup),
                                                       .pairs = pairs,
                                                       .panels = words + panel * panel_words,
                                                       .panel_words = panel_words});
}

void gemm(const GemmArgs& args, ThreadPool& pool, std::byte* workspace) {
  check_args(args);
  if (pool.num_threads() == 1 || args.m * args.n * std::max<int64_t>(args.k, 1) <= kSerialMultiplications)
    return gemm_serial(args, workspace);
  const GemmKernels& kernels = active_gemm_kernels();
  const Grid grid = choose_grid(args, gemm_internal::tile_rows(kernels, args), pool.num_threads());
  pool.run([&](int part) {
    gemm_internal::multiply_rectangle(kernels, args, grid_part(args, grid, part),
                                      workspace + part * gemm_workspace_bytes());
  });
}

void gemm_serial(const GemmArgs& args, std::byte* workspace) {
  check_args(args);
  gemm_internal::multiply_rectangle(active_gemm_kernels(), args, grid_part(args, {}, 0), workspace);
}

void gemm_grouped(std::span<const GemmArgs> problems, ThreadPool& pool, std::byte* workspace) {
  const GemmKernels& kernels = active_gemm_kernels();
  int64_t total = 0;
  for (const GemmArgs& args : problems) {
    check_args(args);
    const Cut cut = cut_of(args, gemm_internal::tile_rows(kernels, args));
    total += cut.num_units * cut.unit_cost;
  }
  // Thread i does what begins in [total * i / n, total * (i + 1) / n) of all problems laid end to end.
  pool.run([&](int part) {
    const int64_t from = total * part / pool.num_threads();
    const int64_t to = total * (part + 1) / pool.num_threads();
    int64_t before = 0;
    for (const GemmArgs& args : problems) {
      const int64_t rows = gemm_internal::tile_rows(kernels, args);
      const Cut cut = cut_of(args, rows);
      const int64_t begin = unit_at(cut, before, from);
      const int64_t end = unit_at(cut, before, to);
      before += cut.num_units * cut.unit_cost;
      Rectangle rectangle = {0, args.m, 0, num_panels(args.n)};
      if (cut.by_panels) {
        rectangle.panel_begin = begin;
        rectangle.panel_end = end;
      } else {
        rectangle.row_begin = std::min(args.m, begin * rows);
        rectangle.row_end = std::min(args.m, end * rows);
      }
      gemm_internal::multiply_rectangle(kernels, args, rectangle, workspace + part * gemm_workspace_bytes());
    }
  });
}

}  // namespace colossus
