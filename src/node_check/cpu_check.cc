#include "node_check/cpu_check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <charconv>
#include <cstdint>
#include <map>
#include <set>
#include <thread>

#include "base/clock.h"
#include "base/platform.h"
#include "base/rng.h"
#include "base/thread_pool.h"
#include "device/cpu/gemm/gemm.h"
#include "io/checksum.h"
#include "node_check/figures.h"
#include "node_check/system_text.h"
#include "tensor/buffer.h"

namespace colossus {
namespace {

constexpr int64_t kSide = 256;  // of the square matrices of one core: they stay in its caches
constexpr int64_t kElements = kSide * kSide;
constexpr int64_t kWholeSide = 1024;  // K and N of the product of all cores; M grows with them
constexpr int64_t kWholeRowsPerCore = 256;
constexpr int64_t kWholeMaxRows = 16384;
constexpr double kRoundSeconds = 0.02;
constexpr double kGiga = 1e-9;

std::vector<float> integer_matrix(uint64_t seed) {
  std::vector<float> matrix(kElements);
  for (size_t i = 0; i < matrix.size(); ++i) matrix[i] = static_cast<float>(random_bits({.seed = seed}, i) % 17) - 8;
  return matrix;
}

std::vector<float> random_matrix(uint64_t seed, size_t size = kElements) {
  std::vector<float> matrix(size);
  for (size_t i = 0; i < size; ++i) matrix[i] = 2 * random_uniform({.seed = seed}, i) - 1;
  return matrix;
}

uint64_t checksum_of(std::span<const float> values) { return checksum(std::as_bytes(values)); }

// Sums of 256 products of at most 64 are whole numbers below 2^24: exact in any order, in fp32 and from bf16 inputs.
uint64_t exact_checksum(const std::vector<float>& a, const std::vector<float>& b) {
  std::vector<float> product(kElements);
  std::vector<int32_t> row(kSide);
  for (int64_t m = 0; m < kSide; ++m) {
    std::fill(row.begin(), row.end(), 0);
    for (int64_t k = 0; k < kSide; ++k) {
      const auto left = static_cast<int32_t>(a[static_cast<size_t>(m * kSide + k)]);
      for (int64_t n = 0; n < kSide; ++n)
        row[static_cast<size_t>(n)] += left * static_cast<int32_t>(b[static_cast<size_t>(k * kSide + n)]);
    }
    for (int64_t n = 0; n < kSide; ++n)
      product[static_cast<size_t>(m * kSide + n)] = static_cast<float>(row[static_cast<size_t>(n)]);
  }
  return checksum_of(product);
}

// One product that every core repeats.
struct Problem {
  std::vector<float> a;
  Buffer packed_b;
  DType dtype;

