#include "cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace colossus {
namespace {

// A handler may touch only these: lock-free atomics and memory written before it was installed.
std::atomic<bool> interrupt_requested = false;
std::atomic<const char*> interrupt_message = nullptr;
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<const char*>::is_always_lock_free);

struct sigaction previous_interrupt, previous_terminate, previous_user;

void write_text(const char* text) {
  // Nothing can be done in a handler when stderr is gone.
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, text, std::strlen(text));
}

void on_signal(int signal) {
  const int saved_errno = errno;
  if (interrupt_requested.exchange(true)) {
    if (signal == SIGUSR1) return;  // a scheduler's warning, which may come to a step and to its tasks
    write_text("\n");
    ::_exit(130);
  }
  if (const char* message = interrupt_message.load(); *message != '\0') {
    // The bar's line, if there is one, stays as it is.
    write_text("\ncolossus: ");
    write_text(message);
    write_text("\n");
  }
  errno = saved_errno;
}

}  // namespace

InterruptScope::InterruptScope(const char* message) {
  CHECK(interrupt_message.load() == nullptr, "one InterruptScope at a time");
  interrupt_message = message;
  interrupt_requested = false;
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  // Without SA_RESTART a read that waits for a person at the prompt returns at once.
  CHECK(sigaction(SIGINT, &action, &previous_interrupt) == 0);
  CHECK(sigaction(SIGTERM, &action, &previous_terminate) == 0);
  CHECK(sigaction(SIGUSR1, &action, &previous_user) == 0);
}

InterruptScope::~InterruptScope() {
  sigaction(SIGINT, &previous_interrupt, nullptr);
  sigaction(SIGTERM, &previous_terminate, nullptr);
  sigaction(SIGUSR1, &previous_user, nullptr);
  interrupt_message = nullptr;
}

const std::atomic<bool>& InterruptScope::requested() const { return interrupt_requested; }

}  // namespace colossus
