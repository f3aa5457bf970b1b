#include "checkpoint/directory.h"

#include <fmt/format.h>

#include <algorithm>

#include "checkpoint/checkpoint.h"
#include "checkpoint/manifest.h"
#include "comm/agreement.h"

namespace colossus {
namespace {

constexpr std::string_view kDeletingSuffix = ".deleting";

// The step of "step-00000200" or "step-00000200.replaced"; nothing for any other name.
std::optional<int64_t> step_of(std::string_view name) {
  if (name.ends_with(kReplacedSuffix)) name.remove_suffix(kReplacedSuffix.size());
  if (name.size() < 13 || name.size() > 23 || name.rfind("step-", 0) != 0) return std::nullopt;
  int64_t step = 0;
  for (size_t i = 5; i < name.size(); ++i) {
    if (name[i] < '0' || name[i] > '9') return std::nullopt;
    step = step * 10 + (name[i] - '0');
  }
  return step;
}

Status prune(FileSystem& files, const std::string& directory, int64_t keep_last, bool keep_best) {
  RETURN_IF_ERROR(remove_replaced(files, directory));  // left behind by a save cut short after its last rename
  ASSIGN_OR_RETURN(const auto paths, list_checkpoints(files, directory));
  std::string best;
  double best_loss = 0;
  if (keep_best)
    for (const std::string& path : paths) {
      const auto manifest = read_manifest(files, path);
      if (!manifest.ok() || !manifest->validation_loss) continue;
      if (best.empty() || *manifest->validation_loss < best_loss) {
        best = path;
        best_loss = *manifest->validation_loss;
      }
    }
  for (size_t i = 0; i + static_cast<size_t>(keep_last) < paths.size(); ++i)
    if (paths[i] != best) RETURN_IF_ERROR(files.rename(paths[i], paths[i] + std::string(kDeletingSuffix)));
  ASSIGN_OR_RETURN(const auto left, files.list(directory));
  for (const FileEntry& entry : left)
    if (entry.name.rfind("step-", 0) == 0 &&
        (entry.name.ends_with(kDeletingSuffix) || entry.name.ends_with(kUnfinishedSuffix)))
      RETURN_IF_ERROR(files.remove_all(directory + "/" + entry.name));
  return ok_status();
}

}  // namespace

std::string checkpoint_directory_name(int64_t step) { return fmt::format("step-{:08}", step); }

Status remove_replaced(FileSystem& files, const std::string& directory) {
  ASSIGN_OR_RETURN(const auto present, files.list(directory));
  for (const FileEntry& entry : present) {
    const std::string path = directory + "/" + entry.name;
    if (step_of(entry.name) && entry.name.ends_with(kReplacedSuffix) &&
        files.stat(path.substr(0, path.size() - kReplacedSuffix.size())).ok())
      RETURN_IF_ERROR(files.remove_all(path));
  }
  return ok_status();
}

Result<std::vector<std::string>> list_checkpoints(FileSystem& files, const std::string& directory) {
  auto listed = files.list(directory);
  if (!listed.ok())
    return listed.status().code() == ErrorCode::kNotFound ? Result<std::vector<std::string>>(std::vector<std::string>{})
                                                          : listed.status();
  std::vector<std::pair<int64_t, std::string>> found;
  // Sorted by name, the replaced one of a step comes right behind that which replaces it, and then is left out.
  for (const FileEntry& entry : *listed)
    if (const auto step = step_of(entry.name);
        step && entry.is_directory && (found.empty() || found.back().first != *step))
      found.emplace_back(*step, directory + "/" + entry.name);
  std::sort(found.begin(), found.end());
  std::vector<std::string> paths;
  for (auto& [step, path] : found) paths.push_back(std::move(path));
  return paths;
}

Result<Checkpoint> open_newest_checkpoint(FileSystem& files, const std::string& directory,
                                          std::vector<Status>& skipped) {
  ASSIGN_OR_RETURN(auto paths, list_checkpoints(files, directory));
  for (auto path = paths.rbegin(); path != paths.rend(); ++path) {
    auto opened = Checkpoint::open(files, *path);
    if (opened.ok()) return opened;
    skipped.push_back(opened.status());
  }
  return not_found(fmt::format("[{}] holds no checkpoint that can be read", directory));
}

Result<Checkpoint> find_checkpoint(FileSystem& files, const std::string& path, std::vector<Status>& skipped) {
  if (files.stat(path + "/" + kManifestName).ok()) return Checkpoint::open(files, path);
  if (!files.stat(path).ok())
    return not_found(fmt::format("[{}] is not there; give a run's directory, as made by `colossus train`", path));
  if (!files.stat(path + "/checkpoints").ok())
    return not_found(
        fmt::format("[{}] holds neither manifest.json, as a checkpoint does, nor checkpoints, as a run does", path));
  return open_newest_checkpoint(files, path + "/checkpoints", skipped);
}

Status prune_checkpoints(FileSystem& files, const std::string& directory, int64_t keep_last, bool keep_best,
                         Communicator* ranks) {
  CHECK(keep_last >= 1);
  return agree(ranks, rank_of(ranks) == 0 ? prune(files, directory, keep_last, keep_best) : ok_status());
}

}  // namespace colossus
