// Runs the real binary as a person would: arguments, a directory to run in, signals; exit code and what it printed.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "io/file_system.h"

namespace colossus {

struct Outcome {
  int exit_code = -1;  // 128 + signal when one ended it, as shells say
  std::string out, err;
};

class Process {
 public:
  // Starts `words` in `directory`. Output goes to files in it, so that no full pipe can block.
  Process(std::vector<std::string> words, const std::string& directory, const std::string& input = "")
      : out_path_(directory + "/.stdout"), err_path_(directory + "/.stderr") {
    const std::string in_path = directory + "/.stdin";
    CHECK(write_file_atomically(local_files(), in_path, input).ok());
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    pid_ = fork();
    CHECK(pid_ >= 0);
    if (pid_ == 0) {
      redirect(in_path, O_RDONLY, 0);
      redirect(out_path_, O_WRONLY | O_CREAT | O_TRUNC, 1);
      redirect(err_path_, O_WRONLY | O_CREAT | O_TRUNC, 2);
      if (chdir(directory.c_str()) == 0) execvp(arguments[0], arguments.data());
      _exit(127);
    }
  }
  ~Process() {
    if (pid_ < 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void send(int signal) { CHECK(kill(pid_, signal) == 0); }

  // False when the process ended before `holds` did.
  bool wait_until(const std::function<bool()>& holds) {
    while (!holds()) {
      siginfo_t state{};
      CHECK(waitid(P_PID, static_cast<id_t>(pid_), &state, WEXITED | WNOHANG | WNOWAIT) == 0);
      if (state.si_pid != 0) return holds();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  Outcome wait() {
    int status = 0;
    CHECK(waitpid(pid_, &status, 0) == pid_);
    pid_ = -1;
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), text_of(out_path_), text_of(err_path_)};
  }

 private:
  static void redirect(const std::string& path, int flags, int descriptor) {
    const int file = open(path.c_str(), flags, 0644);
    if (file < 0 || dup2(file, descriptor) < 0) _exit(126);
    close(file);
  }
  static std::string text_of(const std::string& path) {
    auto text = read_file(local_files(), path);
    CHECK(text.ok());
    return std::move(*text);
  }

  std::string out_path_, err_path_;
  pid_t pid_ = -1;
};

}  // namespace colossus
