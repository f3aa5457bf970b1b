#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>
#include <utility>

#include "plan/report/figures.h"
#include "plan/report/html.h"

namespace colossus {
namespace {

constexpr double kLeft = 120, kPlotWidth = kFigureWidth - kLeft - 8, kLaneHeight = 20;
constexpr size_t kBuckets = 700;  // of a lane: more would be narrower than what screens show
constexpr size_t kMostStages = 10;

struct Block {
  double begin = 0, end = 0;  // seconds
  char color = '8';
  std::string tip;
};
struct FigureLane {
  std::string name;
  std::vector<Block> pieces;  // in order, none over another
};

// Where a lane has more pieces than can be seen: in each of kBuckets equal parts of [from, to] the colour that has most
// of it, or none where most of it is idle.
std::vector<Block> in_buckets(const std::vector<Block>& pieces, double from, double to) {
  std::vector<std::array<double, 9>> busy(kBuckets);  // by colour, '0' is idle
  const double width = (to - from) / static_cast<double>(kBuckets);
  for (const Block& piece : pieces) {
    const auto first = static_cast<size_t>(std::clamp((piece.begin - from) / width, 0.0, kBuckets - 1.0));
    const auto last = static_cast<size_t>(std::clamp((piece.end - from) / width, 0.0, kBuckets - 1.0));
    for (size_t i = first; i <= last; ++i) {
      const double begin = from + static_cast<double>(i) * width;
      busy[i][static_cast<size_t>(piece.color - '0')] +=
          std::max(0.0, std::min(piece.end, begin + width) - std::max(piece.begin, begin));
    }
  }
  std::vector<Block> merged;
  for (size_t i = 0; i < kBuckets; ++i) {
    double idle = width;
    for (const double seconds : busy[i]) idle -= seconds;
    busy[i][0] = idle;
    const auto color = static_cast<char>('0' + (std::ranges::max_element(busy[i]) - busy[i].begin()));
    if (color == '0') continue;
    const double begin = from + static_cast<double>(i) * width;
    if (!merged.empty() && merged.back().color == color && begin - merged.back().end < width / 2)
      merged.back().end = begin + width;
    else
      merged.push_back({begin, begin + width, color, ""});
  }
  return merged;
}

struct TimeAxis {
  double from = 0, to = 1;  // seconds
};

std::string picture(const std::string& title, const TimeAxis& axis, const std::vector<FigureLane>& lanes) {
  const double height = static_cast<double>(lanes.size()) * (kLaneHeight + 4) + 26;
  Svg svg(kFigureWidth, height, title);
  double y = 2;
  std::string plot;
  for (const FigureLane& lane : lanes) {
    svg.text(kLeft - 10, y + 14, fit_text(lane.name, kLeft - 14), "m", "end");
    svg.rect(kLeft, y, kPlotWidth, kLaneHeight, "soft");
    const auto pieces = lane.pieces.size() > kBuckets ? in_buckets(lane.pieces, axis.from, axis.to) : lane.pieces;
    for (const Block& piece : pieces) {
      const double scale = kPlotWidth / (axis.to - axis.from);
      const double x = (piece.begin - axis.from) * scale, width = (piece.end - piece.begin) * scale;
      // A hairline of paper between neighbours, as long as they are wide.
      plot += fmt::format("<rect x=\"{:.6g}\" y=\"{:.5g}\" width=\"{:.4g}\" height=\"{}\" class=\"f{}\"", x, y,
                          std::max(0.15, width > 2 ? width - 0.5 : width), kLaneHeight, piece.color);
      plot += piece.tip.empty() ? "/>\n" : fmt::format("><title>{}</title></rect>\n", escape_html(piece.tip));
    }
    y += kLaneHeight + 4;
  }
  // An element of its own cuts off what zooming moves out of it.
  svg.raw(fmt::format("<svg x=\"{}\" y=\"0\" width=\"{}\" height=\"{:.5g}\"><g class=\"plot\">\n{}</g></svg>\n", kLeft,
                      kPlotWidth, y, plot));
  constexpr int kTicks = 6;
  for (int i = 0; i <= kTicks; ++i) {
    const double share = static_cast<double>(i) / kTicks, x = kLeft + share * kPlotWidth;
    svg.line(x, y, x, y + 4);
    svg.raw(
        fmt::format("<text class=\"tick m s\" data-at=\"{:.5g}\" x=\"{:.5g}\" y=\"{:.5g}\" text-anchor=\"{}\">{}"
                    "</text>\n",
                    share, x, y + 17,
                    i == 0        ? "start"
                    : i == kTicks ? "end"
                                  : "middle",
                    seconds_text(axis.from + share * (axis.to - axis.from))));
  }
  return svg.finish(
      fmt::format("class=\"zoom\" data-left=\"{}\" data-width=\"{}\" data-from=\"{:.9g}\" data-to=\"{:.9g}\"", kLeft,
                  kPlotWidth, axis.from, axis.to));
}

char pass_color(PipelineWork work) {
  switch (work) {
    case PipelineWork::kForward: return '1';
    case PipelineWork::kBackward:
    case PipelineWork::kBackwardInput: return '2';
    case PipelineWork::kBackwardWeight: return '4';
  }
  return '8';
}

char operation_color(const std::string& lane, const std::string& name) {
  if (lane != "compute") return '3';
  if (name.starts_with("attention")) return '4';
  if (name.find("matmul") != std::string::npos || name.find("cross_entropy") != std::string::npos) return '1';
  return '8';
}

std::string tip_of(const TimelineSpan& span) {
  return fmt::format("{}{}{}, {}", span.name, span.scope.empty() ? "" : " ", span.scope,
                     seconds_text(span.end - span.begin));
}

std::vector<size_t> shown_stages(size_t count) {
  std::vector<size_t> shown;
  for (size_t i = 0; i < count; ++i)
    if (count <= kMostStages || i < kMostStages / 2 || i + kMostStages / 2 >= count) shown.push_back(i);
  return shown;
}

// What follows the last backward pass, and the time by which the slowest rank is later.
void add_update(const StepTime& time, double after, FigureLane& lane) {
  for (const auto& [name, seconds, color] : {std::tuple{"gradients and parameters", time.exposed_data, '3'},
                                             {"optimizer", time.update, '6'},
                                             {"the slowest of all ranks", time.straggling, '8'}}) {
    if (seconds <= 0) continue;
    lane.pieces.push_back({after, after + seconds, color, fmt::format("{}, {}", name, seconds_text(seconds))});
    after += seconds;
  }
}

std::string key(char color, const char* name) {
  return fmt::format("<i class=\"key b{}\"></i>{} &nbsp; ", color, name);
}

// One pass of a stage with its operations.
std::string pass_figure(const StageTimeline& stage, const std::string& title, const TimelineSpan& pass) {
  std::vector<FigureLane> lanes;
  for (const TimelineLane& lane : stage.lanes) {
    if (lane.name == "passes") continue;
    FigureLane& shown = lanes.emplace_back(FigureLane{lane.name, {}});
    for (const TimelineSpan& span : lane.spans)
      if (span.begin >= pass.begin - 1e-12 && span.end <= pass.end + 1e-9)
        shown.pieces.push_back(
            {span.begin - pass.begin, span.end - pass.begin, operation_color(lane.name, span.name), tip_of(span)});
    if (shown.pieces.empty()) lanes.pop_back();
  }
  return fmt::format("<h3>{}</h3>\n{}", escape_html(title), picture(title, {0, pass.end - pass.begin}, lanes));
}

}  // namespace

std::string timeline_figures(const std::vector<StageTimeline>& stages, const StepTime& time) {
  double makespan = 0;
  for (const StageTimeline& stage : stages)
    for (const TimelineSpan& span : stage.lanes.front().spans) makespan = std::max(makespan, span.end);
  std::vector<FigureLane> lanes;
  for (const size_t number : shown_stages(stages.size())) {
    FigureLane& lane = lanes.emplace_back(FigureLane{fmt::format("stage {}", number), {}});
    for (const TimelineSpan& span : stages[number].lanes.front().spans)
      lane.pieces.push_back({span.begin, span.end, pass_color(span.work), tip_of(span)});
    add_update(time, makespan, lane);
  }
  const double whole = makespan + time.exposed_data + time.update + time.straggling;
  std::string html = "<figure>" + picture("a step on every stage", {0, whole}, lanes);
  html += "<figcaption>";
  html += stages.size() == 1 ? key('1', "a microbatch, forward and backward") : key('1', "forward");
  if (stages.size() > 1) html += key('2', "backward");
  const bool split = std::ranges::any_of(stages.front().lanes.front().spans, [](const TimelineSpan& span) {
    return span.work == PipelineWork::kBackwardWeight;
  });
  if (split) html += key('4', "gradients of weights");
  html += key('3', "gradients and parameters") + key('6', "optimizer") + key('8', "the slowest rank");
  if (stages.size() > kMostStages)
    html += fmt::format("<br>Of {} stages the first and the last are shown. ", stages.size());
  html += "<br><span class=\"noprint\">Ctrl and the wheel zoom, dragging moves, a double click shows all again.</span>";
  html += "</figcaption></figure>\n<figure>";
  for (size_t number = 0; number < stages.size(); number += std::max<size_t>(1, stages.size() - 1)) {
    std::array<bool, kNumPipelineWorks> seen{};
    for (const TimelineSpan& span : stages[number].lanes.front().spans)
      if (!std::exchange(seen[static_cast<size_t>(span.work)], true))
        html +=
            pass_figure(stages[number],
                        fmt::format("stage {}: {}, {}", number, span.name, seconds_text(span.end - span.begin)), span);
  }
  html += "<figcaption>" + key('1', "matrix products") + key('4', "attention") + key('8', "all else on the GPU") +
          key('3', "communication, by group") + "</figcaption></figure>\n";
  return html;
}

}  // namespace colossus
