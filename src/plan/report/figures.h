// The pictures of the report, each a function of what it shows.
#pragma once

#include <string>
#include <vector>

#include "plan/report/report.h"

namespace colossus {

inline constexpr double kFigureWidth = 960;  // pixels

// A named share of a bar, with the class of its colour ("1" ... "8").
struct BarPart {
  std::string name;
  double value = 0;
  char color = '8';
  std::string label;  // the value as people read it
};
// One bar with a legend below it. `full`: what the whole width is; 0: the parts' sum. `mark`: a place that is marked
// with `mark_label` where it is not 0.
struct Bar {
  std::string title;
  std::vector<BarPart> parts;
  double full = 0, mark = 0;
  std::string mark_label;
  bool with_shares = true;  // of the whole, in the legend
};
std::string bar_figure(const Bar& bar);

// Stages of the pipeline by data ranks; in each cell the GPUs of one stage of one copy of the model, a row for a node,
// coloured by the experts they hold.
std::string layout_figure(const PlanQuestion& question, const Layout& layout);

// All stages over the whole step, then what one forward and one backward pass do on the first and on the last stage.
std::string timeline_figures(const std::vector<StageTimeline>& stages, const StepTime& time);

// The effect of both ends of each assumption's range on one figure, the largest first.
struct Tornado {
  std::string title, unit;
  double base = 0;   // as assumed
  double noise = 0;  // effects of another useful share than base_useful that are below it are chance, and left out
  double base_useful = 0;
  bool relative = true;             // effects in percent of the base; else in points
  double RunAnswer::*of = nullptr;  // null: dollars
  size_t most = 12;
};
// "" where nothing has an effect.
std::string tornado_figure(const Tornado& tornado, const std::vector<SensitivityRow>& rows);

// "1.23 s", "45.6 ms".
std::string seconds_text(double seconds);

}  // namespace colossus
