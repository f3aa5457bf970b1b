#include "node_check/memory_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cstring>
#include <limits>
#include <mutex>

#include "base/clock.h"
#include "base/platform.h"
#include "base/thread_pool.h"
#include "device/cpu/peak.h"
#include "node_check/figures.h"
#include "node_check/system_text.h"
#include "tensor/buffer.h"

namespace colossus {
namespace {

constexpr int64_t kWordBytes = sizeof(uint64_t);
constexpr int64_t kPageWords = 512;
constexpr int64_t kCopyBytes = int64_t{256} << 20;
constexpr int kCopyRuns = 4;
constexpr size_t kFaultsShown = 4;
constexpr int kNumPatterns = 6;
constexpr std::array<const char*, kNumPatterns> kPatternNames = {"its own address", "a walking one", "a walking zero",
                                                                 "10101010",        "01010101",      "pseudo-random"};

// What word `index` holds in a pass. The first tells addresses apart, so that a broken address line shows as a word
// that holds another's; the others find bits that stick or follow their neighbours.
uint64_t pattern_word(int pattern, uint64_t index) {
  switch (pattern) {
    case 0: return index ^ ~index << 32;
    case 1: return uint64_t{1} << (index & 63);
    case 2: return ~(uint64_t{1} << (index & 63));
    case 3: return 0xaaaaaaaaaaaaaaaa;
    case 4: return 0x5555555555555555;
    default: {
      // The finalizer of MurmurHash3 (Appleby): cheap, and every bit of the index reaches every bit.
      uint64_t word = index + 0x9e3779b97f4a7c15;
      word = (word ^ word >> 33) * 0xff51afd7ed558ccd;
      word = (word ^ word >> 33) * 0xc4ceb9fe1a85ec53;
      return word ^ word >> 33;
    }
  }
}

struct Faults {
  std::mutex mutex;
  int64_t count = 0;
  std::vector<std::string> shown;
};

template <int kPattern>
void write_pattern(uint64_t* words, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) words[i] = pattern_word(kPattern, static_cast<uint64_t>(i));
}

template <int kPattern>
void read_pattern(const uint64_t* words, int64_t begin, int64_t end, Faults& faults) {
  for (int64_t page = begin; page < end; page += kPageWords) {
    const int64_t page_end = std::min(page + kPageWords, end);
    uint64_t differing = 0;
    for (int64_t i = page; i < page_end; ++i) differing |= words[i] ^ pattern_word(kPattern, static_cast<uint64_t>(i));
    if (differing == 0) continue;
    const std::lock_guard lock(faults.mutex);
    for (int64_t i = page; i < page_end; ++i) {
      const uint64_t wanted = pattern_word(kPattern, static_cast<uint64_t>(i));
      if (words[i] == wanted) continue;
      ++faults.count;
      if (faults.shown.size() < kFaultsShown)
        faults.shown.push_back(fmt::format("byte {}: {:016x} instead of {:016x}", i * kWordBytes, words[i], wanted));
    }
  }
}

using WritePattern = void (*)(uint64_t*, int64_t, int64_t);
using ReadPattern = void (*)(const uint64_t*, int64_t, int64_t, Faults&);
constexpr std::array<WritePattern, kNumPatterns> kWriters = {write_pattern<0>, write_pattern<1>, write_pattern<2>,
                                                             write_pattern<3>, write_pattern<4>, write_pattern<5>};
constexpr std::array<ReadPattern, kNumPatterns> kReaders = {read_pattern<0>, read_pattern<1>, read_pattern<2>,
                                                            read_pattern<3>, read_pattern<4>, read_pattern<5>};

int64_t free_memory_bytes() {
  return std::min(available_memory_bytes(read_system_file("/proc/meminfo")),
                  cgroup_room_bytes(read_system_file("/sys/fs/cgroup/memory.max"),
                                    read_system_file("/sys/fs/cgroup/memory.current")));
}

CheckResult check_patterns(const MemoryCheckOptions& options, ThreadPool& pool) {
  CheckResult result{.name = "memory", .value = 0, .unit = "wrong words"};
  constexpr int64_t kGrain = kPageWords * kWordBytes;
  const int64_t num_bytes = std::min(options.max_bytes, free_memory_bytes() / 4 * 3) / kGrain * kGrain;
  if (num_bytes <= 0) {
    result.worsen(Verdict::kSlow, "no memory is free to be tested: other work runs here");
    return result;
  }
  auto buffer = Buffer::allocate(num_bytes);
  if (!buffer.ok()) {
    result.worsen(Verdict::kBad, buffer.status().message());
    return result;
  }
  auto* const words = reinterpret_cast<uint64_t*>(buffer->data());
  const int64_t num_words = num_bytes / kWordBytes;
  const double start = monotonic_seconds();
  int done = 0;
  for (; done < kNumPatterns; ++done) {
    // As long as another one takes as long as those before did.
    const double seconds = monotonic_seconds() - start;
    if (done > 0 && seconds * (done + 1) / done > options.seconds) break;
    const auto pattern = static_cast<size_t>(done);
    Faults faults;
    pool.parallel_for(num_words, kPageWords, [&](int64_t begin, int64_t end) { kWriters[pattern](words, begin, end); });
    if (options.damage) options.damage({words, static_cast<size_t>(num_words)});
    pool.parallel_for(num_words, kPageWords,
                      [&](int64_t begin, int64_t end) { kReaders[pattern](words, begin, end, faults); });
    if (faults.count == 0) continue;
    result.value = *result.value + static_cast<double>(faults.count);
    result.worsen(Verdict::kBad, fmt::format("pattern {}: {} wrong words ({}): replace the memory",
                                             kPatternNames[pattern], faults.count, fmt::join(faults.shown, ", ")));
  }
  if (result.verdict == Verdict::kPass)
    result.message = fmt::format("{:.1f} GiB with {} of {} patterns",
                                 static_cast<double>(num_bytes) / static_cast<double>(1 << 30), done, kNumPatterns);
  return result;
}

double measure_copy_bandwidth(ThreadPool& pool) {
  auto from = Buffer::allocate(kCopyBytes), to = Buffer::allocate(kCopyBytes);
  if (!from.ok() || !to.ok()) return 0;
  std::memset(from->data(), 1, kCopyBytes);
  std::memset(to->data(), 2, kCopyBytes);
  double best = 0;
  for (int run = 0; run < kCopyRuns; ++run) {
    const double start = monotonic_seconds();
    pool.parallel_for(kCopyBytes, 4096, [&](int64_t begin, int64_t end) {
      std::memcpy(to->data() + begin, from->data() + begin, static_cast<size_t>(end - begin));
    });
    best = std::max(best, 2.0 * static_cast<double>(kCopyBytes) / std::max(1e-9, monotonic_seconds() - start));
  }
  return best;
}

int64_t whole_number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() ? value : -1;
}

}  // namespace

