#include "checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace colossus {
namespace {

using Json = nlohmann::json;

constexpr int kVersion = 1;
constexpr int64_t kMaxManifestBytes = 256 << 20;
constexpr int64_t kPieceBytes = 4 << 20;
constexpr const char* kManifest = "manifest.json";
const std::map<std::string, std::string> kMetadata = {{"format", "colossus"}};

std::string safetensors_word(DType dtype) {
  std::string word(dtype_name(dtype));
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return word;
}

std::optional<DType> dtype_of_word(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return dtype_from_name(word);
}

std::string directory_name(int64_t step) { return fmt::format("step-{:08}", step); }

// A checkpoint that another of the same step is about to replace, see save_checkpoint.
constexpr std::string_view kReplaced = ".replaced";

// The step of "step-00000200" or "step-00000200.replaced"; nothing for any other name.
std::optional<int64_t> step_of(std::string_view name) {
  if (name.ends_with(kReplaced)) name.remove_suffix(kReplaced.size());
  if (name.size() < 13 || name.size() > 23 || name.rfind("step-", 0) != 0) return std::nullopt;
  int64_t step = 0;
  for (size_t i = 5; i < name.size(); ++i) {
    if (name[i] < '0' || name[i] > '9') return std::nullopt;
    step = step * 10 + (name[i] - '0');
  }
  return step;
}

Result<Json> write_tensors(FileSystem& files, const std::string& path,
                           std::span<const CheckpointTensor* const> tensors) {
  std::vector<SafetensorsSpec> specs;
  for (const CheckpointTensor* tensor : tensors)
    specs.push_back(
        {tensor->name, safetensors_word(tensor->dtype), {tensor->shape.sizes().begin(), tensor->shape.sizes().end()}});
  ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::create(files, path, std::move(specs), kMetadata));
  std::vector<std::byte> piece;
  for (const CheckpointTensor* tensor : tensors)
    for (int64_t at = 0; at < tensor->num_bytes(); at += kPieceBytes) {
      piece.resize(static_cast<size_t>(std::min(kPieceBytes, tensor->num_bytes() - at)));
      tensor->read(at, piece);
      RETURN_IF_ERROR(writer.append(piece));
    }
  ASSIGN_OR_RETURN(const auto checksums, writer.finish());
  Json entry = {{"bytes", writer.file_bytes()}, {"tensors", Json::object()}};
  for (size_t i = 0; i < tensors.size(); ++i) entry["tensors"][tensors[i]->name] = fmt::format("{:016x}", checksums[i]);
  return entry;
}

Status write_contents(FileSystem& files, const std::string& path, const CheckpointState& state,
                      std::span<const CheckpointTensor> tensors) {
  RETURN_IF_ERROR(files.make_directories(path));
  Json manifest = {{"format", "colossus-checkpoint"},
                   {"version", kVersion},
                   {"step", state.step},
                   {"files", Json::object()},
                   {"texts", Json::object()}};
  // JSON has no NaN: a loss that is none was not measured.
  if (state.validation_loss && std::isfinite(*state.validation_loss))
    manifest["validation_loss"] = *state.validation_loss;
  std::map<std::string, std::vector<const CheckpointTensor*>> by_file;
  for (const CheckpointTensor& tensor : tensors) by_file[tensor.file].push_back(&tensor);
  for (const auto& [file, members] : by_file) {
    ASSIGN_OR_RETURN(manifest["files"][file], write_tensors(files, path + "/" + file + ".safetensors", members));
  }
  for (const auto& [name, text] : state.texts) {
    RETURN_IF_ERROR(write_file_atomically(files, path + "/" + name, text));
    manifest["texts"][name] = fmt::format("{:016x}", checksum(text));
  }
  const std::string body = manifest.dump(1) + "\n";
  // The last line guards the manifest itself.
  RETURN_IF_ERROR(
      write_file_atomically(files, path + "/" + kManifest, body + fmt::format("{:016x}\n", checksum(body))));
  return files.sync_directory(path);
}

