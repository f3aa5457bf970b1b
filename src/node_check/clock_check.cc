#include "node_check/clock_check.h"

#include <fmt/format.h>
#include <sys/timex.h>
#include <time.h>

#include <cmath>
#include <thread>

#include "base/platform.h"

namespace colossus {
namespace {

constexpr int kRounds = 20;
// NTP steers by at most 500 ppm, adjtime() too; virtual machines that were stopped jump by much more.
constexpr double kMaxDrift = 1e-3;
constexpr double kLeastJumpSeconds = 0.05;

double seconds_of(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

int64_t monotonic_nanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

int64_t count_backward_readings(int rounds) {
  int64_t num_backward = 0;
  // On a thread of its own: pinned, it takes nothing from the caller.
  std::thread([&] {
    int64_t last = monotonic_nanoseconds();
    const std::vector<int> cores = usable_cores();
    for (int round = 0; round < rounds; ++round)
      for (const int core : cores) {
        pin_this_thread(core);
        for (int reading = 0; reading < 16; ++reading) {
          const int64_t now = monotonic_nanoseconds();
          if (now < last) ++num_backward;
          last = now;
        }
      }
  }).join();
  return num_backward;
}

ClockCheck::ClockCheck() : wall_(seconds_of(CLOCK_REALTIME)), raw_(seconds_of(CLOCK_MONOTONIC_RAW)) {}

CheckResult ClockCheck::finish() {
  ClockWatch watch{.wall_seconds = seconds_of(CLOCK_REALTIME) - wall_,
                   .raw_seconds = seconds_of(CLOCK_MONOTONIC_RAW) - raw_,
                   .num_backward = count_backward_readings(kRounds)};
  timex state{};
  const int answer = ::adjtimex(&state);
  watch.synchronised = answer >= 0 && answer != TIME_ERROR && (state.status & STA_UNSYNC) == 0;
  watch.max_error_ms = static_cast<double>(state.maxerror) * 1e-3;
  return judge_clock(watch);
}

CheckResult judge_clock(const ClockWatch& watch) {
  CheckResult result{.name = "clock"};
  if (watch.num_backward > 0)
    result.worsen(Verdict::kBad,
                  fmt::format("the monotonic clock went back {} times between cores: look at the kernel's clocksource",
                              watch.num_backward));
  const double jump = watch.wall_seconds - watch.raw_seconds;
  if (std::abs(jump) > kLeastJumpSeconds + kMaxDrift * watch.raw_seconds)
    result.worsen(Verdict::kBad,
                  fmt::format("the wall clock jumped by {:.3f} s within {:.0f} s: look at its NTP service", jump,
                              watch.raw_seconds));
  if (watch.synchronised) {
    result.value = watch.max_error_ms;
    result.unit = "ms at most wrong";
  } else {
    // Containers and test machines often are; what matters is that nodes agree, which links measure.
    result.message += fmt::format("{}not synchronised, says the kernel: start chronyd or another NTP service",
                                  result.message.empty() ? "" : "; ");
  }
  return result;
}

}  // namespace colossus
