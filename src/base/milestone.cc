#include "base/milestone.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <list>

#include "base/check.h"

namespace colossus {
namespace {

constexpr std::string_view kActions[] = {"kill", "stop", "spin", "slow", "flip", "flips"};

struct Fault {
  std::string action, point;
  int64_t passage = 0;
  std::atomic<int64_t> passages = 0;
};

// see(fault) for each between two commas.
template <class See>
void for_each_fault(std::string_view faults, const See& see) {
  while (!faults.empty()) {
    const size_t end = std::min(faults.find(','), faults.size());
    see(faults.substr(0, end));
    faults.remove_prefix(std::min(end + 1, faults.size()));
  }
}

// A list: a fault's place in memory must not change.
std::list<Fault> faults_of_environment() {
  std::list<Fault> faults;
  const char* text = std::getenv("COLOSSUS_FAULT");
  for_each_fault(text == nullptr ? "" : text, [&](std::string_view each) {
    const size_t first = each.find(':'), last = each.rfind(':');
    CHECK(first != last, "COLOSSUS_FAULT is not action:point:passage");
    Fault& fault = faults.emplace_back();
    fault.action = each.substr(0, first);
    fault.point = each.substr(first + 1, last - first - 1);
    fault.passage = std::strtoll(std::string(each.substr(last + 1)).c_str(), nullptr, 10);
    const bool known = std::ranges::count(kActions, std::string_view(fault.action)) == 1;
    CHECK(known && fault.passage >= 1,
          "COLOSSUS_FAULT is not kill, stop, spin, slow, flip or flips, with a passage from 1");
  });
  return faults;
}

std::atomic<int64_t> passed = 0;

constexpr useconds_t kSlowMicroseconds = 50'000;

}  // namespace

int64_t milestones_passed() { return passed.load(std::memory_order_relaxed); }

void milestone(const char* name) {
  CHECK(!milestone_flips(name), "COLOSSUS_FAULT flips a bit where there is no result");
}

bool milestone_flips(const char* name) {
  passed.fetch_add(1, std::memory_order_relaxed);
  static std::list<Fault> faults = faults_of_environment();
  bool flips = false;
  for (Fault& fault : faults) {
    if (fault.point != name || ++fault.passages < fault.passage) continue;
    if (fault.action == "slow") ::usleep(kSlowMicroseconds);
    flips = flips || fault.action == "flips" || (fault.action == "flip" && fault.passages == fault.passage);
    if (fault.action == "slow" || fault.action.starts_with("flip") || fault.passages > fault.passage) continue;
    while (fault.action == "spin") ::usleep(1000);
    ::kill(::getpid(), fault.action == "kill" ? SIGKILL : SIGSTOP);
  }
  return flips;
}

std::string faults_of_process(std::string_view faults, int64_t rank, int64_t process) {
  const std::string who = std::to_string(rank), whose = who + "." + std::to_string(process);
  std::string found;
  for_each_fault(faults, [&](std::string_view fault) {
    const std::string_view name = fault.substr(0, fault.find(':'));
    if (name != whose && !(name == who && process == 1)) return;
    found += (found.empty() ? "" : ",") + std::string(fault.substr(std::min(name.size() + 1, fault.size())));
  });
  return found;
}

}  // namespace colossus