// Checks format and version; the types of all other values are for the caller to look at.
Result<Json> read_manifest(FileSystem& files, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, read_file(files, path, kMaxManifestBytes));
  constexpr size_t kGuardBytes = 17;
  if (text.size() < kGuardBytes ||
      fmt::format("{:016x}\n", checksum(std::string_view(text).substr(0, text.size() - kGuardBytes))) !=
          text.substr(text.size() - kGuardBytes))
    return corrupt(fmt::format(
        "[{}] the manifest was cut or altered: its checksum does not match; use an earlier checkpoint", path));
  Json manifest = Json::parse(text.substr(0, text.size() - kGuardBytes), nullptr, false);
  const Json absent;
  const auto field = [&](const char* key) -> const Json& { return manifest.contains(key) ? manifest[key] : absent; };
  if (!manifest.is_object() || field("format") != "colossus-checkpoint")
    return corrupt(fmt::format("[{}] not a checkpoint's manifest", path));
  if (field("version") != kVersion)
    return invalid(
        fmt::format("[{}] version {}; this program reads version {}", path, field("version").dump(), kVersion));
  return manifest;
}

std::optional<uint64_t> parse_checksum(const Json& value) {
  if (!value.is_string() || value.get_ref<const std::string&>().size() != 16) return std::nullopt;
  uint64_t result = 0;
  for (char c : value.get_ref<const std::string&>()) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return std::nullopt;
    result = result << 4 | static_cast<uint64_t>(digit);
  }
  return result;
}

// Names in a manifest are plain: none leads out of the checkpoint.
Status check_file_name(const std::string& path, const std::string& name) {
  if (!name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos) return ok_status();
  return corrupt(fmt::format("[{}/{}] names a file \"{}\", which is no plain name", path, kManifest, name));
}

// Replaced checkpoints whose successors are there.
Status remove_replaced(FileSystem& files, const std::string& directory) {
  ASSIGN_OR_RETURN(const auto present, files.list(directory));
  for (const FileEntry& entry : present) {
    const std::string path = directory + "/" + entry.name;
    if (step_of(entry.name) && entry.name.ends_with(kReplaced) &&
        files.stat(path.substr(0, path.size() - kReplaced.size())).ok())
      RETURN_IF_ERROR(files.remove_all(path));
  }
  return ok_status();
}

}  // namespace

Status save_checkpoint(FileSystem& files, const std::string& directory, const CheckpointState& state,
                       std::span<const CheckpointTensor> tensors) {
  const std::string final_path = directory + "/" + directory_name(state.step), unfinished = final_path + ".tmp";
  RETURN_IF_ERROR(files.make_directories(directory));
  RETURN_IF_ERROR(files.remove_all(unfinished));
  RETURN_IF_ERROR(write_contents(files, unfinished, state, tensors));
  // A checkpoint of this very step may be there from before a resume: it steps aside under a name that still counts,
  // for between the two renames it is the only one.
  const std::string old = final_path + std::string(kReplaced);
  if (files.stat(final_path).ok()) {
    RETURN_IF_ERROR(files.remove_all(old));
    RETURN_IF_ERROR(files.rename(final_path, old));
  }
  RETURN_IF_ERROR(files.rename(unfinished, final_path));
  RETURN_IF_ERROR(files.sync_directory(directory));
  // The checkpoint is there for good. What cannot be removed now, the next save removes.
  static_cast<void>(remove_replaced(files, directory));
  return ok_status();
}

Result<Checkpoint> Checkpoint::open(FileSystem& files, const std::string& path) {
  try {
    return open_unguarded(files, path);
  } catch (const nlohmann::json::exception& error) {  // a value of the wrong type
    return corrupt(fmt::format("[{}/{}] {}", path, kManifest, error.what()));
  }
}

