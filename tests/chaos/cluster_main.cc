// `make test-cluster`: a run over machines that are network namespaces, and everything that can be taken from it.
#include <fmt/format.h>
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "base/clock.h"
#include "cluster.h"
#include "network.h"

namespace colossus::chaos {
namespace {

constexpr int kMachines = 4;
constexpr int kMoreMachines = 6;
constexpr int kHosts = kMoreMachines;

struct Arguments {
  int times = 1;  // each
  std::string only;
  std::string directory = (std::filesystem::temp_directory_path() / "colossus-cluster").string();
};

int usage(const char* program) {
  std::fprintf(
      stderr,
      "%s [--times N] [--only KIND] [--directory DIR]\n"
      "Runs the colossus beside it on four machines that are network namespaces, breaks machines, processes,\n"
      "network and etcd, and compares each run with one that nothing happened to. Runs that did not hold stay\n"
      "in DIR. Needs root.\n",
      program);
  return 2;
}

class ClusterChaos {
 public:
  ClusterChaos(const Arguments& arguments, const std::string& binary)
      : arguments_(arguments),
        ground_({.binary = binary,
                 .directory = arguments.directory,
                 .text = {},
                 .hang_after_seconds = 6,
                 .limit_seconds = 240,
                 .steps = 120}),
        network_(kHosts, arguments.directory) {}

  int run() {
    const auto nothing = [](ClusterRun&) {};
    attempt("nothing", 0, nothing);
    lose_processes();
    lose_machines();
    lose_the_store();
    lose_the_network();
    shrink_and_grow();
    compute_wrong_numbers();
    stop_and_go_on();
    std::printf("faults %d, held %d, curves equal %d of %d\n", num_faults_, num_faults_held_, num_equal_, num_tries_);
    return num_held_ == num_tries_ && num_tries_ > 0 ? 0 : 1;
  }

 private:
  ClusterPlan plan(int num_spares = 0, int num_machines = kMachines) const {
    ClusterPlan plan{
        .hosts = network_.hosts(), .num_spares = num_spares, .store = network_.store(), .interface = "", .faults = {}};
    plan.hosts.resize(static_cast<size_t>(num_machines + num_spares));
    plan.named = false;
    return plan;
  }

  void attempt(const std::string& kind, int num_faults, const std::function<void(ClusterRun&)>& disturb) {
    attempt(kind, num_faults, plan(), disturb);
  }
  void attempt(const std::string& kind, int num_faults, const ClusterPlan& plan,
               const std::function<void(ClusterRun&)>& disturb) {
    if (kind.find(arguments_.only) == std::string::npos) return;
    int held = 0;
    double longest = 0;
    std::string failures;
    const double begun = monotonic_seconds();
    for (int i = 0; i < arguments_.times; ++i) {
      Verdict verdict = survives_on_machines(ground_, plan, disturb);
      for (int host = 0; host < kHosts; ++host) {
        network_.heal(host);
        network_.carry_all_packets(host);
      }
      if (verdict.num_faults < num_faults) add_reason(verdict, "the run ended before all faults");
      num_faults_ += verdict.num_faults;
      num_equal_ += verdict.curve_is_equal ? 1 : 0;
      num_faults_held_ += verdict.held() ? verdict.num_faults : 0;
      held += verdict.held() ? 1 : 0;
      for (const double seconds : verdict.recovery_seconds) longest = std::max(longest, seconds);
      if (!verdict.held()) failures += "  " + verdict.why + "\n";
    }
    num_tries_ += arguments_.times;
    num_held_ += held;
    std::printf("%-58s tried %2d  held %2d  longest recovery %4.1f s  %3.0f s\n", kind.c_str(), arguments_.times, held,
                longest, monotonic_seconds() - begun);
    std::printf("%s", failures.c_str());
    std::fflush(stdout);
  }

  static int other_than(int host) { return (host + 1) % kMachines; }
  // Once it trains.
  static bool trains(ClusterRun& run, int steps = 12) { return run.wait_for_steps(steps); }

