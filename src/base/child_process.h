// A program started beside this one.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"

namespace colossus {

// How a process ended.
struct ProcessEnd {
  int exit_code = 0;
  int signal = 0;  // not 0: it was killed by this

  bool ok() const { return signal == 0 && exit_code == 0; }
  std::string to_string() const;  // "exit code 3", "killed by signal 9 (Killed)"
};

class ChildProcess {
 public:
  struct Options {
    std::vector<std::string> arguments;  // the first one is the program: a path, or a name to look for in PATH
    std::vector<std::pair<std::string, std::string>> environment;  // beside what this process has
    // In a process group of its own a terminal's Ctrl-C does not reach it.
    bool own_group = false;
    // Sent to the child when this process ends, however it ends; 0: none.
    int signal_when_parent_ends = 0;
  };

  static Result<ChildProcess> start(const Options& options);
  ChildProcess(ChildProcess&& other) noexcept : pid_(std::exchange(other.pid_, 0)), end_(other.end_) {}
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  // Kills and waits for a child that still runs.
  ~ChildProcess();

  pid_t pid() const { return pid_; }
  // How it ended, or nothing yet. Does not wait.
  std::optional<ProcessEnd> poll();
  ProcessEnd wait();
  void send(int signal);  // nothing once it has ended

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}

  pid_t pid_ = 0;
  std::optional<ProcessEnd> end_;
};

}  // namespace colossus
