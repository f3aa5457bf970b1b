// Breaks runs of the real binary on purpose, and compares what is left with a run that nothing happened to.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/child_process.h"

namespace colossus::chaos {

struct GroundOptions {
  std::string binary;     // colossus
  std::string directory;  // for data, runs and logs; the runs that did not hold stay there
  std::string text;       // a file to learn from; empty: made here
  double hang_after_seconds = 8;
  double limit_seconds = 120;  // of one run
};

// What came of a try. `why` is for people and empty when it held.
struct Verdict {
  int num_faults = 0;  // that were seen to happen
  bool curve_is_equal = false;
  std::string why;
  std::vector<double> recovery_seconds;  // from hearing of a fault to a step more on all ranks

  bool held() const { return why.empty(); }
};

// Data, a configuration, and the curve of an undisturbed run of one rank.
class Ground {
 public:
  static constexpr int kSteps = 24;
  static constexpr int kLeaves = 8;  // the most ranks

  // Ends the process (CHECK) when the undisturbed run cannot be made.
  explicit Ground(GroundOptions options);

  // A run with these faults (COLOSSUS_FAULT_OF_RANK), which must end as if there had been none. A fault at a milestone
  // that the rank does not pass so often is no fault: see num_faults.
  Verdict survives(int ranks, const std::string& faults);
  // The process of a run of one rank is killed at a milestone. Its newest checkpoint must be whole, and the same
  // command must end the run.
  Verdict resumes_after_kill(const std::string& fault);
  // The supervisor gets a signal once this many steps are done. No worker may be left, and the same command, at once,
  // must end the run.
  Verdict resumes_after_signal(int ranks, int signal, int after_steps);
  // Ctrl-C after every few steps, and on with another number of ranks.
  Verdict moves(const std::vector<int>& ranks, int steps_each);

  // So many rank losses in a row that the run must end, in order and with a message that says why.
  Verdict gives_up(int ranks, const std::string& faults, const std::string& message);

 private:
  struct Run {
    std::string out, log;
    ChildProcess process;
  };
  struct Line {
    int64_t step;
    std::string numbers;  // as printed
    bool operator==(const Line&) const = default;
  };

  std::string path(const std::string& name) const { return options_.directory + "/" + name; }
  std::string new_name() { return "run" + std::to_string(++num_runs_); }
  Run start(const std::string& out, int ranks, const std::vector<std::pair<std::string, std::string>>& environment,
            const std::vector<std::string>& more = {});
  // False when it took longer than the limit; it is then killed.
  bool wait(Run& run, ProcessEnd& end);
  bool wait_for_steps(Run& run, int steps);
  // Of a run that ended: its log's end, its curve, its checkpoints, and nothing left of it.
  void judge(const Run& run, const ProcessEnd& end, Verdict& verdict);
  void finish(const std::string& out, int ranks, Verdict& verdict);
  void look_for_leftovers(const std::string& out, Verdict& verdict);
  bool newest_checkpoint_is_whole(const std::string& out);
  void tidy(const std::string& out, const Verdict& verdict);
  std::string log_of(const Run& run) const;
  std::vector<Line> curve_of(const std::string& out) const;

  const GroundOptions options_;
  int num_runs_ = 0;
  std::vector<Line> reference_;
};

}  // namespace colossus::chaos
