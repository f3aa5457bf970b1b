#include "cluster.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "base/check.h"
#include "base/clock.h"
#include "comm/key_value_store.h"

namespace colossus::chaos {
namespace {

void pause() { std::this_thread::sleep_for(std::chrono::milliseconds(10)); }

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> children;
  const std::string path = fmt::format("/proc/{0}/task/{0}/children", parent);
  std::FILE* file = std::fopen(path.c_str(), "r");
  if (file == nullptr) return children;
  for (int pid = 0; std::fscanf(file, "%d", &pid) == 1;) children.push_back(pid);
  std::fclose(file);
  return children;
}

std::string environment_of(pid_t pid) {
  std::FILE* file = std::fopen(fmt::format("/proc/{}/environ", pid).c_str(), "rb");
  if (file == nullptr) return "";
  std::string environment(1 << 20, '\0');
  environment.resize(std::fread(environment.data(), 1, environment.size(), file));
  std::fclose(file);
  return environment;
}

}  // namespace

ClusterRun::ClusterRun(Ground& ground, const ClusterPlan& plan, std::string out)
    : ground_(ground), plan_(plan), out_(std::move(out)) {
  machines_.resize(plan_.hosts.size());
  for (size_t host = 0; host < plan_.hosts.size(); ++host) start(static_cast<int>(host));
}

void ClusterRun::start(int host) {
  Machine& machine = machines_[static_cast<size_t>(host)];
  const Host& place = plan_.hosts[static_cast<size_t>(host)];
  const int num_machines = static_cast<int>(plan_.hosts.size()) - plan_.num_spares;
  std::vector<std::string> more = {"--machines", std::to_string(num_machines),
                                   "--spares",   std::to_string(plan_.num_spares),
                                   "--set",      "train.threads=1"};
  for (const std::string& setting : plan_.settings) more.insert(more.end(), {"--set", setting});
  if (plan_.named) more.insert(more.end(), {"--machine", place.name});
  if (!plan_.interface.empty()) more.insert(more.end(), {"--interface", plan_.interface});
  if (!plan_.store.empty()) more.insert(more.end(), {"--store", store()});
  std::vector<std::pair<std::string, std::string>> environment;
  if (!plan_.faults.empty()) environment.emplace_back("COLOSSUS_FAULT_OF_RANK", plan_.faults);
  Ground::Run run = ground_.start(out_, plan_.ranks, environment, more, place.prefix);
  machine.process = std::move(run.process);
  machine.logs.push_back(run.log);
  machine.killed = false;
}

int ClusterRun::num_steps() const { return ground_.num_steps(out_); }

bool ClusterRun::wait_for_steps(int steps) {
  const double begun = monotonic_seconds();
  while (monotonic_seconds() - begun < ground_.limit_seconds()) {
    if (num_steps() >= steps) return true;
    if (std::ranges::all_of(machines_, [](Machine& each) { return each.process->poll().has_value(); })) return false;
    pause();
  }
  return false;
}

bool ClusterRun::wait_for_text(const std::string& text) {
  const double begun = monotonic_seconds();
  while (monotonic_seconds() - begun < ground_.limit_seconds()) {
    const bool ended = std::ranges::all_of(machines_, [](Machine& each) { return each.process->poll().has_value(); });
    if (log().find(text) != std::string::npos) return true;
    if (ended) return false;
    pause();
  }
  return false;
}

