#include "checkpoint/save.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/milestone.h"
#include "checkpoint/coverage.h"
#include "checkpoint/directory.h"
#include "checkpoint/manifest.h"
#include "comm/agreement.h"
#include "comm/texts.h"
#include "io/checksum.h"
#include "io/safetensors.h"

namespace colossus {
namespace {

std::string file_name_of(const std::string& file, const Communicator* ranks) {
  if (num_ranks_of(ranks) == 1) return file + ".safetensors";
  // Counted from 1, as in the many files of published models.
  return fmt::format("{}-{:05}-of-{:05}.safetensors", file, rank_of(ranks) + 1, num_ranks_of(ranks));
}

// One file of this rank, with the tensors in their order; tells the manifest of it.
Status write_tensors(FileSystem& files, const std::string& path, const std::string& file_name,
                     std::span<const CheckpointTensor* const> tensors, Manifest& manifest) {
  std::vector<SafetensorsSpec> specs;
  for (const CheckpointTensor* tensor : tensors)
    specs.push_back({tensor->name, safetensors_word(tensor->dtype), stored_shape(tensor->piece)});
  ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::create(files, path + "/" + file_name, std::move(specs),
                                                                       checkpoint_file_metadata()));
  std::vector<std::byte> block;
  for (const CheckpointTensor* tensor : tensors) {
    StoredPiece stored{.file_name = file_name, .piece = tensor->piece, .block_checksums = {}};
    for (int64_t at = 0; at < tensor->num_bytes(); at += kCheckpointBlockBytes) {
      block.resize(static_cast<size_t>(std::min(kCheckpointBlockBytes, tensor->num_bytes() - at)));
      RETURN_IF_ERROR(tensor->read(at, block));
      stored.block_checksums.push_back(checksum(block));
      milestone("checkpoint_write");
      RETURN_IF_ERROR(writer.append(block));
    }
    manifest.tensors.push_back({.file = tensor->file,
                                .name = tensor->name,
                                .dtype = tensor->dtype,
                                .shape = tensor->shape,
                                .pieces = {std::move(stored)}});
  }
  milestone("checkpoint_sync");
  RETURN_IF_ERROR(writer.finish());
  manifest.files[file_name] = writer.file_bytes();
  return ok_status();
}

// This rank's files, on the disk; what the manifest should say of them.
Result<std::string> write_own_files(FileSystem& files, const std::string& path, int64_t step,
                                    std::span<const CheckpointTensor> tensors, const Communicator* ranks) {
  Manifest manifest{.step = step, .validation_loss = {}, .texts = {}, .files = {}, .tensors = {}};
  std::map<std::string, std::vector<const CheckpointTensor*>> by_file;
  for (const CheckpointTensor& tensor : tensors) {
    Status sound = check_shape(tensor.shape);
    if (sound.ok()) sound = check_piece(tensor.shape, tensor.piece);
    if (!sound.ok()) return sound.at(tensor.file + "/" + tensor.name);
    by_file[tensor.file].push_back(&tensor);
  }
  for (const auto& [file, members] : by_file)
    RETURN_IF_ERROR(write_tensors(files, path, file_name_of(file, ranks), members, manifest));
  std::sort(manifest.tensors.begin(), manifest.tensors.end(), entry_before);
  // Rank 0 syncs the directory when all is in it, but may see it through another machine's eyes.
  if (num_ranks_of(ranks) > 1) RETURN_IF_ERROR(files.sync_directory(path));
  return manifest_text(manifest);
}

Result<Manifest> manifest_of(std::vector<std::string> texts_of_ranks) {
  std::vector<Manifest> parts;
  for (std::string& text : texts_of_ranks) {
    ASSIGN_OR_RETURN(Manifest part, parse_manifest(text));
    parts.push_back(std::move(part));
    std::string().swap(text);
  }
  ASSIGN_OR_RETURN(Manifest manifest, merge_manifests(std::move(parts)));
  // What the ranks were told to store is wrong, not what is on the disk.
  if (const Status complete = check_complete(manifest); !complete.ok()) return invalid(complete.message());
  return manifest;
}

// What is left to write when all ranks' files are there. On rank 0.
Status write_texts_and_manifest(FileSystem& files, const std::string& path, const CheckpointState& state,
                                std::vector<std::string> texts_of_ranks) {
  auto manifest = manifest_of(std::move(texts_of_ranks));
  if (!manifest.ok()) return manifest.status().at(path);
  // Ranks that write to disks of their own would leave a checkpoint in parts.
  for (const auto& [name, bytes] : manifest->files) {
    ASSIGN_OR_RETURN(const FileEntry on_disk, files.stat(path + "/" + name));
    if (on_disk.size_bytes != bytes)
      return corrupt(fmt::format("[{}/{}] is {} bytes long after {} were written; do all ranks see one directory?",
                                 path, name, on_disk.size_bytes, bytes));
  }
  // JSON has no NaN: a loss that is none was not measured.
  if (state.validation_loss && std::isfinite(*state.validation_loss)) manifest->validation_loss = state.validation_loss;
  for (const auto& [name, text] : state.texts) {
    RETURN_IF_ERROR(write_file_atomically(files, path + "/" + name, text));
    manifest->texts[name] = checksum(text);
  }
  const std::string text = manifest_text(*manifest);
  if (static_cast<int64_t>(text.size()) > kMaxManifestBytes)
    return exhausted(
        fmt::format("[{}] its manifest would have {} bytes; the limit is {}", path, text.size(), kMaxManifestBytes));
  milestone("checkpoint_sync");
  RETURN_IF_ERROR(write_file_atomically(files, path + "/" + kManifestName, text));
  return files.sync_directory(path);
}

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
}

