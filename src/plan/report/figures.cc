#include "plan/report/figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/quantity.h"
#include "plan/report/html.h"

namespace colossus {
namespace {

std::string color_class(char color) { return std::string("f") + color; }

// Indices 0 ... count - 1, the middle ones left out (-1 in their place) where there are more than `most`.
std::vector<int64_t> with_gap(int64_t count, int64_t most) {
  std::vector<int64_t> shown;
  if (count <= most) {
    shown.resize(static_cast<size_t>(count));
    std::iota(shown.begin(), shown.end(), 0);
    return shown;
  }
  for (int64_t i = 0; i < most - 2; ++i) shown.push_back(i);
  shown.push_back(-1);
  shown.push_back(count - 1);
  return shown;
}

std::string stage_layers(const Layout& layout, int64_t num_layers, int64_t stage) {
  const auto ranges = cut_layers(num_layers, layout.mesh.pipeline * layout.mesh.chunks);
  std::string text;
  for (int64_t chunk = 0; chunk < layout.mesh.chunks; ++chunk) {
    const LayerRange& range = ranges[static_cast<size_t>(chunk * layout.mesh.pipeline + stage)];
    if (range.begin == range.end) continue;
    if (chunk == 3 && layout.mesh.chunks > 4) return text + ", ...";
    text +=
        (text.empty() ? "" : ", ") + (range.end - range.begin == 1 ? fmt::format("{}", range.begin)
                                                                   : fmt::format("{}-{}", range.begin, range.end - 1));
  }
  return text.empty() ? "no layers" : "layers " + text;
}

// GPUs of one stage of one data rank.
struct Cell {
  int64_t gpus = 1, columns = 1, rows = 1;
  double side = 12;  // of a GPU, with its gap
  double width() const { return static_cast<double>(columns) * side; }
  double height() const { return static_cast<double>(rows) * side; }
};

Cell cell_of(const Layout& layout, int64_t node_gpus) {
  Cell cell;
  cell.gpus = layout.mesh.tensor * layout.mesh.context;
  cell.columns = std::min(cell.gpus, node_gpus);
  cell.rows = (cell.gpus + cell.columns - 1) / cell.columns;
  cell.side = cell.columns <= 2 ? 20 : cell.columns <= 8 ? 15 : 9;
  return cell;
}

// The GPUs of stage `stage` of data rank `data`, at (x, y).
void draw_cell(Svg& svg, const Layout& layout, const Cell& cell, int64_t stage, int64_t data, double x, double y) {
  const MeshConfig& mesh = layout.mesh;
  for (int64_t gpu = 0; gpu < cell.gpus; ++gpu) {
    const int64_t in_stage = data * cell.gpus + gpu, rank = stage * mesh.stage_ranks() + in_stage;
    const int64_t expert = in_stage / mesh.expert_tensor % mesh.expert;
    const char color = mesh.expert > 1 ? static_cast<char>('1' + expert % 8) : '1';
    std::string tip = fmt::format("GPU {}: stage {}, data rank {}, context {}, tensor {}", rank, stage, data,
                                  gpu / mesh.tensor, gpu % mesh.tensor);
    if (mesh.expert > 1) tip += fmt::format(", experts' rank {}", expert);
    svg.rect(x + static_cast<double>(gpu % cell.columns) * cell.side + 1,
             y + static_cast<double>(gpu / cell.columns) * cell.side + 1, cell.side - 2, cell.side - 2,
             color_class(color), tip);
  }
  for (int64_t row = 0; row < cell.rows; ++row)
    svg.rect(x - 1, y + static_cast<double>(row) * cell.side - 1, cell.width() + 2, cell.side + 2, "none");
}

std::string layout_caption(const PlanQuestion& question, const Layout& layout, const Cell& cell) {
  const MeshConfig& mesh = layout.mesh;
  const int64_t node = question.gpu_pool().gpus_per_node;
  std::string text = fmt::format(
      "A square is a GPU; a frame is {}. GPUs of one copy of the model: {}, {} stage{} of {} (tensor {} x context "
      "{}). ",
      cell.columns == node ? fmt::format("a node of {}", node)
                           : fmt::format("the part of a node of {} that one data rank has", node),
      mesh.tensor * mesh.context * mesh.pipeline, mesh.pipeline, mesh.pipeline > 1 ? "s" : "", cell.gpus, mesh.tensor,
      mesh.context);
  if (mesh.chunks > 1) text += fmt::format("Each stage has {} pieces of layers. ", mesh.chunks);
  if (mesh.expert > 1)
    text += fmt::format(
        "Squares of one colour hold the same experts: the {} experts are shared by {} ranks{}, {} such groups in a "
        "stage.",
        question.model.num_experts, mesh.expert,
        mesh.expert_tensor > 1 ? fmt::format(", each expert cut over {}", mesh.expert_tensor) : "",
        with_separators(mesh.expert_data()));
  return text;
}

}  // namespace

std::string seconds_text(double seconds) {
  if (seconds == 0) return "0";
  if (seconds < 1e-3) return fmt::format("{:.0f} us", seconds * 1e6);
  if (seconds < 0.9995) return fmt::format("{:.1f} ms", seconds * 1e3);
  return fmt::format("{:.{}f} s", seconds, seconds < 9.995 ? 2 : 1);
}

std::string bar_figure(const Bar& bar) {
  const double sum = std::accumulate(bar.parts.begin(), bar.parts.end(), 0.0,
                                     [](double all, const BarPart& part) { return all + part.value; });
  const double full = std::max(bar.full > 0 ? bar.full : sum, sum);
  const double top = bar.mark > 0 ? 18 : 2;
  Svg svg(kFigureWidth, top + 34, bar.title);
  svg.rect(0, top, kFigureWidth, 28, "soft");
  double x = 0;
  for (const BarPart& part : bar.parts) {
    const double width = part.value / full * kFigureWidth;
    if (width > 0.2)
      svg.rect(x, top, std::max(0.4, width - 0.6), 28, color_class(part.color), part.name + ": " + part.label);
    if (width > text_width(part.label) + 12) svg.text(x + width / 2, top + 18.5, part.label, "inv", "middle");
    x += width;
  }
  if (bar.mark > 0) {
    const double at = bar.mark / full * kFigureWidth;
    svg.line(at, top - 4, at, top + 32, "strong");
    svg.text(std::min(at, kFigureWidth - 2) - 4, top - 6, bar.mark_label, "m s", "end");
  }
  std::string legend;
  for (const BarPart& part : bar.parts) {
    legend += fmt::format("<tr><td><i class=\"key b{}\"></i>{}</td><td class=\"n\">{}</td>", part.color,
                          escape_html(part.name), escape_html(part.label));
    if (bar.with_shares) legend += fmt::format("<td class=\"n\">{:.1f} %</td>", 100 * part.value / full);
    legend += "</tr>\n";
  }
  return fmt::format("<figure>{}<table>{}</table></figure>\n", svg.finish(), legend);
}

std::string layout_figure(const PlanQuestion& question, const Layout& layout) {
  const MeshConfig& mesh = layout.mesh;
  const Cell cell = cell_of(layout, question.gpu_pool().gpus_per_node);
  const double left = 190, gap = 22, top = 24;
  const int64_t data_ranks = mesh.data * mesh.shard;
  const auto fitting = static_cast<int64_t>((kFigureWidth - left) / (cell.width() + gap));
  const std::vector<int64_t> columns = with_gap(data_ranks, std::clamp<int64_t>(fitting, 3, 16));
  const std::vector<int64_t> rows = with_gap(mesh.pipeline, 10);
  double height = top;
  for (const int64_t row : rows) height += row < 0 ? 20 : std::max(34.0, cell.height() + 14);
  Svg svg(kFigureWidth, height, "the layout: stages by data ranks");
  double x = left;
  svg.text(left - 14, 12, "data rank", "m s", "end");
  for (const int64_t data : columns) {
    const double width = data < 0 ? gap : cell.width();
    svg.text(x + width / 2, 12, data < 0 ? "..." : fmt::format("{}", data), "m s", "middle");
    x += width + gap;
  }
  double y = top;
  for (const int64_t stage : rows) {
    if (stage < 0) {
      svg.text(0, y + 12, "...", "m");
      y += 20;
      continue;
    }
    svg.text(0, y + 11, fmt::format("stage {}", stage), "b");
    svg.text(0, y + 25, fit_text(stage_layers(layout, question.model.num_layers, stage), left - 20), "m s");
    x = left;
    for (const int64_t data : columns) {
      if (data >= 0) draw_cell(svg, layout, cell, stage, data, x, y);
      x += (data < 0 ? gap : cell.width()) + gap;
    }
    y += std::max(34.0, cell.height() + 14);
  }
  return fmt::format("<figure>{}<figcaption>{}</figcaption></figure>\n", svg.finish(),
                     escape_html(layout_caption(question, layout, cell)));
}

}  // namespace colossus
