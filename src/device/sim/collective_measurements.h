// Published times of collectives on real machines: configs/validation/collectives.csv and networks.toml.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "device/sim/network.h"
#include "io/file_system.h"

namespace colossus {

enum class MeasurementUse {
  kFit,      // the calibration's values were found with these
  kCheck,    // they never saw these
  kOutlier,  // first calls and the like: in the table, in no mean
};

struct MeasuredSystem {
  std::string name;
  double harness_us = 0;          // that the benchmark adds to each call
  bool device_initiated = false;  // NetworkCalibration's
  NetworkSpec network;
  void visit_fields(FieldVisitor& v);
};

struct CollectiveMeasurement {
  MeasurementUse use = MeasurementUse::kCheck;
  size_t system = 0;  // its place in CollectiveMeasurements::systems
  CollectiveKind kind = CollectiveKind::kAllReduce;
  int64_t gpus = 0;  // from the first of the system on
  double bytes = 0;  // what nccl-tests calls size
  double seconds = 0;
  std::string source;
};

struct CollectiveMeasurements {
  std::vector<MeasuredSystem> systems;
  std::vector<CollectiveMeasurement> rows;
};

// Reads both files of `directory`.
Result<CollectiveMeasurements> load_collective_measurements(FileSystem& files, const std::string& directory);

// What the model says to each row.
std::vector<double> predicted_seconds(const CollectiveMeasurements& measurements,
                                      const NetworkCalibration& calibration);

// What the calibration's fitted values minimize: the mean of |log(model / measured)| over rows to fit, each series
// (machine, collective, size of group) counting as much, those of H100 twice.
double fit_error(const CollectiveMeasurements& measurements, const NetworkCalibration& calibration);

// The values that are fitted, with where they may lie.
struct FittedValue {
  std::string_view name;
  double NetworkCalibration::*value;
  double low;
  double high;
};
inline constexpr std::array<FittedValue, 10> kFittedValues = {{
    {"launch_us", &NetworkCalibration::launch_us, 1, 20},
    {"chunk_domain_us", &NetworkCalibration::chunk_domain_us, 0, 10},
    {"chunk_network_us", &NetworkCalibration::chunk_network_us, 0, 40},
    {"proxy_us", &NetworkCalibration::proxy_us, 0, 10},
    {"in_switch_efficiency", &NetworkCalibration::in_switch_efficiency, 0.7, 1.3},
    {"in_switch_peer_us", &NetworkCalibration::in_switch_peer_us, 0, 3},
    {"nic_efficiency", &NetworkCalibration::nic_efficiency, 0.8, 0.99},
    {"domain_fill", &NetworkCalibration::domain_fill, 0, 3},
    {"network_fill", &NetworkCalibration::network_fill, 0, 3},
    {"message_us", &NetworkCalibration::message_us, 0, 5},
}};

}  // namespace colossus
