#include "device/sim/collective_measurements.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include "io/config.h"

namespace colossus {
namespace {

struct Systems {
  std::vector<MeasuredSystem> systems;
  void visit_fields(FieldVisitor& v) { v.list("systems", systems, "machines that were measured"); }
};

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(at, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

template <class T>
bool read_number(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

// "" or what is wrong.
std::string read_row(std::string_view line, const std::vector<MeasuredSystem>& systems, CollectiveMeasurement& row) {
  const std::vector<std::string_view> cells = split(line, ',');
  if (cells.size() < 7) return "needs use,system,collective,gpus,bytes,time_us,source";
  constexpr std::array<std::pair<std::string_view, MeasurementUse>, 3> kUses = {
      {{"fit", MeasurementUse::kFit}, {"check", MeasurementUse::kCheck}, {"outlier", MeasurementUse::kOutlier}}};
  const auto use = std::find_if(kUses.begin(), kUses.end(), [&](const auto& u) { return u.first == cells[0]; });
  if (use == kUses.end()) return fmt::format("use \"{}\" is not fit, check or outlier", cells[0]);
  row.use = use->second;
  const auto system = std::find_if(systems.begin(), systems.end(), [&](const auto& s) { return s.name == cells[1]; });
  if (system == systems.end()) return fmt::format("system \"{}\" is not in networks.toml", cells[1]);
  row.system = static_cast<size_t>(system - systems.begin());
  const auto kind = std::find_if(kCollectiveKinds.begin(), kCollectiveKinds.end(),
                                 [&](CollectiveKind k) { return collective_name(k) == cells[2]; });
  if (kind == kCollectiveKinds.end()) return fmt::format("\"{}\" is no collective", cells[2]);
  row.kind = *kind;
  double time_us = 0;
  if (!read_number(cells[3], row.gpus) || row.gpus < 2)
    return fmt::format("gpus \"{}\" is no number above 1", cells[3]);
  if (!read_number(cells[4], row.bytes) || row.bytes <= 0) return fmt::format("bytes \"{}\" is no size", cells[4]);
  if (!read_number(cells[5], time_us) || time_us <= 0) return fmt::format("time_us \"{}\" is no time", cells[5]);
  row.seconds = time_us * 1e-6;
  row.source = cells[6];
  return "";
}

}  // namespace

void MeasuredSystem::visit_fields(FieldVisitor& v) {
  v.field("name", name, "of the system in collectives.csv");
  v.field("harness_us", harness_us, "that the benchmark adds to each call", {.min = 0});
  v.field("device_initiated", device_initiated, "whether kernels post what they send to the NIC themselves");
  v.group("network", network, "its links");
}

Result<CollectiveMeasurements> load_collective_measurements(FileSystem& files, const std::string& directory) {
  CollectiveMeasurements out;
  ASSIGN_OR_RETURN(Systems systems, load_config<Systems>(files, directory + "/networks.toml"));
  out.systems = std::move(systems.systems);
  const std::string path = directory + "/collectives.csv";
  ASSIGN_OR_RETURN(const std::string text, read_file(files, path));
  const std::vector<std::string_view> lines = split(text, '\n');
  for (size_t i = 1; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    CollectiveMeasurement row;
    const std::string fault = read_row(lines[i], out.systems, row);
    if (!fault.empty()) return invalid(fault).at(fmt::format("{}:{}", path, i + 1));
    out.rows.push_back(std::move(row));
  }
  return out;
}

std::vector<double> predicted_seconds(const CollectiveMeasurements& measurements,
                                      const NetworkCalibration& calibration) {
  std::map<std::pair<size_t, int64_t>, PlacedGroup> groups;
  std::vector<double> seconds;
  for (const CollectiveMeasurement& row : measurements.rows) {
    const MeasuredSystem& system = measurements.systems[row.system];
    const auto key = std::pair(row.system, row.gpus);
    auto group = groups.find(key);
    if (group == groups.end()) {
      const NetworkSpec& spec = system.network;
      NetworkCalibration own = calibration;
      own.device_initiated = system.device_initiated;
      const MeshGroup all = {.axes = {{.size = row.gpus, .stride = 1}}};
      group = groups.emplace(key, Network(spec, own).place(place_group(spec, all))).first;
    }
    const double sent = bytes_sent_of_size(row.kind, row.bytes, row.gpus);
    seconds.push_back(group->second.time_of(row.kind, sent).seconds + system.harness_us * 1e-6);
  }
  return seconds;
}

double fit_error(const CollectiveMeasurements& measurements, const NetworkCalibration& calibration) {
  struct Series {
    double sum = 0;
    int rows = 0;
    double weight = 1;
  };
  std::map<std::tuple<size_t, CollectiveKind, int64_t>, Series> all;
  const std::vector<double> predicted = predicted_seconds(measurements, calibration);
  for (size_t i = 0; i < predicted.size(); ++i) {
    const CollectiveMeasurement& row = measurements.rows[i];
    if (row.use != MeasurementUse::kFit) continue;
    Series& series = all[{row.system, row.kind, row.gpus}];
    series.sum += std::abs(std::log(predicted[i] / row.seconds));
    ++series.rows;
    series.weight = measurements.systems[row.system].name.starts_with("h100") ? 2 : 1;
  }
  double sum = 0;
  double weights = 0;
  for (const auto& [key, series] : all) {
    sum += series.weight * series.sum / series.rows;
    weights += series.weight;
  }
  return sum / weights;
}

}  // namespace colossus