  void lose_processes() {
    attempt("kill -9 of a worker", 1, [](ClusterRun& run) {
      if (trains(run)) run.kill_worker(other_than(run.leader()), 1);
    });
    attempt("kill -9 of workers on two machines", 2, [](ClusterRun& run) {
      if (!trains(run)) return;
      run.kill_worker(other_than(run.leader()), 0);
      run.kill_worker(run.leader(), 1);
    });
    attempt("kill -9 of a supervisor", 1, [](ClusterRun& run) {
      if (trains(run)) run.kill_supervisor(other_than(run.leader()));
    });
    attempt("kill -9 of the leader's supervisor", 1, [](ClusterRun& run) {
      if (trains(run)) run.kill_supervisor(run.leader());
    });
    attempt("kill -9 of a supervisor, started again at once", 1, [](ClusterRun& run) {
      if (!trains(run)) return;
      const int host = other_than(run.leader());
      run.kill_supervisor(host);
      run.start(host);
    });
    attempt("a supervisor stands still for 10 s, its workers do not", 1, [](ClusterRun& run) {
      if (!trains(run)) return;
      const int host = other_than(run.leader());
      run.send(host, SIGSTOP);
      ++run.num_faults;
      run.wait_seconds(10);
      run.send(host, SIGCONT);
    });
    attempt("the leader's supervisor stands still for 10 s", 1, [](ClusterRun& run) {
      if (!trains(run)) return;
      const int host = run.leader();
      run.send(host, SIGSTOP);
      ++run.num_faults;
      run.wait_seconds(10);
      run.send(host, SIGCONT);
    });
  }

  void lose_machines() {
    attempt("a machine", 1, [](ClusterRun& run) {
      if (trains(run)) run.kill_machine(other_than(run.leader()));
    });
    attempt("the machine of rank 0", 1, [](ClusterRun& run) {
      if (trains(run)) run.kill_machine(run.host_of_number(0));
    });
    attempt("the leader's machine", 1, [](ClusterRun& run) {
      if (trains(run)) run.kill_machine(run.leader());
    });
    attempt("two machines, one after the other", 2, [](ClusterRun& run) {
      if (!trains(run)) return;
      run.kill_machine(other_than(run.leader()));
      if (trains(run, 60)) run.kill_machine(run.leader());
    });
    attempt("a machine, with a spare", 1, plan(1), [](ClusterRun& run) {
      if (trains(run)) run.kill_machine(run.host_of_number(1));
    });
    attempt("a machine that comes back after 6 s", 1, [](ClusterRun& run) {
      if (!trains(run)) return;
      const int host = other_than(run.leader());
      run.kill_machine(host);
      run.wait_seconds(6);
      run.start(host);
    });
    attempt("all machines at once, started again", 4, [](ClusterRun& run) {
      if (!trains(run, 30)) return;
      for (int host = 0; host < kMachines; ++host) run.kill_machine(host);
      for (int host = 0; host < kMachines; ++host) run.start(host);
    });
  }

  void lose_the_store() {
    const auto away_for = [this](double seconds) {
      return [this, seconds](ClusterRun& run) {
        if (!trains(run)) return;
        network_.kill_etcd();
        ++run.num_faults;
        run.wait_seconds(seconds);
        network_.start_etcd();
      };
    };
    attempt("etcd killed, started again at once", 1, away_for(0));
    attempt("etcd away for 12 s", 1, away_for(12));
  }

  void lose_the_network() {
    const auto cut = [this](bool leader, double seconds) {
      return [this, leader, seconds](ClusterRun& run) {
        if (!trains(run)) return;
        const int host = leader ? run.leader() : other_than(run.leader());
        network_.cut(host);
        ++run.num_faults;
        run.wait_seconds(seconds);
        network_.heal(host);
      };
    };
    attempt("a machine's network cut for 1 s", 1, cut(false, 1));
    attempt("a machine's network cut for 15 s", 1, cut(false, 15));
    attempt("the leader's network cut for 15 s", 1, cut(true, 15));
    attempt("two of four machines cut off for 10 s", 2, [this](ClusterRun& run) {
      if (!trains(run)) return;
      for (const int host : {0, 1}) network_.cut(host);
      run.num_faults += 2;
      run.wait_seconds(10);
      for (const int host : {0, 1}) network_.heal(host);
    });
    attempt("the network of two machines flaps for 8 s", 2, [this](ClusterRun& run) {
      if (!trains(run)) return;
      run.num_faults += 2;
      for (int i = 0; i < 16; ++i) {
        network_.cut(i % 2);
        run.wait_seconds(0.2);
        network_.heal(i % 2);
        run.wait_seconds(0.3);
      }
    });
    // With rank 0, which writes metrics and names checkpoints: what it wrote after the others have gone on would show
    // as lines that come twice.
    attempt("the machines of ranks 0 to 3 cut off together", 2, [this](ClusterRun& run) {
      if (!trains(run)) return;
      const std::vector<int> hosts = {run.host_of_number(0), run.host_of_number(1)};
      network_.cut_off_together(hosts);
      run.num_faults += 2;
      run.require(run.wait_for_text("4 data ranks go on"), "the others do not go on");
      run.wait_seconds(10);
      for (const int host : hosts) network_.heal(host);
    });
    spoil_packets("a machine that loses packets", [this](int host) { return network_.lose_packets(host); });
    spoil_packets("a machine whose packets come late", [this](int host) { return network_.delay_packets(host); });
  }