int64_t available_memory_bytes(std::string_view meminfo) {
  constexpr std::string_view kKey = "MemAvailable:";
  size_t at = meminfo.starts_with(kKey) ? 0 : meminfo.find("\nMemAvailable:");
  if (at == std::string_view::npos) return 0;
  at = meminfo.find_first_of("0123456789", at);
  if (at == std::string_view::npos) return 0;
  const int64_t kilobytes = whole_number(meminfo.substr(at));
  return kilobytes < 0 || kilobytes > std::numeric_limits<int64_t>::max() / 1024 ? 0 : kilobytes * 1024;
}

int64_t cgroup_room_bytes(std::string_view max, std::string_view current) {
  const int64_t limit = whole_number(max), used = whole_number(current);
  if (limit < 0 || used < 0) return std::numeric_limits<int64_t>::max();
  return std::max<int64_t>(0, limit - used);
}

std::vector<CheckResult> check_memory(const MemoryCheckOptions& options) {
  const int num_threads = options.num_threads > 0 ? options.num_threads : num_usable_cores();
  ThreadPool pool(num_threads);
  std::vector<CheckResult> results = {check_patterns(options, pool)};
  const double read = measure_read_bandwidth(num_threads), copied = measure_copy_bandwidth(pool);
  for (const auto& [name, rate] : {std::pair("memory_read", read), std::pair("memory_copy", copied)})
    if (rate > 0) results.push_back(make_figure(name, rate * 1e-9));
  return results;
}

}  // namespace colossus