// Gives the finished directory its name.
Status publish(FileSystem& files, const std::string& unfinished, const std::string& path,
               const std::string& directory) {
  // A checkpoint of this very name may be there from before a resume: it steps aside under one that still counts, for
  // between the two renames it is the only one.
  const std::string old = path + std::string(kReplacedSuffix);
  if (files.stat(path).ok()) {
    RETURN_IF_ERROR(files.remove_all(old));
    milestone("checkpoint_rename");
    RETURN_IF_ERROR(files.rename(path, old));
  }
  milestone("checkpoint_rename");
  RETURN_IF_ERROR(files.rename(unfinished, path));
  RETURN_IF_ERROR(files.sync_directory(directory));
  // The checkpoint is there for good. What cannot be removed now, the next save removes.
  static_cast<void>(remove_replaced(files, directory));
  return ok_status();
}

// Where names cannot be changed: rank 0 looks for a place that is free.
Result<std::string> agree_on_path(FileSystem& files, const std::string& directory, int64_t step, Communicator* ranks) {
  const auto mine = rank_of(ranks) == 0 ? unused_checkpoint_path(files, directory, step) : Result<std::string>("");
  RETURN_IF_ERROR(agree(ranks, mine.status()));
  if (num_ranks_of(ranks) == 1) return mine;
  ASSIGN_OR_RETURN(const std::vector<std::string> all, share_texts(*ranks, *mine));
  return all.front();
}

}  // namespace

Status finish_checkpoint(FileSystem& files, const std::string& unfinished, const std::string& path,
                         const CheckpointState& state, std::vector<std::string> parts) {
  RETURN_IF_ERROR(write_texts_and_manifest(files, unfinished, state, std::move(parts)));
  return publish(files, unfinished, path, directory_of(path));
}

Status write_checkpoint(FileSystem& files, const std::string& path, const CheckpointState& state,
                        std::span<const CheckpointTensor> tensors, Communicator* ranks) {
  const std::string directory = directory_of(path);
  const std::string unfinished = unfinished_path(files, path);
  // Rank 0's steps; the others wait until they are done, and hear how they went.
  const auto first_rank = [&](auto&& body) { return agree(ranks, rank_of(ranks) == 0 ? body() : ok_status()); };

  RETURN_IF_ERROR(first_rank([&] {
    RETURN_IF_ERROR(files.make_directories(directory));
    RETURN_IF_ERROR(files.remove_all(unfinished));
    return files.make_directories(unfinished);
  }));
  ASSIGN_OR_RETURN(
      std::vector<std::string> texts,
      gather_texts(ranks, write_own_files(files, unfinished, state.step, tensors, ranks), kMaxManifestBytes));
  return first_rank([&] {
    RETURN_IF_ERROR(write_texts_and_manifest(files, unfinished, state, std::move(texts)));
    // With the manifest it was whole where it is.
    return files.can_rename(path) ? publish(files, unfinished, path, directory) : ok_status();
  });
}

Status save_checkpoint(FileSystem& files, const std::string& directory, const CheckpointState& state,
                       std::span<const CheckpointTensor> tensors, Communicator* ranks) {
  if (ranks != nullptr) ranks->set_step(state.step);
  if (files.can_rename(directory))
    return write_checkpoint(files, directory + "/" + checkpoint_directory_name(state.step), state, tensors, ranks);
  ASSIGN_OR_RETURN(const std::string path, agree_on_path(files, directory, state.step, ranks));
  RETURN_IF_ERROR(write_checkpoint(files, path, state, tensors, ranks));
  // As in publish().
  if (rank_of(ranks) == 0) static_cast<void>(remove_replaced(files, directory));
  return ok_status();
}

}  // namespace colossus
