// Finds the fitted values of NetworkCalibration (src/device/sim/network.h): those with the least fit_error over the
// rows of configs/validation/collectives.csv that are marked "fit". Coordinate search from the values that are there,
// with ever smaller steps; deterministic. Then prints, for every series, how far the model is off.
//
//   build/release/bench/network_fit [configs/validation]
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <tuple>

#include "device/sim/collective_measurements.h"

namespace colossus {
namespace {

NetworkCalibration fit(const CollectiveMeasurements& measurements) {
  NetworkCalibration best;
  double least = fit_error(measurements, best);
  for (double step = 0.3; step > 0.004;) {
    bool better = false;
    for (const FittedValue& fitted : kFittedValues) {
      for (const double factor : {1 - step, 1 + step}) {
        NetworkCalibration tried = best;
        tried.*fitted.value = std::clamp(tried.*fitted.value * factor, fitted.low, fitted.high);
        const double found = fit_error(measurements, tried);
        if (found >= least - 1e-9) continue;
        least = found;
        best = tried;
        better = true;
      }
    }
    if (!better) step /= 2;
  }
  return best;
}

struct Errors {
  double sum = 0;  // of |model / measured - 1|
  double bias = 0;
  int rows = 0;
  void add(double ratio) {
    sum += std::abs(ratio - 1);
    bias += ratio - 1;
    ++rows;
  }
  std::string text() const {
    return rows == 0 ? std::string(24, ' ')
                     : fmt::format("{:5.1f}% ({:+5.1f}%) {:3} rows", 100 * sum / rows, 100 * bias / rows, rows);
  }
};

void print(const CollectiveMeasurements& measurements, const NetworkCalibration& calibration) {
  fmt::print("mean |log(model / measured)| of what is fitted: {:.4f}\n", fit_error(measurements, calibration));
  for (const FittedValue& fitted : kFittedValues) fmt::print("{:<22} {:.4g}\n", fitted.name, calibration.*fitted.value);
  std::map<std::tuple<MeasurementUse, std::string, CollectiveKind, int64_t>, std::pair<Errors, Errors>> all;
  const std::vector<double> predicted = predicted_seconds(measurements, calibration);
  for (size_t i = 0; i < predicted.size(); ++i) {
    const CollectiveMeasurement& row = measurements.rows[i];
    auto& [large, small] = all[{row.use, measurements.systems[row.system].name, row.kind, row.gpus}];
    (row.bytes >= 1e6 ? large : small).add(predicted[i] / row.seconds);
  }
  fmt::print("{:<8} {:<14} {:<14} {:>5}  mean error (bias) from 1 MB  below\n", "use", "system", "collective", "GPUs");
  for (const auto& [key, errors] : all) {
    const auto& [use, system, kind, gpus] = key;
    const char* const name = use == MeasurementUse::kFit ? "fit" : use == MeasurementUse::kCheck ? "check" : "outlier";
    fmt::print("{:<8} {:<14} {:<14} {:>5}  {}  {}\n", name, system, collective_name(kind), gpus, errors.first.text(),
               errors.second.text());
  }
}

}  // namespace
}  // namespace colossus

int main(int argc, char** argv) {
  using namespace colossus;
  const auto measurements = load_collective_measurements(local_files(), argc > 1 ? argv[1] : "configs/validation");
  if (!measurements.ok()) {
    fmt::print(stderr, "{}\n", measurements.status().message());
    return 1;
  }
  fmt::print("as built\n");
  print(measurements.value(), {});
  fmt::print("\nfitted anew\n");
  print(measurements.value(), fit(measurements.value()));
  return 0;
}
