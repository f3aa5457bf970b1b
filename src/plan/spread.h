// What many plays of something random gave.
#pragma once

#include <vector>

namespace colossus {

// Nine of ten values lie between low and high; between two values quantiles are interpolated evenly.
struct Spread {
  double mean = 0, low = 0, median = 0, high = 0;
};
Spread spread_of(std::vector<double> values);  // at least one

}  // namespace colossus
