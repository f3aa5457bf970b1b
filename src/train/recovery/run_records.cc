#include "train/recovery/run_records.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

namespace colossus {
namespace {

constexpr int kMostMachines = 1 << 20;

class PartOfStore final : public KeyValueStore {
 public:
  PartOfStore(KeyValueStore& store, std::string prefix) : store_(store), prefix_(std::move(prefix)) {}

  Status set(const std::string& key, const std::string& value) override { return store_.set(path(key), value); }
  Result<std::optional<std::string>> get(const std::string& key) override { return store_.get(path(key)); }
  Result<bool> compare_and_set(const std::string& key, const std::optional<std::string>& expected,
                               const std::string& value) override {
    return store_.compare_and_set(path(key), expected, value);
  }
  Status remove(const std::string& key) override { return store_.remove(path(key)); }

 private:
  std::string path(const std::string& key) const { return prefix_ + "/" + key; }

  KeyValueStore& store_;
  const std::string prefix_;
};

// A text that ends its line.
std::string one_line(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  return text;
}

std::string rest_of(std::istringstream& line) {
  std::string rest;
  std::getline(line >> std::ws, rest);
  return rest;
}

std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }
std::string not_dash(std::string text) { return text == "-" ? "" : std::move(text); }

// read(word, rest of the line) for each line; false when it does not understand one.
template <class Read>
Status read_lines(const std::string& text, const char* what, const Read& read) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream in(line);
    std::string word;
    in >> word;
    if (!read(word, in))
      return corrupt(
          fmt::format("{} has the line '{}', which no program of this version wrote", what, line.substr(0, 200)));
  }
  return ok_status();
}

constexpr std::pair<RunPhase, const char*> kPhases[] = {{RunPhase::kRunning, "running"},
                                                        {RunPhase::kSaving, "saving"},
                                                        {RunPhase::kFinished, "finished"},
                                                        {RunPhase::kSaved, "saved"},
                                                        {RunPhase::kGivenUp, "given_up"}};

}  // namespace

std::unique_ptr<KeyValueStore> part_of_store(KeyValueStore& store, std::string prefix) {
  return std::make_unique<PartOfStore>(store, std::move(prefix));
}

std::string machine_key(int machine) { return fmt::format("machines/{}", machine); }
std::string report_key(int machine) { return fmt::format("reports/{}", machine); }

std::string print_life_record(const LifeRecord& life) {
  return fmt::format("{} {} {}", life.count, life.launch, life.over ? "over" : "open");
}

Result<LifeRecord> parse_life_record(const std::string& text) {
  LifeRecord life;
  std::string state, more;
  std::istringstream in(text);
  if (!(in >> life.count >> life.launch >> state) || (in >> more) || life.count < 1 ||
      (state != "open" && state != "over"))
    return corrupt(fmt::format("[store key {}] holds '{}', which no program of this version wrote", kLifeKey,
                               text.substr(0, 200)));
  life.over = state == "over";
  return life;
}

std::string print_report(const MachineReport& report) {
  std::string text = fmt::format("machine {} {} {}\n", report.incarnation, report.beat, report.stop_requested ? 1 : 0);
  for (const RankRecord& rank : report.ranks) {
    const Heartbeat& heart = rank.heartbeat;
    text += fmt::format("rank {} {} {} {} {} {} {} {} {} {} {}\n", rank.process, heart.beat, heart.generation,
                        heart.step, heart.progress, or_dash(heart.waits_in), rank.broken_in, rank.finished_in,
                        rank.ended ? 1 : 0, rank.code, rank.signal);
    if (!rank.words.empty()) text += "words " + one_line(rank.words.substr(0, 4096)) + "\n";
    if (!rank.wrong_ranks.empty()) text += fmt::format("wrong {}\n", fmt::join(rank.wrong_ranks, " "));
  }
  return text;
}

Result<MachineReport> parse_report(const std::string& text) {
  MachineReport report;
  RETURN_IF_ERROR(read_lines(text, "the report of a machine", [&](const std::string& word, std::istringstream& in) {
    if (word == "machine") return bool(in >> report.incarnation >> report.beat >> report.stop_requested);
    if (word == "words" && !report.ranks.empty()) {
      report.ranks.back().words = rest_of(in);
      return true;
    }
    if (word == "wrong" && !report.ranks.empty()) {
      for (int64_t rank = 0; in >> rank;) report.ranks.back().wrong_ranks.push_back(rank);
      return in.eof();
    }
    RankRecord rank;
    Heartbeat& heart = rank.heartbeat;
    if (word != "rank" ||
        !(in >> rank.process >> heart.beat >> heart.generation >> heart.step >> heart.progress >> heart.waits_in >>
          rank.broken_in >> rank.finished_in >> rank.ended >> rank.code >> rank.signal))
      return false;
    heart.waits_in = not_dash(heart.waits_in);
    report.ranks.push_back(std::move(rank));
    return true;
  }));
  if (report.incarnation.empty()) return corrupt("the report of a machine does not say whose it is");
  return report;
}

std::optional<int> Assignment::slot_of(int machine) const {
  const auto found = std::ranges::find(machine_of_slot, machine);
  if (found == machine_of_slot.end()) return std::nullopt;
  return static_cast<int>(found - machine_of_slot.begin());
}

std::string worker_name(int machine, int local_rank, int64_t process) {
  return fmt::format("w{}.{}.{}", machine, local_rank, process);
}

