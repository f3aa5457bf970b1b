#include "train/recovery/agent.h"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <string>

#include "base/milestone.h"

namespace colossus {

Status Agent::start(int place, int rank, int machine, int64_t process) {
  auto& worker = workers_[static_cast<size_t>(place)];
  const int64_t ordinal = ++num_started_[rank];
  const std::string name = worker_name(machine, place, process);
  ChildProcess::Options options{.arguments = options_.command,
                                .environment = options_.environment,
                                .own_group = true,
                                .signal_when_parent_ends = options_.signal_when_parent_ends};
  options.environment.emplace_back(kWorkerVariable, name);
  options.environment.emplace_back(kPlaceVariable, std::to_string(place));
  if (!options_.faults.empty())
    options.environment.emplace_back("COLOSSUS_FAULT", faults_of_process(options_.faults, rank, ordinal));
  ASSIGN_OR_RETURN(ChildProcess started, ChildProcess::start(options));
  worker.emplace(Worker{.name = name, .rank = rank, .process = std::move(started)});
  report_.ranks[static_cast<size_t>(place)] = {.process = process, .heartbeat = {}, .words = {}, .wrong_ranks = {}};
  return ok_status();
}

void Agent::look_at(int place) {
  Worker& worker = *workers_[static_cast<size_t>(place)];
  RankRecord& record = report_.ranks[static_cast<size_t>(place)];
  if (record.ended) return;
  const auto end = worker.process.poll();
  if (const auto heard = read_heartbeat(store_, worker.name); heard.ok() && *heard) record.heartbeat = **heard;
  if (members_) {
    const int64_t now = members_->id;
    if (const auto done = has_finished(store_, now, worker.name); done.ok() && *done) record.finished_in = now;
    if (const auto why = read_broken(store_, now, worker.name); why.ok() && *why && record.broken_in != now) {
      record.broken_in = now;
      record.words = (*why)->why;
      record.wrong_ranks = (*why)->wrong_ranks;
    }
  }
  if (!end) return;
  record.ended = true;
  record.code = end->exit_code;
  record.signal = end->signal;
  const auto words = read_last_words(store_, worker.name);
  record.words = words.ok() ? *words : "";
  const bool lost = !end->ok() && !asked_to_save_ && !(members_ && record.finished_in == members_->id);
  if (lost)
    options_.note(fmt::format("rank {} ended after step {}: {}{}{}", worker.rank,
                              std::max<int64_t>(0, record.heartbeat.step), end->to_string(),
                              record.words.empty() ? "" : ": ", record.words));
}

bool Agent::look() {
  bool urgent = false;
  for (size_t place = 0; place < workers_.size(); ++place) {
    if (!workers_[place]) continue;
    const RankRecord before = report_.ranks[place];
    look_at(static_cast<int>(place));
    const RankRecord& after = report_.ranks[place];
    urgent = urgent || before.ended != after.ended || before.broken_in != after.broken_in ||
             before.finished_in != after.finished_in;
  }
  return urgent;
}

Status Agent::obey(const Assignment& assignment, int self) {
  if (fence_.accepts(assignment.term, assignment.generation)) {
    const auto slot = assignment.slot_of(self);
    const auto process_at = [&](size_t place) {
      return slot ? assignment.processes.at(*slot * assignment.shape.ranks_per_machine + static_cast<int>(place)) : -1;
    };
    // All that have to go before the first that comes.
    for (size_t place = 0; place < workers_.size(); ++place)
      if (workers_[place] && report_.ranks[place].process != process_at(place)) workers_[place]->process.send(SIGKILL);
    for (size_t place = 0; place < workers_.size(); ++place) {
      const int64_t process = process_at(place);
      if (workers_[place] && report_.ranks[place].process != process) {
        workers_[place].reset();  // waits for its end
        report_.ranks[place] = {.heartbeat = {}, .words = {}, .wrong_ranks = {}};
      }
      if (process < 0) continue;
      const int rank = *slot * assignment.shape.ranks_per_machine + static_cast<int>(place);
      if (workers_[place])
        workers_[place]->rank = rank;
      else
        RETURN_IF_ERROR(start(static_cast<int>(place), rank, self, process));
    }
    members_ = assignment.membership();
    if (members_ && slot) RETURN_IF_ERROR(publish(store_, *members_));
  }
  if (assignment.generation != fence_.generation || assignment.term < fence_.term) return ok_status();
  if (assignment.phase == RunPhase::kSaving && !std::exchange(asked_to_save_, true))
    for (auto& worker : workers_)
      if (worker) worker->process.send(SIGTERM);
  if (assignment.phase == RunPhase::kFinished && !std::exchange(said_finished_, true))
    RETURN_IF_ERROR(report_all_finished(store_, assignment.generation + 1));
  return ok_status();
}

Status Agent::renew_lease(double since) { return write_lease(store_, since); }

bool Agent::has_workers() const {
  return std::ranges::any_of(workers_, [](const auto& worker) { return worker.has_value(); });
}

bool Agent::all_ended() const {
  for (size_t place = 0; place < workers_.size(); ++place)
    if (workers_[place] && !report_.ranks[place].ended) return false;
  return true;
}

void Agent::end_all() {
  for (auto& worker : workers_)
    if (worker) worker->process.send(SIGKILL);
  for (size_t place = 0; place < workers_.size(); ++place) {
    workers_[place].reset();
    report_.ranks[place] = {.heartbeat = {}, .words = {}, .wrong_ranks = {}};
  }
}

}  // namespace colossus
