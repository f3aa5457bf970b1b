#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/quantity.h"
#include "plan/report/figures.h"
#include "plan/report/html.h"

namespace colossus {
namespace {

constexpr double kLabelWidth = 400, kRowHeight = 34, kValueRoom = 64;

struct Effect {
  const SensitivityRow* row = nullptr;
  std::array<std::optional<double>, 2> at;  // percent or points
  double largest() const { return std::max(std::abs(at[0].value_or(0)), std::abs(at[1].value_or(0))); }
};

std::optional<double> value_of(const Tornado& tornado, const std::optional<RunAnswer>& answer) {
  if (!answer) return std::nullopt;
  return tornado.of ? std::optional(*answer.*tornado.of) : answer->usd_per_step;
}

std::vector<Effect> effects_of(const Tornado& tornado, const std::vector<SensitivityRow>& rows) {
  std::vector<Effect> effects;
  for (const SensitivityRow& row : rows) {
    Effect effect{.row = &row, .at = {}};
    for (size_t end = 0; end < 2; ++end) {
      const std::optional<double> value = value_of(tornado, row.at[end]);
      if (!value) continue;
      const double chance = row.at[end]->useful == tornado.base_useful ? 0 : tornado.noise;
      if (std::abs(*value - tornado.base) > chance)
        effect.at[end] = 100 * (tornado.relative ? *value / tornado.base - 1 : *value - tornado.base);
    }
    if (effect.largest() >= 0.005) effects.push_back(effect);
  }
  std::ranges::stable_sort(effects, std::greater<>(), &Effect::largest);
  return effects;
}

std::string number_text(double value) {
  if (value == 0) return "0";
  return std::abs(value) >= 10'000 ? format_quantity(value) : fmt::format("{:.4g}", value);
}

}  // namespace

std::string tornado_figure(const Tornado& tornado, const std::vector<SensitivityRow>& rows) {
  std::vector<Effect> effects = effects_of(tornado, rows);
  if (effects.empty()) return "";
  const size_t left_out = effects.size() > tornado.most ? effects.size() - tornado.most : 0;
  if (left_out > 0) effects.resize(tornado.most);
  double least = 0, most = 0;
  for (const Effect& effect : effects)
    for (const std::optional<double>& at : effect.at) {
      least = std::min(least, at.value_or(0));
      most = std::max(most, at.value_or(0));
    }
  const double plot = kFigureWidth - kLabelWidth - 2 * kValueRoom, scale = plot / (most - least);
  const double zero = kLabelWidth + kValueRoom - least * scale;
  Svg svg(kFigureWidth, static_cast<double>(effects.size()) * kRowHeight + 4, tornado.title);
  double y = 2;
  for (const Effect& effect : effects) {
    const AssumedNumber& assumed = effect.row->assumed;
    svg.text(0, y + 13, fit_text(assumed.path, kLabelWidth - 10));
    svg.text(0, y + 27,
             fmt::format("{} to {}, assumed {}", number_text(assumed.low), number_text(assumed.high),
                         number_text(assumed.value)),
             "m s");
    const bool one_side = effect.at[0] && effect.at[1] && (*effect.at[0] > 0) == (*effect.at[1] > 0);
    for (size_t end = 0; end < 2; ++end) {
      if (!effect.at[end]) continue;
      const double change = *effect.at[end], width = std::abs(change) * scale;
      const double height = one_side ? 10 : 20, top = y + 5 + (one_side && end == 1 ? 10 : 0);
      svg.rect(change < 0 ? zero - width : zero, top, std::max(1.0, width), height, end == 0 ? "f1" : "f3",
               fmt::format("{} = {}: {:+.2f} {}", assumed.path, number_text(end == 0 ? assumed.low : assumed.high),
                           change, tornado.unit));
      svg.text(change < 0 ? zero - width - 5 : zero + width + 5, top + height / 2 + 4, fmt::format("{:+.2f}", change),
               "s", change < 0 ? "end" : "start");
    }
    y += kRowHeight;
  }
  svg.line(zero, 0, zero, y, "strong");
  return fmt::format(
      "<figure><h3>{}</h3>{}<figcaption><i class=\"key b1\"></i>at the low end of the range &nbsp; "
      "<i class=\"key b3\"></i>at the high end; {}{}</figcaption></figure>\n",
      escape_html(tornado.title), svg.finish(), escape_html(tornado.unit),
      left_out > 0 ? fmt::format("; {} smaller ones are in the table", left_out) : "");
}

}  // namespace colossus
