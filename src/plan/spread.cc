#include "plan/spread.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace colossus {

Spread spread_of(std::vector<double> values) {
  CHECK(!values.empty(), "a spread is of something");
  std::ranges::sort(values);
  const auto quantile = [&](double p) {
    const double at = p * static_cast<double>(values.size() - 1);
    const size_t below = static_cast<size_t>(at), above = std::min(below + 1, values.size() - 1);
    return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
  };
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {sum / static_cast<double>(values.size()), quantile(0.05), quantile(0.5), quantile(0.95)};
}

}  // namespace colossus