std::optional<Membership> Assignment::membership() const {
  Membership members{.id = generation + 1, .data = data, .shard = shard, .workers = {}};
  for (int rank = 0; rank < num_ranks(); ++rank) {
    const int machine = machine_of_slot[static_cast<size_t>(rank / shape.ranks_per_machine)];
    if (machine < 0) return std::nullopt;
    members.workers.push_back(worker_name(machine, rank % shape.ranks_per_machine, processes.at(rank)));
  }
  return members;
}

std::string print_assignment(const Assignment& a) {
  const auto phase = std::ranges::find(kPhases, a.phase, &std::pair<RunPhase, const char*>::first);
  std::string text =
      fmt::format("generation {} {}\nphase {} {}\n", a.term, a.generation, phase->second, one_line(a.reason));
  text += fmt::format("shape {} {} {} {}\nmesh {} {}\n", a.shape.ranks_per_machine, a.shape.ranks_per_data_rank,
                      a.shape.data_ranks, a.shape.num_spares, a.data, a.shard);
  text += "slots";
  for (const int machine : a.machine_of_slot) text += fmt::format(" {}", machine);
  text += "\n";
  for (const auto& machine : a.machines)
    text += fmt::format("machine {} {} {} {}\n", static_cast<int>(machine.state), machine.num_faults,
                        or_dash(machine.incarnation), or_dash(machine.name));
  a.processes.for_each(
      [&](int begin, int end, int64_t process) { text += fmt::format("processes {} {} {}\n", begin, end, process); });
  for (const auto& [rank, ages] : a.restarts) {
    text += fmt::format("restarts {}", rank);
    for (const double age : ages) text += fmt::format(" {:.1f}", age);
    text += "\n";
  }
  for (const auto& [rank, age] : a.replaced) text += fmt::format("replaced {} {:.1f}\n", rank, age);
  return text + fmt::format("progress {} {}\n", a.best_step, a.num_fruitless);
}

namespace {

bool read_assignment_line(const std::string& word, std::istringstream& in, Assignment& a) {
  if (word == "generation") return bool(in >> a.term >> a.generation);
  if (word == "phase") {
    std::string name;
    in >> name;
    a.reason = rest_of(in);
    const auto phase = std::ranges::find_if(kPhases, [&](const auto& entry) { return entry.second == name; });
    if (phase == std::end(kPhases)) return false;
    a.phase = phase->first;
    return true;
  }
  if (word == "shape")
    return bool(in >> a.shape.ranks_per_machine >> a.shape.ranks_per_data_rank >> a.shape.data_ranks >>
                a.shape.num_spares);
  if (word == "mesh") return bool(in >> a.data >> a.shard);
  if (word == "slots") {
    for (int machine = 0; in >> machine;) a.machine_of_slot.push_back(machine);
    return in.eof();
  }
  if (word == "machine") {
    Assignment::MachineRecord machine;
    int state = 0;
    if (!(in >> state >> machine.num_faults >> machine.incarnation) || state < 0 || state > 2) return false;
    machine.name = rest_of(in);
    machine.state = static_cast<MachineState>(state);
    machine.incarnation = not_dash(machine.incarnation);
    machine.name = not_dash(machine.name);
    a.machines.push_back(std::move(machine));
    return true;
  }
  if (word == "processes") {
    int begin = 0, end = 0;
    int64_t process = 0;
    if (!(in >> begin >> end >> process) || begin != a.processes.size() || end <= begin) return false;
    a.processes.resize(end, process);
    return true;
  }
  if (word == "restarts") {
    int rank = 0;
    if (!(in >> rank)) return false;
    for (double age = 0; in >> age;) a.restarts[rank].push_back(age);
    return in.eof();
  }
  if (word == "replaced") {
    int rank = 0;
    double age = 0;
    if (!(in >> rank >> age)) return false;
    a.replaced[rank] = age;
    return true;
  }
  return word == "progress" && bool(in >> a.best_step >> a.num_fruitless);
}

}  // namespace

Result<Assignment> parse_assignment(const std::string& text) {
  Assignment a;
  RETURN_IF_ERROR(read_lines(text, "the run's assignment", [&](const std::string& word, std::istringstream& in) {
    return read_assignment_line(word, in, a);
  }));
  // Before they are multiplied: a text of a few bytes can tell of more ranks than numbers go, or than there is memory
  // for.
  const Status too_large = corrupt("the run's assignment in the store tells of more ranks than any run has");
  for (const int number :
       {a.shape.ranks_per_machine, a.shape.ranks_per_data_rank, a.shape.data_ranks, a.shape.num_spares})
    if (number > kMostMachines) return too_large;
  RETURN_IF_ERROR(check(a.shape));
  if (int64_t{a.shape.num_blocks()} * a.shape.ranks_per_block() > kMostMachines) return too_large;
  const auto num_machines = static_cast<int>(a.machines.size());
  const bool slots_exist =
      std::ranges::all_of(a.machine_of_slot, [&](int machine) { return machine >= -1 && machine < num_machines; });
  if (a.term < 1 || a.generation < 0 || num_machines != a.shape.num_machines() || num_machines > kMostMachines ||
      a.machine_of_slot.empty() || static_cast<int>(a.machine_of_slot.size()) > a.shape.num_slots() ||
      static_cast<int>(a.machine_of_slot.size()) % a.shape.machines_per_block() != 0 || !slots_exist ||
      a.processes.size() != a.num_ranks())
    return corrupt("the run's assignment in the store contradicts itself");
  return a;
}

}  // namespace colossus
