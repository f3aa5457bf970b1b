#include "node_check/system_text.h"

#include <fmt/format.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/klog.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <thread>

#include "base/child_process.h"
#include "base/clock.h"
#include "io/file_system.h"

namespace colossus {
namespace {

constexpr int kReadAll = 3, kSizeOfBuffer = 10;  // SYSLOG_ACTION_READ_ALL, SYSLOG_ACTION_SIZE_BUFFER (syslog(2))
constexpr double kGraceSeconds = 2;

std::optional<ProcessEnd> wait_for_end(ChildProcess& child, double seconds) {
  const double end = monotonic_seconds() + seconds;
  std::optional<ProcessEnd> ended = child.poll();
  while (!ended && monotonic_seconds() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ended = child.poll();
  }
  return ended;
}

// "<6>[ 12.5] text" as dmesg shows it: without the level.
std::string without_levels(std::string_view log) {
  std::string text;
  for (size_t at = 0; at < log.size();) {
    const size_t end = std::min(log.find('\n', at), log.size());
    std::string_view line = log.substr(at, end - at);
    if (line.starts_with('<') && line.find('>') != std::string_view::npos) line.remove_prefix(line.find('>') + 1);
    text.append(line).push_back('\n');
    at = end + 1;
  }
  return text;
}

}  // namespace

std::string read_system_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Result<std::string> read_kernel_log() {
  const int size = ::klogctl(kSizeOfBuffer, nullptr, 0);
  std::string log(size > 0 ? static_cast<size_t>(size) : size_t{1} << 20, '\0');
  const int got = ::klogctl(kReadAll, log.data(), static_cast<int>(log.size()));
  if (got < 0)
    return unavailable(fmt::format("cannot read the kernel's log: {}; run it as root, or give --kernel-log FILE",
                                   std::strerror(errno)));
  log.resize(static_cast<size_t>(got));
  return without_levels(log);
}

double seconds_since_boot() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

Result<ProgramOutput> run_program(const std::vector<std::string>& arguments, double timeout_seconds) {
  const char* parent = std::getenv("TMPDIR");
  std::string path = std::string(parent != nullptr && *parent != '\0' ? parent : "/tmp") + "/colossus-output-XXXXXX";
  const int file = ::mkstemp(path.data());
  if (file < 0) return unavailable(fmt::format("cannot create {}: {}", path, std::strerror(errno)));
  ::close(file);
  struct Remover {
    const std::string& path;
    ~Remover() { ::unlink(path.c_str()); }
  } const remover{path};
  // A shell sends the output to the file and becomes the program.
  ChildProcess::Options options{
      .arguments = {"/bin/sh", "-c", "exec \"$@\" >\"$COLOSSUS_OUTPUT\" 2>&1 </dev/null", "sh"},
      .environment = {{"COLOSSUS_OUTPUT", path}}};
  options.arguments.insert(options.arguments.end(), arguments.begin(), arguments.end());
  ASSIGN_OR_RETURN(ChildProcess started, ChildProcess::start(options));
  auto child = std::make_unique<ChildProcess>(std::move(started));
  ProgramOutput output;
  auto end = wait_for_end(*child, timeout_seconds);
  if (!end) {
    output.timed_out = true;
    child->send(SIGKILL);
    end = wait_for_end(*child, kGraceSeconds);
  }
  if (end) {
    output.exit_code = end->signal != 0 ? 128 + end->signal : end->exit_code;
  } else {
    // Its destructor would wait for ever.
    static_cast<void>(child.release());
    output.unkillable = true;
  }
  ASSIGN_OR_RETURN(const auto reader, local_files().open(path));
  output.text.resize(static_cast<size_t>(std::min(reader->size(), kMaxProgramOutput)));
  RETURN_IF_ERROR(read_exactly(*reader, 0, std::as_writable_bytes(std::span(output.text))));
  constexpr int kNoSuchCommand = 127;
  if (!output.timed_out && output.exit_code == kNoSuchCommand)
    return not_found(fmt::format("cannot run {}: {}", arguments.front(), output.text));
  return output;
}

}  // namespace colossus
