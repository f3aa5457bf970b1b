#include "train/recovery/fault_draws.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/rng.h"

namespace colossus {
namespace {

constexpr double kDaySeconds = 86400;

}  // namespace

Status check(const FaultCause& cause) {
  if (!(cause.per_day >= 0) || cause.machines < 1 || !(cause.share_hit > 0) || !(cause.share_hit <= 1) ||
      cause.repair_days.empty()) {
    return invalid(
        fmt::format("the cause \"{}\" needs a rate that is not negative, machines, a share in (0, 1] and repair times",
                    cause.name));
  }
  if (cause.machines > 1 && cause.kind != FaultKind::kMachine) {
    return invalid(fmt::format("the cause \"{}\" takes {} machines at once: it can only silence them", cause.name,
                               cause.machines));
  }
  return ok_status();
}

FaultDraws::FaultDraws(std::vector<FaultCause> causes, std::vector<MachineKind> kinds, uint64_t seed, uint64_t run)
    : causes_(std::move(causes)), kinds_(std::move(kinds)), seed_(seed), run_(run) {
  for (FaultCause& cause : causes_) std::ranges::sort(cause.repair_days);
}

void FaultDraws::set_arrived(size_t kinds) {
  num_arrived_ = kinds;
  num_machines_ = 0;
  weighted_machines_ = 0;
  for (size_t kind = 0; kind < kinds; ++kind) {
    num_machines_ += kinds_[kind].machines;
    weighted_machines_ += kinds_[kind].fault_scale * kinds_[kind].machines;
  }
}

double FaultDraws::draw() {
  const RngKey key{.seed = seed_, .purpose = RngPurpose::kFaults, .step = run_};
  return (static_cast<double>(random_bits(key, num_drawn_++)) + 0.5) / 4294967296.0;
}

int FaultDraws::below(int count) { return std::min(static_cast<int>(draw() * count), count - 1); }

double FaultDraws::daily_rate(const FaultCause& cause) const {
  if (cause.machines == 1) return cause.per_day * weighted_machines_;
  return cause.per_day * ((num_machines_ + cause.machines - 1) / cause.machines);
}

double FaultDraws::seconds_to_next() {
  double per_day = 0;
  for (const FaultCause& cause : causes_) per_day += daily_rate(cause);
  return per_day > 0 ? -std::log(draw()) * kDaySeconds / per_day : std::numeric_limits<double>::infinity();
}

size_t FaultDraws::cause() {
  double at = 0;
  for (const FaultCause& cause : causes_) at += daily_rate(cause);
  at *= draw();
  size_t index = 0;
  while (index + 1 < causes_.size() && at >= daily_rate(causes_[index])) at -= daily_rate(causes_[index++]);
  return index;
}

std::vector<int> FaultDraws::machines(const FaultCause& cause) {
  std::vector<int> hit;
  if (cause.machines > 1) {
    const int first = below((num_machines_ + cause.machines - 1) / cause.machines) * cause.machines;
    for (int machine = first; machine < std::min(first + cause.machines, num_machines_); ++machine) {
      if (cause.share_hit == 1 || draw() < cause.share_hit) hit.push_back(machine);
    }
    return hit;
  }
  double at = draw() * weighted_machines_;
  int first = 0;
  for (size_t kind = 0; kind < num_arrived_; ++kind) {
    const MachineKind& of = kinds_[kind];
    const double weight = of.fault_scale * of.machines;
    if (at < weight) return {first + std::min(static_cast<int>(at / of.fault_scale), of.machines - 1)};
    at -= weight;
    first += of.machines;
  }
  return {num_machines_ - 1};
}

double FaultDraws::repair_seconds(const FaultCause& cause) {
  const std::vector<double>& days = cause.repair_days;
  const double at = draw() * static_cast<double>(days.size() - 1);
  const size_t below = std::min(static_cast<size_t>(at), days.size() - 1);
  const size_t above = std::min(below + 1, days.size() - 1);
  constexpr double kShortest = 1e-4;
  const double low = std::log(std::max(kShortest, days[below])), high = std::log(std::max(kShortest, days[above]));
  return kDaySeconds * std::exp(low + (high - low) * (at - static_cast<double>(below)));
}

}  // namespace colossus
