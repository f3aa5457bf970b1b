// `make chaos`: every kind of fault many times, each on a run of its own, drawn from a seed.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <random>

#include "base/clock.h"
#include "chaos.h"

namespace colossus::chaos {
namespace {

struct Arguments {
  int faults = 15;  // of each kind of milestone; of the other kinds a fifth
  int ranks = 8;
  uint64_t seed = 1;
  std::string text;
  std::string only;  // kinds whose names hold this
  int ground = 0;    // steps; 0: break runs
  std::string directory = (std::filesystem::temp_directory_path() / "colossus-chaos").string();
};

int usage(const char* program) {
  std::fprintf(stderr,
               "%s [--faults N] [--ranks 2..8] [--seed N] [--only KIND] [--text FILE] [--directory DIR]\n"
               "%s --ground STEPS [--text FILE] [--directory DIR]\n"
               "Breaks runs of the colossus beside it, N times at each milestone, and a fifth as often in each other\n"
               "way, and compares each with a run that nothing happened to. Runs that did not hold stay in DIR.\n"
               "--ground: only makes data, run.toml and a run of one rank in DIR, for others to break runs.\n",
               program, program);
  return 2;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

class Chaos {
 public:
  Chaos(const Arguments& arguments, const std::string& binary)
      : arguments_(arguments),
        random_(arguments.seed),
        ground_({.binary = binary, .directory = arguments.directory, .text = arguments.text}) {}

  int run() {
    kill_at_milestones();
    kill_several();
    stop_and_hang();
    compute_wrong_numbers();
    kill_the_whole_run();
    kill_while_saving();
    const bool held = num_held_ == num_tries_ && num_tries_ > 0 && !never_reached_;
    std::printf("recovery: median %.1f s, longest %.1f s, of %zu\n", median(all_seconds_),
                all_seconds_.empty() ? 0.0 : std::ranges::max(all_seconds_), all_seconds_.size());
    std::printf("faults %d, held %d, curves equal %d of %d\n", num_faults_, num_faults_held_, num_equal_, num_tries_);
    return held ? 0 : 1;
  }

 private:
  // Up to `most`.
  int draw(int most) { return static_cast<int>(random_() % static_cast<uint64_t>(most)) + 1; }
  int draw_rank() { return draw(arguments_.ranks) - 1; }
  int few() const { return std::max(1, arguments_.faults / 5); }

  // A line for the kind. One that a run did not come to is drawn again; a kind that none came to has not held.
  void attempt(const std::string& kind, int times, int num_faults, const std::function<Verdict()>& make) {
    if (kind.find(arguments_.only) == std::string::npos) return;
    int tried = 0, held = 0;
    std::vector<double> seconds;
    std::vector<std::string> failures;
    for (int missed = 0; tried < times && missed < 10 * times;) {
      const Verdict verdict = make();
      if (verdict.held() && verdict.num_faults < num_faults) {
        ++missed;
        continue;
      }
      ++tried;
      num_faults_ += verdict.num_faults;
      num_equal_ += verdict.curve_is_equal ? 1 : 0;
      if (verdict.held()) {
        ++held;
        num_faults_held_ += verdict.num_faults;
      } else {
        failures.push_back(what_ + ": " + verdict.why);
      }
      seconds.insert(seconds.end(), verdict.recovery_seconds.begin(), verdict.recovery_seconds.end());
    }
    num_tries_ += tried;
    num_held_ += held;
    std::printf("%-44s tried %3d  held %3d", kind.c_str(), tried, held);
    if (!seconds.empty())
      std::printf("  recovery median %.1f s, longest %.1f s", median(seconds), std::ranges::max(seconds));
    std::printf("\n");
    for (const std::string& failure : failures) std::printf("  %s\n", failure.c_str());
    if (tried == 0) {
      never_reached_ = true;
      std::printf("  no run came to it\n");
    }
    std::fflush(stdout);
    all_seconds_.insert(all_seconds_.end(), seconds.begin(), seconds.end());
  }

  std::function<Verdict()> with(const std::function<std::string()>& faults) {
    return [this, faults] {
      what_ = faults();
      return ground_.survives(arguments_.ranks, what_);
    };
  }

  void kill_at_milestones() {
    // How often a rank passes each in a run, about: a rank computes its share of 16 microbatches.
    const int microbatches = 16 / arguments_.ranks * Ground::kSteps;
    const std::map<std::string, int> passages = {{"join", 1},
                                                 {"load", microbatches},
                                                 {"microbatch", microbatches},
                                                 {"operation", 100 * microbatches},
                                                 {"all_gather", 60},
                                                 {"all_to_all", 40},
                                                 {"send_receive", 20},
                                                 {"update", Ground::kSteps},
                                                 {"copy", Ground::kSteps},
                                                 {"evaluate", 3},
                                                 {"checkpoint_write", 30},
                                                 {"checkpoint_sync", 3},
                                                 {"finish", 1}};
    for (const auto& [point, most] : passages)
      attempt("kill at " + point, arguments_.faults, 1,
              with([&, this] { return fmt::format("{}:kill:{}:{}", draw_rank(), point, draw(most)); }));
  }

  void kill_several() {
    const auto update = [this] { return draw(Ground::kSteps - 4); };
    attempt("kill rank 0", few(), 1, with([=, this] { return fmt::format("0:kill:update:{}", update()); }));
    attempt("kill two ranks at once", few(), 2, with([=, this] {
              const int rank = draw_rank(), other = (rank + draw(arguments_.ranks - 1)) % arguments_.ranks;
              const int step = update();
              return fmt::format("{}:kill:update:{},{}:kill:update:{}", rank, step, other, step);
            }));
    attempt("kill a rank three times in a row", few(), 3, with([=, this] {
              const int rank = draw_rank();
              return fmt::format("{0}:kill:update:{1},{0}.2:kill:microbatch:1,{0}.3:kill:update:1", rank, update());
            }));
    attempt("kill the replacement while it joins", few(), 2, with([=, this] {
              return fmt::format("{0}:kill:update:{1},{0}.2:kill:{2}:1", draw_rank(), update(),
                                 draw(2) == 1 ? "join" : "all_gather");
            }));
    attempt("kill another while one recovers", few(), 2, with([=, this] {
              const int rank = draw_rank(), other = (rank + draw(arguments_.ranks - 1)) % arguments_.ranks;
              return fmt::format("{}:kill:update:{},{}:kill:join:2", rank, update(), other);
            }));
    attempt("kill a rank four times: the run gives up", 1, 4, [=, this] {
      what_ = "1:kill:load:1,1.2:kill:load:1,1.3:kill:load:1,1.4:kill:load:1";
      return ground_.gives_up(arguments_.ranks, what_, "after 3 restarts");
    });
  }

  void stop_and_hang() {
    for (const char* action : {"stop", "spin"})
      for (const char* point : {"microbatch", "all_gather", "join"})
        attempt(fmt::format("{} at {}", action, point), std::max(1, few() / 2), 1, with([=, this] {
                  return fmt::format("{}:{}:{}:{}", draw_rank(), action, point,
                                     point == std::string("join") ? 1 : draw(20));
                }));
  }

  void compute_wrong_numbers() {
    // A rank's own leaves, and as many that it checks; not in the last step, behind which nobody looks.
    const int passages = 2 * Ground::kLeaves / arguments_.ranks * (Ground::kSteps - 1);
    attempt("a bit flips in a gradient", arguments_.faults, 1, [=, this] {
      what_ = fmt::format("{}:flip:gradient:{}", draw_rank(), draw(passages));
      return ground_.survives(arguments_.ranks, what_, Ground::verified());
    });
    attempt("one of two ranks errs from now on", few(), 1, [this] {
      what_ = fmt::format("{}:flips:gradient:{}", draw(2) - 1, draw(8 * (Ground::kSteps - 4)));
      return ground_.contradicts_itself(what_);
    });
  }

  void kill_the_whole_run() {
    attempt("kill the supervisor", few(), 1, [this] {
      const int step = draw(Ground::kSteps - 6);
      what_ = fmt::format("after step {}", step);
      return ground_.resumes_after_signal(arguments_.ranks, SIGKILL, step);
    });
    attempt("Ctrl-C", few(), 1, [this] {
      const int step = draw(Ground::kSteps - 6);
      what_ = fmt::format("after step {}", step);
      return ground_.resumes_after_signal(arguments_.ranks, SIGINT, step);
    });
    attempt("Ctrl-C, then another number of ranks", std::max(1, few() / 2), 4, [this] {
      what_ = "4, 3, 8, 1, 2 ranks";
      return ground_.moves({4, 3, 8, 1, 2}, 4);
    });
  }

  void kill_while_saving() {
    for (const char* point : {"checkpoint_write", "checkpoint_sync", "checkpoint_rename"})
      attempt(fmt::format("kill a run of one rank at {}", point), few(), 1, [=, this] {
        what_ = fmt::format("kill:{}:{}", point, draw(point == std::string("checkpoint_write") ? 60 : 3));
        return ground_.resumes_after_kill(what_);
      });
    attempt("kill rank 0 at checkpoint_rename", few(), 1,
            with([this] { return fmt::format("0:kill:checkpoint_rename:{}", draw(3)); }));
  }

  const Arguments arguments_;
  std::mt19937_64 random_;
  Ground ground_;
  std::string what_;  // the last try
  int num_tries_ = 0, num_held_ = 0, num_faults_ = 0, num_faults_held_ = 0, num_equal_ = 0;
  bool never_reached_ = false;  // some kind
  std::vector<double> all_seconds_;
};

int main(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    if (i + 1 == argc) return usage(argv[0]);
    const char* value = argv[i + 1];
    if (name == "--faults") {
      arguments.faults = std::atoi(value);
    } else if (name == "--ranks") {
      arguments.ranks = std::atoi(value);
    } else if (name == "--seed") {
      arguments.seed = static_cast<uint64_t>(std::atoll(value));
    } else if (name == "--only") {
      arguments.only = value;
    } else if (name == "--text") {
      arguments.text = std::filesystem::absolute(value).string();
    } else if (name == "--ground") {
      arguments.ground = std::atoi(value);
    } else if (name == "--directory") {
      arguments.directory = std::filesystem::absolute(value).string();
    } else {
      return usage(argv[0]);
    }
  }
  if (arguments.faults < 1 || arguments.ranks < 2 || arguments.ranks > Ground::kLeaves) return usage(argv[0]);
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  std::filesystem::remove_all(arguments.directory);
  if (arguments.ground > 0) {
    Ground({.binary = (self.parent_path() / "colossus").string(),
            .directory = arguments.directory,
            .text = arguments.text,
            .steps = arguments.ground,
            .every = std::max(1, arguments.ground / 10)});
    return 0;
  }
  const double begun = monotonic_seconds();
  const int code = Chaos(arguments, (self.parent_path() / "colossus").string()).run();
  std::printf("%.0f s\n", monotonic_seconds() - begun);
  return code;
}

}  // namespace
}  // namespace colossus::chaos

int main(int argc, char** argv) { return colossus::chaos::main(argc, argv); }
