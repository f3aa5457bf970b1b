#include "train/recovery/membership.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <sstream>

namespace colossus {
namespace {

constexpr const char* kGenerationKey = "generation";
constexpr size_t kMostWorkers = 1 << 20;

Status malformed(const std::string& key, const std::string& text) {
  return corrupt(
      fmt::format("[store key {}] holds '{}', which no program of this version wrote", key, text.substr(0, 200)));
}

}  // namespace

MeshConfig Membership::mesh(MeshConfig run) const {
  run.data = data;
  run.shard = shard;
  return run;
}

Status publish(KeyValueStore& store, const Membership& generation) {
  return store.set(kGenerationKey, fmt::format("{} {} {} {}", generation.id, generation.data, generation.shard,
                                               fmt::join(generation.workers, " ")));
}

Result<std::optional<Membership>> current_membership(KeyValueStore& store) {
  ASSIGN_OR_RETURN(const auto text, store.get(kGenerationKey));
  if (!text) return std::optional<Membership>();
  Membership generation;
  std::istringstream in(*text);
  in >> generation.id >> generation.data >> generation.shard;
  for (std::string worker; in >> worker && generation.workers.size() <= kMostWorkers;)
    generation.workers.push_back(worker);
  if (generation.id < 1 || generation.data < 1 || generation.shard < 1 || generation.workers.empty() ||
      generation.workers.size() > kMostWorkers)
    return malformed(kGenerationKey, *text);
  return std::optional(std::move(generation));
}

Status write_heartbeat(KeyValueStore& store, const std::string& worker, const Heartbeat& heartbeat) {
  return store.set("heartbeats/" + worker, fmt::format("{} {} {} {} {}", heartbeat.beat, heartbeat.generation,
                                                       heartbeat.step, heartbeat.progress, heartbeat.waits_in));
}

Result<std::optional<Heartbeat>> read_heartbeat(KeyValueStore& store, const std::string& worker) {
  ASSIGN_OR_RETURN(const auto text, store.get("heartbeats/" + worker));
  if (!text) return std::optional<Heartbeat>();
  Heartbeat heartbeat;
  std::istringstream in(*text);
  if (!(in >> heartbeat.beat >> heartbeat.generation >> heartbeat.step >> heartbeat.progress))
    return malformed("heartbeats/" + worker, *text);
  in >> heartbeat.waits_in;
  return std::optional(std::move(heartbeat));
}

Status write_last_words(KeyValueStore& store, const std::string& worker, const std::string& text) {
  return store.set("last_words/" + worker, text.substr(0, 4096));
}

Result<std::string> read_last_words(KeyValueStore& store, const std::string& worker) {
  ASSIGN_OR_RETURN(const auto text, store.get("last_words/" + worker));
  return text.value_or("");
}

Status report_broken(KeyValueStore& store, int64_t generation, const std::string& worker, const Broken& broken) {
  return store.set(fmt::format("broken/{}/{}", generation, worker),
                   fmt::format("{}\n{}", fmt::join(broken.wrong_ranks, " "), broken.why.substr(0, 4096)));
}

Result<std::optional<Broken>> read_broken(KeyValueStore& store, int64_t generation, const std::string& worker) {
  const std::string key = fmt::format("broken/{}/{}", generation, worker);
  ASSIGN_OR_RETURN(const auto text, store.get(key));
  if (!text) return std::optional<Broken>();
  const size_t end = text->find('\n');
  if (end == std::string::npos) return malformed(key, *text);
  Broken broken{.why = text->substr(end + 1), .wrong_ranks = {}};
  std::istringstream in(text->substr(0, end));
  for (int64_t rank = 0; in >> rank;) broken.wrong_ranks.push_back(rank);
  if (!in.eof()) return malformed(key, *text);
  return std::optional(std::move(broken));
}

Status report_finished(KeyValueStore& store, int64_t generation, const std::string& worker) {
  return store.set(fmt::format("finished/{}/{}", generation, worker), "yes");
}

Result<bool> has_finished(KeyValueStore& store, int64_t generation, const std::string& worker) {
  ASSIGN_OR_RETURN(const auto text, store.get(fmt::format("finished/{}/{}", generation, worker)));
  return text.has_value();
}

Status report_waits(KeyValueStore& store, int64_t generation, const std::string& worker, const std::string& text) {
  return store.set(fmt::format("waits/{}/{}", generation, worker), text);
}

Result<std::string> read_waits(KeyValueStore& store, int64_t generation, const std::string& worker) {
  ASSIGN_OR_RETURN(const auto text, store.get(fmt::format("waits/{}/{}", generation, worker)));
  return text.value_or("");
}

Status report_all_finished(KeyValueStore& store, int64_t generation) {
  return store.set(fmt::format("all_finished/{}", generation), "yes");
}

Result<bool> all_have_finished(KeyValueStore& store, int64_t generation) {
  ASSIGN_OR_RETURN(const auto text, store.get(fmt::format("all_finished/{}", generation)));
  return text.has_value();
}

Status write_lease(KeyValueStore& store, double since) { return store.set("lease", fmt::format("{:.6f}", since)); }

Result<std::optional<double>> read_lease(KeyValueStore& store) {
  ASSIGN_OR_RETURN(const auto text, store.get("lease"));
  if (!text) return std::optional<double>();
  std::istringstream in(*text);
  double since = 0;
  if (!(in >> since)) return malformed("lease", *text);
  return std::optional(since);
}

}  // namespace colossus
