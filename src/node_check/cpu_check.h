// Do all cores compute fast, and right? Silent corruption is found in two ways: products of small integers are exact in
// fp32 and are known from integer arithmetic; products of numbers with full mantissas must have the same bits on every
// core and each time (device/cpu/gemm promises it). Hochschild et al., "Cores that don't count", HotOS 2021.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "node_check/report.h"

namespace colossus {

struct CpuCheckOptions {
  int num_threads = 0;      // 0: one for each usable core
  double seconds = 2;       // of each of the two tests
  bool expectation = true;  // compare with what the processor says of itself
  // For tests: what a broken core (an index among the usable ones) does to a product.
  std::function<void(int core, std::span<float> product)> damage = {};
};

// "cpu" (the numbers), "gemm_core" and "gemm_all" (the rates).
std::vector<CheckResult> check_cpu(const CpuCheckOptions& options);

// GFLOP/s below which something holds a healthy processor back (a power cap, heat, a neighbour): half of what one
// multiply-add a cycle at the nominal clock gives, on `num_cores` physical cores. Modern cores do two a cycle above
// that clock. 0 where the processor does not say its clock. `model_name` is that of /proc/cpuinfo: "... @ 2.50GHz".
double least_gflops(std::string_view model_name, int vector_floats, int num_cores);

}  // namespace colossus