Result<Checkpoint> Checkpoint::open_unguarded(FileSystem& files, const std::string& path) {
  ASSIGN_OR_RETURN(const Json manifest, read_manifest(files, path + "/" + kManifest));
  Checkpoint checkpoint;
  checkpoint.path_ = path;
  checkpoint.state_.step = manifest.value("step", int64_t{0});
  if (manifest.contains("validation_loss")) checkpoint.state_.validation_loss = manifest.value("validation_loss", 0.0);
  const Json texts = manifest.value("texts", Json::object()), listed = manifest.value("files", Json::object());
  if (!texts.is_object() || !listed.is_object())
    return corrupt(fmt::format("[{}/{}] files and texts are not lists by name", path, kManifest));
  for (const auto& [name, sum] : texts.items()) {
    RETURN_IF_ERROR(check_file_name(path, name));
    ASSIGN_OR_RETURN(std::string text, read_file(files, path + "/" + name));
    if (parse_checksum(sum) != checksum(text))
      return corrupt(fmt::format("[{}/{}] was cut or altered: its checksum does not match", path, name));
    checkpoint.state_.texts[name] = std::move(text);
  }
  for (const auto& [file, entry] : listed.items()) {
    RETURN_IF_ERROR(check_file_name(path, file));
    const std::string file_path = path + "/" + file + ".safetensors";
    ASSIGN_OR_RETURN(const FileEntry on_disk, files.stat(file_path));
    if (on_disk.size_bytes != entry.value("bytes", int64_t{-1}))
      return corrupt(fmt::format("[{}] is {} bytes long; the manifest says {}", file_path, on_disk.size_bytes,
                                 entry.value("bytes", int64_t{-1})));
    ASSIGN_OR_RETURN(SafetensorsFile opened, SafetensorsFile::open(files, file_path));
    if (opened.metadata() != kMetadata)
      return corrupt(fmt::format("[{}] was altered: its header is not as a checkpoint's", file_path));
    const Json sums = entry.value("tensors", Json::object());
    for (const SafetensorsEntry& tensor : opened.tensors()) {
      const auto dtype = dtype_of_word(tensor.dtype);
      const auto sum = sums.contains(tensor.name) ? parse_checksum(sums[tensor.name]) : std::nullopt;
      if (!dtype || !sum || tensor.shape.size() > Shape::kMaxRank)
        return corrupt(fmt::format("[{}] tensor {} is not one the manifest knows", file_path, tensor.name));
      checkpoint.entries_.push_back({file, tensor.name, *dtype, Shape(std::span<const int64_t>(tensor.shape)), *sum});
    }
    if (sums.size() != opened.tensors().size())
      return corrupt(
          fmt::format("[{}] holds {} tensors; the manifest names {}", file_path, opened.tensors().size(), sums.size()));
    checkpoint.files_.emplace(file, std::move(opened));
  }
  return checkpoint;
}

const Checkpoint::Entry* Checkpoint::find(const std::string& file, const std::string& name) const {
  for (const Entry& entry : entries_)
    if (entry.file == file && entry.name == name) return &entry;
  return nullptr;
}

Status Checkpoint::read(const Entry& entry, std::span<std::byte> into) const {
  const SafetensorsFile& file = files_.at(entry.file);
  const SafetensorsEntry* tensor = file.find(entry.name);
  CHECK(tensor && static_cast<int64_t>(into.size()) == tensor->size_bytes);
  RETURN_IF_ERROR(file.read(*tensor, 0, into));
  if (checksum(into) != entry.checksum)
    return corrupt(fmt::format("[{}] tensor {} was altered: its checksum does not match; use an earlier checkpoint",
                               file.path(), entry.name));
  return ok_status();
}

Status Checkpoint::verify() const {
  for (const Entry& entry : entries_) {
    const SafetensorsFile& file = files_.at(entry.file);
    ASSIGN_OR_RETURN(const uint64_t sum, file.read_checksum(*file.find(entry.name)));
    if (sum != entry.checksum)
      return corrupt(fmt::format("[{}] tensor {} was altered: its checksum does not match; use an earlier checkpoint",
                                 file.path(), entry.name));
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

Status prune_checkpoints(FileSystem& files, const std::string& directory, int64_t keep_last, bool keep_best) {
  CHECK(keep_last >= 1);
  RETURN_IF_ERROR(remove_replaced(files, directory));  // left behind by a save cut short after its last rename
  ASSIGN_OR_RETURN(const auto paths, list_checkpoints(files, directory));
  std::string best;
  double best_loss = 0;
  if (keep_best)
    for (const std::string& path : paths) {
      const auto manifest = read_manifest(files, path + "/" + kManifest);
      if (!manifest.ok() || !manifest->contains("validation_loss") || !(*manifest)["validation_loss"].is_number())
        continue;
      const double loss = (*manifest)["validation_loss"].get<double>();
      if (best.empty() || loss < best_loss) {
        best = path;
        best_loss = loss;
      }
    }
  for (size_t i = 0; i + static_cast<size_t>(keep_last) < paths.size(); ++i)
    if (paths[i] != best) RETURN_IF_ERROR(files.rename(paths[i], paths[i] + ".deleting"));
  ASSIGN_OR_RETURN(const auto left, files.list(directory));
  for (const FileEntry& entry : left)
    if (entry.name.rfind("step-", 0) == 0 && (entry.name.ends_with(".deleting") || entry.name.ends_with(".tmp")))
      RETURN_IF_ERROR(files.remove_all(directory + "/" + entry.name));
  return ok_status();
}

}  // namespace colossus
