// What fails when, drawn at random: the n-th draw of a run is a function of (seed, run, n).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "train/recovery/fleet_pace.h"

namespace colossus {

// Quantiles 0, 1/40, … 1 of the repair times of 584 faults of 400 machines with eight GPUs in 348 days, in days: the
// trace of InfiniteHBD (Shou et al., SIGCOMM 2025), whose mean is 5.54. So many, for a tenth of them are most of the
// mean.
inline constexpr std::array<double, 41> kRepairDays = {
    0.001, 0.001, 0.00821, 0.0089, 0.0094, 0.0114, 0.015, 0.0311, 0.0448, 0.0617, 0.0855, 0.113, 0.139, 0.166,
    0.261, 0.391, 0.483,   0.606,  0.7,    0.774,  0.851, 1.05,   1.15,   1.38,   1.58,   1.77,  2.07,  2.39,
    2.49,  2.75,  3.17,    3.79,   4.6,    5.89,   8.48,  9.75,   13.5,   20.1,   30.7,   54.2,  131};

// How a fault shows.
enum class FaultKind {
  kMachine,  // the machine falls silent, and is repaired
  kExit,     // a process ends; it is started again in place
  kHang,     // a process lives and gets nowhere
  kSlow,     // the machine computes more slowly, until it is drained and repaired
};

struct FaultCause {
  std::string name;
  FaultKind kind = FaultKind::kMachine;
  double per_day = 0;    // of one machine; of one group
  int machines = 1;      // of a group: those with numbers k·machines and on. They fall silent together
  double share_hit = 1;  // of a group's machines
  std::vector<double> repair_days{kRepairDays.begin(), kRepairDays.end()};  // quantiles at equal distances
};
Status check(const FaultCause& cause);

class FaultDraws {
 public:
  // Of checked causes. Machines are numbered one kind after the other.
  FaultDraws(std::vector<FaultCause> causes, std::vector<MachineKind> kinds, uint64_t seed, uint64_t run);

  const std::vector<FaultCause>& causes() const { return causes_; }
  // The first so many kinds are there.
  void set_arrived(size_t kinds);

  // Seconds from one fault to the next, of all machines that are there; infinity: nothing fails.
  double seconds_to_next();
  size_t cause();
  // Those that a fault of this cause takes.
  std::vector<int> machines(const FaultCause& cause);
  // Between two of the cause's quantiles a time lies evenly in the logarithm.
  double repair_seconds(const FaultCause& cause);
  int below(int count);

 private:
  double draw();
  double daily_rate(const FaultCause& cause) const;

  std::vector<FaultCause> causes_;
  std::vector<MachineKind> kinds_;
  size_t num_arrived_ = 0;
  int num_machines_ = 0;
  double weighted_machines_ = 0;  // by their fault_scale
  uint64_t seed_, run_;
  uint64_t num_drawn_ = 0;
};

}  // namespace colossus
