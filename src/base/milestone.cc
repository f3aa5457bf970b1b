#include "base/milestone.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>

#include "base/check.h"

namespace colossus {
namespace {

struct Fault {
  std::string action, point;
  int64_t passage = 0;
};

// "kill:update:3"
const Fault* fault_of_environment() {
  const char* text = std::getenv("COLOSSUS_FAULT");
  if (text == nullptr || *text == '\0') return nullptr;
  const std::string all = text;
  const size_t first = all.find(':'), last = all.rfind(':');
  CHECK(first != last, "COLOSSUS_FAULT is not action:point:passage");
  static Fault fault{all.substr(0, first), all.substr(first + 1, last - first - 1),
                     std::strtoll(all.c_str() + last + 1, nullptr, 10)};
  CHECK((fault.action == "kill" || fault.action == "stop" || fault.action == "spin") && fault.passage >= 1,
        "COLOSSUS_FAULT is not kill, stop or spin, with a passage from 1");
  return &fault;
}

std::atomic<int64_t> passed = 0;

}  // namespace

int64_t milestones_passed() { return passed.load(std::memory_order_relaxed); }

void milestone(const char* name) {
  passed.fetch_add(1, std::memory_order_relaxed);
  static const Fault* const fault = fault_of_environment();
  if (fault == nullptr || fault->point != name) return;
  static std::atomic<int64_t> passages = 0;
  if (++passages != fault->passage) return;
  if (fault->action == "spin")
    while (true) ::usleep(1000);
  ::kill(::getpid(), fault->action == "kill" ? SIGKILL : SIGSTOP);
}

}  // namespace colossus