  static Result<Problem> make(std::vector<float> a, const std::vector<float>& b, DType dtype) {
    ASSIGN_OR_RETURN(Buffer packed, Buffer::allocate(packed_bytes(kSide, kSide, dtype)));
    pack_b_serial({.data = b.data(), .ld = kSide}, kSide, kSide, dtype, packed.data());
    return Problem{std::move(a), std::move(packed), dtype};
  }
  GemmArgs arguments(float* product) const {
    return {.m = kSide,
            .n = kSide,
            .k = kSide,
            .a = {.data = a.data(), .ld = kSide},
            .packed_b = {.data = packed_b.data(), .k = kSide, .n = kSide, .dtype = dtype},
            .compute = dtype,
            .c = product,
            .ldc = kSide};
  }
};

struct CoreRecord {
  double gflops = 0;                            // of the best round
  std::map<uint64_t, int64_t> exact, repeated;  // checksums of products, and how often
};

void work_on_core(const Problem& exact, const Problem& repeated, const CpuCheckOptions& options, int core,
                  std::byte* workspace, CoreRecord& record) {
  constexpr double kFlops = 2.0 * kSide * kSide * kSide;
  std::vector<float> product(kElements);
  int64_t products = 1;
  const double end = monotonic_seconds() + options.seconds;
  do {
    // Most of the time in the numbers with full mantissas; the exact ones are a short look beside them.
    gemm_serial(exact.arguments(product.data()), workspace);
    if (options.damage) options.damage(core, product);
    ++record.exact[checksum_of(product)];
    const double start = monotonic_seconds();
    for (int64_t i = 0; i < products; ++i) gemm_serial(repeated.arguments(product.data()), workspace);
    const double seconds = std::max(1e-9, monotonic_seconds() - start);
    if (options.damage) options.damage(core, product);
    ++record.repeated[checksum_of(product)];
    record.gflops = std::max(record.gflops, kFlops * static_cast<double>(products) / seconds * kGiga);
    products =
        std::clamp<int64_t>(static_cast<int64_t>(kRoundSeconds / seconds * static_cast<double>(products)), 1, 100'000);
  } while (monotonic_seconds() < end);
}

// A checksum that most products have; with two cores that disagree, either.
uint64_t most_frequent(const std::vector<CoreRecord>& records) {
  std::map<uint64_t, int64_t> votes;
  for (const CoreRecord& record : records)
    for (const auto& [sum, count] : record.repeated) votes[sum] += count;
  return std::max_element(votes.begin(), votes.end(), [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

CheckResult judge_numbers(const std::vector<CoreRecord>& records, const std::vector<int>& cores, uint64_t exact) {
  CheckResult result{.name = "cpu", .value = 0, .unit = "wrong products"};
  const uint64_t agreed = most_frequent(records);
  std::set<int> wrong_cores, differing_cores;
  int64_t num_products = 0, num_wrong = 0;
  for (size_t i = 0; i < records.size(); ++i) {
    for (const auto& [sum, count] : records[i].exact) {
      num_products += count;
      if (sum == exact) continue;
      num_wrong += count;
      wrong_cores.insert(cores[i]);
    }
    for (const auto& [sum, count] : records[i].repeated) {
      num_products += count;
      if (sum == agreed) continue;
      num_wrong += count;
      differing_cores.insert(cores[i]);
    }
  }
  result.value = static_cast<double>(num_wrong);
  if (!wrong_cores.empty())
    result.worsen(Verdict::kBad, fmt::format("core {} computed a product of integers wrong: replace the processor",
                                             fmt::join(wrong_cores, ", ")));
  if (!differing_cores.empty())
    result.worsen(Verdict::kBad, fmt::format("core {} gave other bits than most products of the same numbers: replace "
                                             "the processor",
                                             fmt::join(differing_cores, ", ")));
  if (num_wrong == 0)
    result.message =
        fmt::format("{} products on {} core{}, all right", num_products, cores.size(), cores.size() == 1 ? "" : "s");
  return result;
}

// Two threads of a core share its units. Where the system does not say which, all cores are taken to have two.
int num_physical_cores(const std::vector<int>& cores) {
  std::set<std::string> siblings;
  for (const int core : cores) {
    const std::string list =
        read_system_file(fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", core));
    if (list.empty()) return std::max(1, static_cast<int>(cores.size()) / 2);
    siblings.insert(list);
  }
  return static_cast<int>(siblings.size());
}

CheckResult check_all_cores(const CpuCheckOptions& options, DType dtype, int num_threads) {
  CheckResult failed{.name = "gemm_all"};
  const int64_t rows = std::min<int64_t>(kWholeMaxRows, kWholeRowsPerCore * num_threads);
  const std::vector<float> b = random_matrix(3, static_cast<size_t>(kWholeSide * kWholeSide));
  const std::vector<float> a = random_matrix(4, static_cast<size_t>(rows * kWholeSide));
  auto packed = Buffer::allocate(packed_bytes(kWholeSide, kWholeSide, dtype));
  auto product = Buffer::allocate(rows * kWholeSide * static_cast<int64_t>(sizeof(float)));
  auto workspace = Buffer::allocate(num_threads * gemm_workspace_bytes());
  if (!packed.ok() || !product.ok() || !workspace.ok()) {
    failed.worsen(Verdict::kBad, "no memory for its matrices");
    return failed;
  }
  ThreadPool pool(num_threads);
  pack_b({.data = b.data(), .ld = kWholeSide}, kWholeSide, kWholeSide, dtype, packed->data(), pool);
  const GemmArgs arguments{.m = rows,
                           .n = kWholeSide,
                           .k = kWholeSide,
                           .a = {.data = a.data(), .ld = kWholeSide},
                           .packed_b = {.data = packed->data(), .k = kWholeSide, .n = kWholeSide, .dtype = dtype},
                           .compute = dtype,
                           .c = product->data(),
                           .ldc = kWholeSide};
  double best = 0;
  std::set<uint64_t> sums;
  const double end = monotonic_seconds() + options.seconds;
  do {
    const double start = monotonic_seconds();
    gemm(arguments, pool, workspace->data());
    const double seconds = std::max(1e-9, monotonic_seconds() - start);
    best = std::max(best, 2.0 * static_cast<double>(rows * kWholeSide * kWholeSide) / seconds * kGiga);
    sums.insert(checksum({product->data(), static_cast<size_t>(product->num_bytes())}));
  } while (monotonic_seconds() < end);
  CheckResult result = make_figure("gemm_all", best);
  if (sums.size() > 1) result.worsen(Verdict::kBad, "the same product had other bits each time: replace the processor");
  return result;
}

}  // namespace

double least_gflops(std::string_view model_name, int vector_floats, int num_cores) {
  const size_t at = model_name.rfind("@ ");
  if (at == std::string_view::npos) return 0;
  double ghz = 0;
  const char* const end = model_name.data() + model_name.size();
  const auto [unit, error] = std::from_chars(model_name.data() + at + 2, end, ghz);
  if (error != std::errc() || std::string_view(unit, static_cast<size_t>(end - unit)).substr(0, 3) != "GHz") return 0;
  constexpr double kShare = 0.5, kFlopsPerMultiplyAdd = 2;
  return kShare * ghz * kFlopsPerMultiplyAdd * vector_floats * num_cores;
}

std::vector<CheckResult> check_cpu(const CpuCheckOptions& options) {
  std::vector<int> cores = usable_cores();
  if (options.num_threads > 0 && options.num_threads < static_cast<int>(cores.size()))
    cores.resize(static_cast<size_t>(options.num_threads));
  if (cores.empty()) cores = {0};
  const DType dtype = isa_level() >= IsaLevel::kAvx512Bf16 ? DType::kBF16 : DType::kF32;
  const std::vector<float> a = integer_matrix(1), b = integer_matrix(2);
  auto exact = Problem::make(a, b, dtype);
  auto repeated = Problem::make(random_matrix(1), random_matrix(2), dtype);
  auto workspace = Buffer::allocate(static_cast<int64_t>(cores.size()) * gemm_workspace_bytes());
  CheckResult failed{.name = "cpu"};
  if (!exact.ok() || !repeated.ok() || !workspace.ok()) {
    failed.worsen(Verdict::kBad, "no memory for its matrices");
    return {failed};
  }
  std::vector<CoreRecord> records(cores.size());
  std::barrier begin(static_cast<std::ptrdiff_t>(cores.size()));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < cores.size(); ++i)
    threads.emplace_back([&, i] {
      pin_this_thread(cores[i]);
      flush_denormals();
      begin.arrive_and_wait();
      work_on_core(*exact, *repeated, options, static_cast<int>(i),
                   workspace->data() + static_cast<int64_t>(i) * gemm_workspace_bytes(), records[i]);
    });
  for (std::thread& thread : threads) thread.join();

  std::vector<CheckResult> results = {judge_numbers(records, cores, exact_checksum(a, b))};
  std::vector<double> rates;
  for (const CoreRecord& record : records) rates.push_back(record.gflops);
  const auto slowest = std::min_element(rates.begin(), rates.end());
  results.push_back(make_figure("gemm_core", *slowest));
  results.back().message =
      fmt::format("core {}; half of the cores reach {:.1f}, in {}", cores[static_cast<size_t>(slowest - rates.begin())],
                  median(rates), dtype_name(dtype));
  results.push_back(check_all_cores(options, dtype, static_cast<int>(cores.size())));
  if (options.expectation) {
    const int floats = isa_level() >= IsaLevel::kAvx512 ? 16 : 8;
    const double least = least_gflops(cpu_model_name(), floats, num_physical_cores(cores));
    CheckResult& all = results.back();
    if (least > 0 && all.value) {
      all.expected = least;
      all.expected_from = "least for its clock";
      if (*all.value < least)
        all.worsen(Verdict::kSlow,
                   "slower than one multiply-add in two cycles of the nominal clock: look for a power cap, "
                   "heat or other work");
    }
  }
  return results;
}

}  // namespace colossus
