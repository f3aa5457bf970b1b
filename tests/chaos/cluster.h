// A run on several machines, and what can be done to them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "chaos.h"

namespace colossus::chaos {

struct Host {
  std::string name;
  std::vector<std::string> prefix;  // before a command, to run it there; empty: here
};

struct ClusterPlan {
  std::vector<Host> hosts;  // spares last
  int num_spares = 0;
  int ranks = 8;
  std::string store;                       // empty: the run's own directory
  std::string interface = "lo";            // empty: the one that leads to the store
  bool named = true;                       // by the command line; else by their host names
  bool may_stop = false;                   // with a message instead of finishing; it must then go on when started again
  std::string faults;                      // COLOSSUS_FAULT_OF_RANK of all machines
  std::vector<std::string> settings = {};  // a.b=value
};

class ClusterRun {
 public:
  ClusterRun(Ground& ground, const ClusterPlan& plan, std::string out);

  const std::string& out() const { return out_; }
  // False when all machines end before.
  bool wait_for_steps(int steps);
  void wait_seconds(double seconds);
  int num_steps() const;

  int leader();                          // waits for one
  int host_of_number(int number) const;  // of the machine that fills this place
  std::string name_of_number(int number) const { return plan_.hosts[static_cast<size_t>(host_of_number(number))].name; }
  void kill_worker(int host, int place);
  void kill_supervisor(int host);
  void kill_machine(int host);  // all its processes
  void start(int host);
  void send(int host, int signal);
  bool ends_within(double seconds);  // all that were not killed
  // Until a machine prints it; false when they end before.
  bool wait_for_text(const std::string& text);
  // OUT/excluded_nodes.
  std::string given_up() const { return text_of_file(ground_.path(out_) + "/excluded_nodes"); }
  // For judge().
  void require(bool held, const std::string& what) { missed_ += held ? "" : (missed_.empty() ? "" : "; ") + what; }

  // What is printed by all machines, one after the other.
  std::string log() const;
  Verdict judge();
  int num_faults = 0;

 private:
  struct Machine {
    std::optional<ChildProcess> process;
    std::vector<std::string> logs;
    bool killed = false;
  };
  std::string missed_;
  std::vector<pid_t> workers(int host) const;
  std::string store() const;
  void judge_ends(Verdict& verdict);

  Ground& ground_;
  const ClusterPlan plan_;
  const std::string out_;
  std::vector<Machine> machines_;
};

// `disturb` breaks the run, which then must end as if nothing had happened.
Verdict survives_on_machines(Ground& ground, const ClusterPlan& plan, const std::function<void(ClusterRun&)>& disturb);

}  // namespace colossus::chaos
