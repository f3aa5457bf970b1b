#include "checkpoint/directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "checkpoint/checkpoint.h"
#include "checkpoint/manifest.h"
#include "comm/agreement.h"

namespace colossus {
namespace {

constexpr std::string_view kDeletingSuffix = ".deleting";

struct Name {
  int64_t step = 0;
  // Of several directories of one step the highest counts: -1 for ".replaced", 0 without a suffix, N for ".rN".
  int revision = 0;
};

// Of "step-00000200", "step-00000200.replaced", "step-00000200.r1"; nothing for any other name.
std::optional<Name> parse_name(std::string_view name) {
  Name parsed;
  if (name.ends_with(kReplacedSuffix)) {
    name.remove_suffix(kReplacedSuffix.size());
    parsed.revision = -1;
  } else if (const size_t dot = name.find(".r"); dot != std::string_view::npos) {
    const std::string_view digits = name.substr(dot + 2);
    if (digits.empty() || digits.size() > 6 || digits[0] == '0') return std::nullopt;
    for (const char c : digits) {
      if (c < '0' || c > '9') return std::nullopt;
      parsed.revision = parsed.revision * 10 + (c - '0');
    }
    name = name.substr(0, dot);
  }
  if (name.size() < 13 || name.size() > 23 || name.rfind("step-", 0) != 0) return std::nullopt;
  for (size_t i = 5; i < name.size(); ++i) {
    if (name[i] < '0' || name[i] > '9') return std::nullopt;
    parsed.step = parsed.step * 10 + (name[i] - '0');
  }
  return parsed;
}

// A directory under its own name is whole where names can be changed: it got it last.
// Elsewhere no answer is an error: what merely could not be seen must not be removed, or written over.
Result<bool> is_whole(FileSystem& files, const std::string& path) {
  if (files.can_rename(path)) return true;
  const auto manifest = files.stat(path + "/" + kManifestName);
  if (!manifest.ok() && manifest.status().code() != ErrorCode::kNotFound) return manifest.status();
  return manifest.ok();
}

struct Found {
  Name name;
  std::string path;
  bool whole = true;
};

// All directories that look like checkpoints, rising by step and revision.
Result<std::vector<Found>> find_all(FileSystem& files, const std::string& directory) {
  auto listed = files.list(directory);
  if (!listed.ok() && listed.status().code() == ErrorCode::kNotFound) return std::vector<Found>{};
  RETURN_IF_ERROR(listed);
  std::vector<Found> found;
  for (const FileEntry& entry : *listed)
    if (const auto name = parse_name(entry.name); name && entry.is_directory) {
      const std::string path = directory + "/" + entry.name;
      ASSIGN_OR_RETURN(const bool whole, is_whole(files, path));
      found.push_back({*name, path, whole});
    }
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) {
    return std::tie(a.name.step, a.name.revision) < std::tie(b.name.step, b.name.revision);
  });
  return found;
}

// Where names cannot be changed: directories without a manifest, left by saves and removals that were cut short.
Status remove_unfinished(FileSystem& files, const std::string& directory) {
  ASSIGN_OR_RETURN(const std::vector<Found> all, find_all(files, directory));
  for (const Found& found : all)
    if (!found.whole) RETURN_IF_ERROR(files.remove_all(found.path));
  return ok_status();
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
    if (paths[i] != best)
      RETURN_IF_ERROR(files.can_rename(paths[i]) ? files.rename(paths[i], paths[i] + std::string(kDeletingSuffix))
                                                 : remove_checkpoint(files, paths[i]));
  if (!files.can_rename(directory)) return remove_unfinished(files, directory);
  ASSIGN_OR_RETURN(const auto left, files.list(directory));
  for (const FileEntry& entry : left)
    if (entry.name.rfind("step-", 0) == 0 &&
        (entry.name.ends_with(kDeletingSuffix) || entry.name.ends_with(kUnfinishedSuffix)))
      RETURN_IF_ERROR(files.remove_all(directory + "/" + entry.name));
  return ok_status();
}

}  // namespace