  void spoil_packets(const std::string& kind, const std::function<std::string(int host)>& spoil) {
    const std::string how = spoil(1);
    network_.carry_all_packets(1);
    if (how.empty() && kind.find(arguments_.only) != std::string::npos)
      std::printf("%-58s skipped: this system has no netem, and nothing to do instead\n", kind.c_str());
    if (how.empty()) return;
    attempt(kind + " (" + how + ")", 1, [&](ClusterRun& run) {
      if (!trains(run)) return;
      spoil(1);
      ++run.num_faults;
      trains(run, 90);
      network_.carry_all_packets(1);
    });
  }

  // A rank a machine. All are slow from the start, so that a machine has time to come back.
  ClusterPlan slow_plan(int num_machines) const {
    ClusterPlan slow = plan(0, num_machines);
    slow.ranks = num_machines;
    for (int rank = 0; rank < num_machines; ++rank)
      slow.faults += fmt::format("{}{}:slow:microbatch:1", rank == 0 ? "" : ",", rank);
    return slow;
  }

  // These machines are lost at once, and started again when the others have gone on.
  static void come_back(ClusterRun& run, const std::vector<int>& hosts, int num_machines) {
    if (!trains(run)) return;
    for (const int host : hosts) run.kill_machine(host);
    const auto go_on = [&](int ranks) { return run.wait_for_text(fmt::format("{} data ranks go on", ranks)); };
    run.require(go_on(num_machines - static_cast<int>(hosts.size())), "the run did not shrink");
    for (const int host : hosts) run.start(host);
    run.require(go_on(num_machines), "the run did not grow again");
  }

  void shrink_and_grow() {
    attempt("a machine that comes back: from 3 to 4", 1, slow_plan(kMachines),
            [](ClusterRun& run) { come_back(run, {other_than(run.leader())}, kMachines); });
    attempt("two of six machines come back: from 4 to 6", 2, slow_plan(kMoreMachines), [](ClusterRun& run) {
      const int leader = run.leader();
      come_back(run, {(leader + 1) % kMoreMachines, (leader + 3) % kMoreMachines}, kMoreMachines);
    });
  }

  // Two leaves a step pass there, the rank's own and the one that it checks. A process that is started for the rank
  // elsewhere does not come that far.
  void compute_wrong_numbers() {
    for (const int num_spares : {0, 1}) {
      ClusterPlan verified = plan(num_spares);
      verified.faults = "3:flip:gradient:140";
      verified.settings = {"train.verify_every=1"};
      attempt(fmt::format("a machine that computes wrong numbers{}", num_spares > 0 ? ", with a spare" : ""), 1,
              verified, [](ClusterRun& run) {
                const std::string name = trains(run) ? run.name_of_number(1) : "";
                if (!run.wait_for_text("rank 3 (" + name + ") computed wrong numbers")) return;
                ++run.num_faults;
                run.require(trains(run, 119), "the run does not go on");
                run.require(run.given_up() == name + "\n", "given up: " + run.given_up());
              });
    }
  }

  void stop_and_go_on() {
    ClusterPlan may_stop = plan();
    may_stop.may_stop = true;
    attempt("SIGUSR1 to one machine: all save; the same command again", 1, may_stop, [](ClusterRun& run) {
      if (!trains(run)) return;
      run.send(other_than(run.leader()), SIGUSR1);
      ++run.num_faults;
    });
    attempt("SIGTERM to all machines; the same command again", 1, may_stop, [](ClusterRun& run) {
      if (!trains(run)) return;
      for (int host = 0; host < kMachines; ++host) run.send(host, SIGTERM);
      ++run.num_faults;
    });
  }

  const Arguments arguments_;
  Ground ground_;
  Network network_;
  int num_tries_ = 0, num_held_ = 0, num_faults_ = 0, num_faults_held_ = 0, num_equal_ = 0;
};

int main(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    if (i + 1 == argc) return usage(argv[0]);
    if (name == "--times")
      arguments.times = std::atoi(argv[i + 1]);
    else if (name == "--only")
      arguments.only = argv[i + 1];
    else if (name == "--directory")
      arguments.directory = std::filesystem::absolute(argv[i + 1]).string();
    else
      return usage(argv[0]);
  }
  if (arguments.times < 1) return usage(argv[0]);
  if (const std::string why = Network::why_not(); !why.empty()) {
    std::printf("skipped: %s\n", why.c_str());
    return 0;
  }
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  std::filesystem::remove_all(arguments.directory);
  const double begun = monotonic_seconds();
  const int code = ClusterChaos(arguments, (self.parent_path() / "colossus").string()).run();
  std::printf("%.0f s\n", monotonic_seconds() - begun);
  return code;
}

}  // namespace
}  // namespace colossus::chaos

int main(int argc, char** argv) { return colossus::chaos::main(argc, argv); }
