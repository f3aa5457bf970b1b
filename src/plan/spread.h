// What many plays of something random gave.
#pragma once

#include <cstdint>

#include <vector>

namespace colossus {

// Nine of ten values lie between low and high; between two values quantiles are interpolated evenly.
struct Spread {
  double mean = 0, low = 0, median = 0, high = 0;
};
Spread spread_of(std::vector<double> values);  // at least one

// Where the largest of n standard normal numbers lies in the mean (Cramér 1946, 28.6); 0 for one.
double largest_of_normals(int64_t n);

}  // namespace colossus