std::string checkpoint_directory_name(int64_t step) { return fmt::format("step-{:08}", step); }

Result<std::string> new_checkpoint_path(FileSystem& files, const std::string& path) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.ends_with('/')) trimmed.pop_back();
  const auto present = files.stat(trimmed);
  if (present.ok()) return invalid(fmt::format("[{}] is there already; give a directory that is not", trimmed));
  // Where nobody may look, something could be overwritten.
  if (present.status().code() != ErrorCode::kNotFound) return present.status();
  return trimmed;
}

std::string unfinished_path(FileSystem& files, const std::string& path) {
  return files.can_rename(path) ? path + std::string(kUnfinishedSuffix) : path;
}

Result<std::string> unused_checkpoint_path(FileSystem& files, const std::string& directory, int64_t step) {
  ASSIGN_OR_RETURN(const std::vector<Found> all, find_all(files, directory));
  int revision = 0;
  for (const Found& found : all)
    if (found.name.step == step && found.whole) revision = std::max(revision, found.name.revision + 1);
  const std::string path = directory + "/" + checkpoint_directory_name(step);
  return revision == 0 ? path : fmt::format("{}.r{}", path, revision);
}

Status remove_checkpoint(FileSystem& files, const std::string& path) {
  if (!files.can_rename(path)) RETURN_IF_ERROR(files.remove_all(path + "/" + kManifestName));
  return files.remove_all(path);
}

Status remove_replaced(FileSystem& files, const std::string& directory) {
  ASSIGN_OR_RETURN(const std::vector<Found> all, find_all(files, directory));
  for (size_t i = 0; i < all.size(); ++i) {
    const bool has_successor = std::any_of(all.begin() + static_cast<std::ptrdiff_t>(i) + 1, all.end(),
                                           [&](const Found& f) { return f.name.step == all[i].name.step && f.whole; });
    if (has_successor) RETURN_IF_ERROR(remove_checkpoint(files, all[i].path));
  }
  return ok_status();
}

Result<std::vector<std::string>> list_checkpoints(FileSystem& files, const std::string& directory) {
  ASSIGN_OR_RETURN(const std::vector<Found> all, find_all(files, directory));
  std::vector<std::string> paths;
  int64_t last_step = -1;
  for (const Found& found : all) {
    if (!found.whole) continue;
    if (found.name.step == last_step) paths.pop_back();
    paths.push_back(found.path);
    last_step = found.name.step;
  }
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

Result<std::string> directory_of_checkpoints(FileSystem& files, const std::string& path) {
  if (!files.stat(path).ok())
    return not_found(fmt::format("[{}] is not there; give a run's directory, as made by `colossus train`", path));
  if (files.stat(path + "/checkpoints").ok()) return path + "/checkpoints";
  ASSIGN_OR_RETURN(const auto paths, list_checkpoints(files, path));
  if (!paths.empty()) return path;
  return not_found(
      fmt::format("[{}] holds neither manifest.json, as a checkpoint does, nor checkpoints, as a run does", path));
}

Result<Checkpoint> find_checkpoint(FileSystem& files, const std::string& path, std::vector<Status>& skipped) {
  const auto manifest = files.stat(path + "/" + kManifestName);
  if (manifest.ok()) return Checkpoint::open(files, path);
  if (manifest.status().code() != ErrorCode::kNotFound) return manifest.status();
  ASSIGN_OR_RETURN(const std::string directory, directory_of_checkpoints(files, path));
  return open_newest_checkpoint(files, directory, skipped);
}

Status prune_checkpoints(FileSystem& files, const std::string& directory, int64_t keep_last, bool keep_best,
                         Communicator* ranks) {
  CHECK(keep_last >= 1);
  return agree(ranks, rank_of(ranks) == 0 ? prune(files, directory, keep_last, keep_best) : ok_status());
}

}  // namespace colossus