void ClusterRun::wait_seconds(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

std::string ClusterRun::store() const {
  return plan_.store.empty() ? ground_.path(out_) + "/store" : plan_.store + "/" + out_;
}

int ClusterRun::host_of_number(int number) const {
  const auto name = open_store(store()).value()->get(fmt::format("life-1/machines/{}", number));
  CHECK(name.ok() && *name, "no machine has this number");
  for (size_t host = 0; host < plan_.hosts.size(); ++host)
    if (plan_.hosts[host].name == **name) return static_cast<int>(host);
  CHECK(false, "a machine has a name that none has");
}

int ClusterRun::leader() {
  const auto store = open_store(plan_.store.empty() ? ground_.path(out_) + "/store" : plan_.store + "/" + out_).value();
  const double begun = monotonic_seconds();
  while (monotonic_seconds() - begun < ground_.limit_seconds()) {
    const auto record = store->get("life-1/leader");
    if (record.ok() && *record)
      for (size_t host = 0; host < plan_.hosts.size(); ++host)
        if ((*record)->find(" " + plan_.hosts[host].name + ".") != std::string::npos) return static_cast<int>(host);
    pause();
  }
  CHECK(false, "no machine leads");
}

std::vector<pid_t> ClusterRun::workers(int host) const {
  std::vector<pid_t> workers = children_of(machines_[static_cast<size_t>(host)].process->pid());
  std::erase_if(workers, [](pid_t pid) { return environment_of(pid).find("COLOSSUS_WORKER=") == std::string::npos; });
  return workers;
}

void ClusterRun::kill_worker(int host, int place) {
  const auto found = workers(host);
  CHECK(static_cast<size_t>(place) < found.size(), "the machine has fewer workers");
  ::kill(found[static_cast<size_t>(place)], SIGKILL);
  ++num_faults;
}

void ClusterRun::kill_supervisor(int host) {
  machines_[static_cast<size_t>(host)].process->send(SIGKILL);
  machines_[static_cast<size_t>(host)].process->wait();
  machines_[static_cast<size_t>(host)].killed = true;
  ++num_faults;
}

void ClusterRun::kill_machine(int host) {
  const auto all = workers(host);
  machines_[static_cast<size_t>(host)].process->send(SIGKILL);
  for (const pid_t pid : all) ::kill(pid, SIGKILL);
  machines_[static_cast<size_t>(host)].process->wait();
  machines_[static_cast<size_t>(host)].killed = true;
  ++num_faults;
}

void ClusterRun::send(int host, int signal) { machines_[static_cast<size_t>(host)].process->send(signal); }

bool ClusterRun::ends_within(double seconds) {
  const double begun = monotonic_seconds();
  while (monotonic_seconds() - begun < seconds) {
    if (std::ranges::all_of(machines_, [](Machine& each) { return each.process->poll().has_value(); })) return true;
    pause();
  }
  return false;
}

std::string ClusterRun::log() const {
  std::string all;
  for (const Machine& machine : machines_)
    for (const std::string& path : machine.logs) all += text_of_file(path);
  return all;
}

Verdict ClusterRun::judge() {
  Verdict verdict;
  if (!ends_within(ground_.limit_seconds())) add_reason(verdict, "the run does not end");
  const bool stopped = std::ranges::any_of(
      machines_, [](Machine& each) { return !each.killed && each.process->poll() && !each.process->poll()->ok(); });
  if (plan_.may_stop && stopped) {
    // It must go on from where it was.
    for (size_t host = 0; host < machines_.size(); ++host) start(static_cast<int>(host));
    if (!ends_within(ground_.limit_seconds())) add_reason(verdict, "the run that goes on does not end");
  }
  if (!missed_.empty()) add_reason(verdict, missed_);
  judge_ends(verdict);
  ground_.judge_curve(out_, log(), verdict);
  verdict.num_faults = num_faults;
  return verdict;
}

void ClusterRun::judge_ends(Verdict& verdict) {
  for (size_t host = 0; host < machines_.size(); ++host) {
    Machine& machine = machines_[host];
    const std::string& name = plan_.hosts[host].name;
    const auto end = machine.process->poll();
    if (!end)
      machine.process->send(SIGKILL);
    else if (!machine.killed && !end->ok())
      add_reason(verdict, fmt::format("{} ended with {}", name, end->to_string()));
    const std::string store = Ground::store_of(ground_.path(out_) + "@" + name);
    const std::vector<pid_t> left = processes_with("COLOSSUS_STORE=" + store);
    for (const pid_t pid : left) ::kill(pid, SIGKILL);
    if (!left.empty()) add_reason(verdict, fmt::format("{} workers were left behind on {}", left.size(), name));
    if (!machine.killed && std::filesystem::exists(store)) add_reason(verdict, name + " left its directory behind");
    std::filesystem::remove_all(store);
  }
}

Verdict survives_on_machines(Ground& ground, const ClusterPlan& plan, const std::function<void(ClusterRun&)>& disturb) {
  ClusterRun run(ground, plan, ground.new_name());
  disturb(run);
  const Verdict verdict = run.judge();
  ground.tidy(run.out(), verdict);
  return verdict;
}

}  // namespace colossus::chaos
