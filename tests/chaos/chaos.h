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
  int steps = 24;
  int every = 8;                           // steps, an evaluation and a checkpoint
  std::vector<std::string> settings = {};  // of all runs, as after --set
};

// What came of a try. `why` is for people and empty when it held.
struct Verdict {
  int num_faults = 0;  // that were seen to happen
  bool curve_is_equal = false;
  std::string why;
  std::vector<double> recovery_seconds;  // from hearing of a fault to a step more on all ranks

  bool held() const { return why.empty(); }
};

// Adds to `why`.
void add_reason(Verdict& verdict, const std::string& why);
// "" of none.
std::string text_of_file(const std::string& path);
// Processes that have this in their environment.
std::vector<pid_t> processes_with(const std::string& variable);

// Data, a configuration, and the curve of an undisturbed run of one rank.
class Ground {
 public:
  static constexpr int kSteps = 24;
  static constexpr int kLeaves = 8;  // the most ranks

  // Ends the process (CHECK) when the undisturbed run cannot be made.
  explicit Ground(GroundOptions options);

  // A run with these faults (COLOSSUS_FAULT_OF_RANK), which must end as if there had been none. A fault at a milestone
  // that the rank does not pass so often is no fault: see num_faults.
  Verdict survives(int ranks, const std::string& faults, const std::vector<std::string>& more = {});
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
  // So that nobody knows who is right: it must say so, and without the fault the same command ends the run.
  Verdict contradicts_itself(const std::string& faults);

  // With which every rank's work is compared in every step.
  static std::vector<std::string> verified() { return {"--set", "train.verify_every=1"}; }

  // For runs of another kind, see cluster.h.
  struct Run {
    std::string out, log;
    ChildProcess process;
  };
  // `prefix`: a command before it.
  Run start(const std::string& out, int ranks, const std::vector<std::pair<std::string, std::string>>& environment,
            const std::vector<std::string>& more = {}, const std::vector<std::string>& prefix = {});
  std::string path(const std::string& name) const { return options_.directory + "/" + name; }
  std::string new_name() { return "run" + std::to_string(++num_runs_); }
  double limit_seconds() const { return options_.limit_seconds; }
  int steps() const { return options_.steps; }
  int num_steps(const std::string& out) const;  // that were reported
  // Its curve and its checkpoints; `log` says how long it took to recover.
  void judge_curve(const std::string& out, const std::string& log, Verdict& verdict);
  // Removes what held.
  void tidy(const std::string& out, const Verdict& verdict);
  // Where the ranks of a machine meet, as `colossus train` chooses it; `run`: an absolute path, and @machine.
  static std::string store_of(const std::string& run);

 private:
  struct Line {
    int64_t step;
    std::string numbers;  // as printed
    bool operator==(const Line&) const = default;
  };

  std::vector<std::string> with_settings(std::vector<std::string> words) const;
  // False when it took longer than the limit; it is then killed.
  bool wait(Run& run, ProcessEnd& end);
  bool wait_for_steps(Run& run, int steps);
  // Of a run that ended: its log's end, its curve, its checkpoints, and nothing left of it.
  void judge(const Run& run, const ProcessEnd& end, Verdict& verdict);
  void finish(const std::string& out, int ranks, Verdict& verdict);
  void look_for_leftovers(const std::string& out, Verdict& verdict);
  bool newest_checkpoint_is_whole(const std::string& out);
  std::string log_of(const Run& run) const;
  std::vector<Line> curve_of(const std::string& out) const;

  const GroundOptions options_;
  int num_runs_ = 0, num_logs_ = 0;
  std::vector<Line> reference_;
};

}  // namespace colossus::chaos
