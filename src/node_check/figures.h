// The figures that are compared between machines, and what is expected of them.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "io/config.h"
#include "node_check/report.h"

namespace colossus {

struct Figure {
  const char* name;
  const char* unit;
  bool more_is_better;
  double tolerance;  // worse than expected by more than this share is slow
  const char* help;
};

// Latencies and disks vary between machines that are alike; rates of processors and links do not.
inline constexpr std::array<Figure, 9> kFigures = {{
    {"gemm_core", "GFLOP/s", true, 0.1, "matrix products on the slowest core while all cores work"},
    {"gemm_all", "GFLOP/s", true, 0.1, "one large matrix product on all cores"},
    {"memory_read", "GB/s", true, 0.1, "reading memory with all cores"},
    {"memory_copy", "GB/s", true, 0.1, "copying memory with all cores; bytes read and written"},
    {"disk_write", "MB/s", true, 0.3, "writing a file, until it is on the disk"},
    {"disk_read", "MB/s", true, 0.3, "reading it back"},
    {"disk_sync", "ms", false, 1.0, "median time of fsync after 4 KiB"},
    {"link_bandwidth", "MB/s", true, 0.1, "sending to the slowest partner"},
    {"link_latency", "us", false, 1.0, "one way to the farthest partner, half of the median round trip"},
}};

const Figure* find_figure(std::string_view name);

// A file of `--expect`. Without a value nothing is expected.
struct Expected {
  std::array<std::optional<double>, kFigures.size()> values = {};
  std::optional<int64_t> gpus;
  std::optional<int64_t> nvlinks_per_gpu;
  std::optional<int64_t> gpu_memory_mib;

  std::optional<double>& of(std::string_view figure);  // a name of kFigures
  const std::optional<double>& of(std::string_view figure) const;
  void visit_fields(FieldVisitor& v) {
    for (size_t i = 0; i < kFigures.size(); ++i)
      v.field(kFigures[i].name, values[i], kFigures[i].help, {.unit = kFigures[i].unit, .above = 0});
    v.field("gpus", gpus, "GPUs that nvidia-smi lists", {.min = 0});
    v.field("nvlinks_per_gpu", nvlinks_per_gpu, "NVLinks of each GPU that are up", {.min = 0});
    v.field("gpu_memory_mib", gpu_memory_mib, "memory of each GPU", {.unit = "MiB", .min = 0});
  }
};

// What this machine, taken to be a good one, leads to expect of others.
Expected expected_of(const NodeReport& report);

CheckResult make_figure(std::string_view name, double value);

// Writes the expectation into `result`, a figure, and makes it kSlow where it falls short.
void compare(CheckResult& result, double expected, const std::string& expected_from);
void compare_all(NodeReport& report, const Expected& expected, const std::string& expected_from);

// Of a list that is not empty; the mean of the two in the middle.
double median(std::vector<double> values);

}  // namespace colossus
