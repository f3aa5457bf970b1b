#include "node_check/figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace colossus {

const Figure* find_figure(std::string_view name) {
  for (const Figure& figure : kFigures)
    if (name == figure.name) return &figure;
  return nullptr;
}

const std::optional<double>& Expected::of(std::string_view figure) const {
  const Figure* found = find_figure(figure);
  CHECK(found != nullptr);
  return values[static_cast<size_t>(found - kFigures.data())];
}

std::optional<double>& Expected::of(std::string_view figure) {
  return const_cast<std::optional<double>&>(std::as_const(*this).of(figure));
}

Expected expected_of(const NodeReport& report) {
  Expected expected;
  for (const Figure& figure : kFigures)
    if (const CheckResult* result = report.find(figure.name); result != nullptr && result->value.value_or(0) > 0)
      expected.of(figure.name) = result->value;
  const auto whole = [&](const char* name) -> std::optional<int64_t> {
    const CheckResult* result = report.find(name);
    if (result == nullptr || !result->value) return std::nullopt;
    return static_cast<int64_t>(std::llround(*result->value));
  };
  expected.gpus = whole("gpus");
  expected.nvlinks_per_gpu = whole("nvlinks");
  return expected;
}

CheckResult make_figure(std::string_view name, double value) {
  const Figure* figure = find_figure(name);
  CHECK(figure != nullptr);
  return {.name = figure->name, .value = value, .unit = figure->unit};
}

void compare(CheckResult& result, double expected, const std::string& expected_from) {
  const Figure* figure = find_figure(result.name);
  if (figure == nullptr || !result.value || !(expected > 0)) return;
  result.expected = expected;
  result.expected_from = expected_from;
  const double share = *result.value / expected;
  if (figure->more_is_better && share < 1 - figure->tolerance)
    result.worsen(Verdict::kSlow, fmt::format("{:.0f} % below what is expected", 100 * (1 - share)));
  if (!figure->more_is_better && share > 1 + figure->tolerance)
    result.worsen(Verdict::kSlow, fmt::format("{:.1f} times what is expected", share));
}

void compare_all(NodeReport& report, const Expected& expected, const std::string& expected_from) {
  for (CheckResult& result : report.results) {
    if (find_figure(result.name) == nullptr) continue;
    if (const auto& value = expected.of(result.name)) compare(result, *value, expected_from);
  }
}

double median(std::vector<double> values) {
  CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace colossus
