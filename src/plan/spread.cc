#include "plan/spread.h"

#include <algorithm>
#include <cmath>
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

double largest_of_normals(int64_t n) {
  if (n < 2) return 0;
  // Near sqrt(2 ln n); with the next term of the expansion.
  const double root = std::sqrt(2 * std::log(static_cast<double>(n)));
  const double correction = (std::log(std::log(static_cast<double>(n)) + 1e-9) + std::log(4 * M_PI)) / (2 * root);
  return std::max(0.56, root - correction);  // 0.56: of two
}

}  // namespace colossus
