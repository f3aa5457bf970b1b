#include "base/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

extern char** environ;

namespace colossus {
namespace {

ProcessEnd end_of(int status) {
  if (WIFSIGNALED(status)) return {.exit_code = 0, .signal = WTERMSIG(status)};
  return {.exit_code = WEXITSTATUS(status), .signal = 0};
}

// Strings as exec wants them; they point into `from`.
std::vector<char*> pointers(std::vector<std::string>& from) {
  std::vector<char*> result;
  for (std::string& text : from) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

std::string ProcessEnd::to_string() const {
  if (signal == 0) return "exit code " + std::to_string(exit_code);
  return "killed by signal " + std::to_string(signal) + " (" + strsignal(signal) + ")";
}

Result<ChildProcess> ChildProcess::start(const Options& options) {
  CHECK(!options.arguments.empty());
  // All memory is taken before the fork: between it and exec only calls are safe that take none.
  std::vector<std::string> arguments = options.arguments, environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    bool replaced = false;
    for (const auto& [name, value] : options.environment) replaced |= text.starts_with(name + "=");
    if (!replaced) environment.push_back(text);
  }
  for (const auto& [name, value] : options.environment) environment.push_back(name + "=" + value);
  const std::vector<char*> argument_pointers = pointers(arguments), environment_pointers = pointers(environment);
  // The child says through this pipe why exec failed; exec closes it.
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0) return unavailable(std::string("cannot make a pipe: ") + std::strerror(errno));
  const pid_t parent = ::getpid(), pid = ::fork();
  if (pid < 0) {
    const int error = errno;
    ::close(report[0]);
    ::close(report[1]);
    return unavailable(std::string("cannot start another process: ") + std::strerror(error));
  }
  if (pid == 0) {
    if (options.own_group) ::setpgid(0, 0);
    if (options.signal_when_parent_ends != 0) {
      ::prctl(PR_SET_PDEATHSIG, options.signal_when_parent_ends);
      if (::getppid() != parent) ::_exit(1);  // it ended before the line above
    }
    ::execvpe(argument_pointers[0], argument_pointers.data(), environment_pointers.data());
    const int error = errno;
    [[maybe_unused]] const ssize_t ignored = ::write(report[1], &error, sizeof(error));
    ::_exit(127);
  }
  ::close(report[1]);
  int error = 0;
  ssize_t got = 0;
  do got = ::read(report[0], &error, sizeof(error));
  while (got < 0 && errno == EINTR);
  ::close(report[0]);
  ChildProcess child(pid);
  if (got == 0) return child;
  child.wait();
  return not_found("cannot start " + options.arguments.front() + ": " + std::strerror(error));
}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(end_, other.end_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pid_ == 0 || end_) return;
  send(SIGKILL);
  wait();
}

std::optional<ProcessEnd> ChildProcess::poll() {
  int status = 0;
  if (!end_ && ::waitpid(pid_, &status, WNOHANG) == pid_) end_ = end_of(status);
  return end_;
}

ProcessEnd ChildProcess::wait() {
  int status = 0;
  while (!end_)
    if (::waitpid(pid_, &status, 0) == pid_)
      end_ = end_of(status);
    else if (errno != EINTR)
      end_ = ProcessEnd{.exit_code = 127, .signal = 0};
  return *end_;
}

void ChildProcess::send(int signal) {
  if (!end_) ::kill(pid_, signal);
}

}  // namespace colossus
