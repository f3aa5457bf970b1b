#include "checkpoint/stream_save.h"

#include <fmt/format.h>

#include <algorithm>

#include "checkpoint/coverage.h"
#include "checkpoint/directory.h"
#include "checkpoint/manifest.h"
#include "checkpoint/save.h"
#include "io/checksum.h"
#include "io/resumable_files.h"

namespace colossus {
namespace {

using Group = std::vector<const CheckpointTensor*>;  // of one file

std::vector<Group> group_by_file(std::span<const CheckpointTensor> tensors, int64_t max_file_bytes) {
  std::vector<Group> groups;
  int64_t bytes = 0;
  for (const CheckpointTensor& tensor : tensors) {
    if (groups.empty() || groups.back().front()->file != tensor.file || bytes + tensor.num_bytes() > max_file_bytes) {
      groups.emplace_back();
      bytes = 0;
    }
    groups.back().push_back(&tensor);
    bytes += tensor.num_bytes();
  }
  return groups;
}

// What the manifest says of one file; made while its tensors are read, or taken from the record of an earlier try.
struct FilePart {
  Manifest manifest;
  std::string text;
};

Checkpoint::Entry entry_of(const CheckpointTensor& tensor, const std::string& file_name) {
  return {.file = tensor.file,
          .name = tensor.name,
          .dtype = tensor.dtype,
          .shape = tensor.shape,
          .pieces = {{.file_name = file_name, .piece = whole_piece(tensor.shape), .block_checksums = {}}}};
}

FileToWrite file_of(const Group& group, const std::string& name, FilePart& part) {
  FileToWrite file{.name = name, .metadata = checkpoint_file_metadata(), .tensors = {}};
  part.manifest.tensors.resize(group.size());
  for (size_t i = 0; i < group.size(); ++i) {
    const CheckpointTensor& tensor = *group[i];
    file.tensors.push_back({.spec = {tensor.name, safetensors_word(tensor.dtype), stored_shape(tensor.piece)},
                            .read = [&tensor, &part, i, name](int64_t offset, std::span<std::byte> into) {
                              if (offset == 0) part.manifest.tensors[i] = entry_of(tensor, name);
                              RETURN_IF_ERROR(tensor.read(offset, into));
                              part.manifest.tensors[i].pieces.front().block_checksums.push_back(checksum(into));
                              return ok_status();
                            }});
  }
  file.record = [&part, &group, name] {
    Manifest told = part.manifest;
    for (size_t i = 0; i < group.size(); ++i)  // one without a byte was not read
      if (told.tensors[i].name.empty()) told.tensors[i] = entry_of(*group[i], name);
    told.files[name] = 0;  // known when it is closed
    std::sort(told.tensors.begin(), told.tensors.end(), entry_before);
    return part.text = manifest_text(told);
  };
  file.recall = [&part, &group](const std::string& record) {
    ASSIGN_OR_RETURN(const Manifest told, parse_manifest(record));
    if (told.tensors.size() != group.size()) return corrupt("of other tensors");
    part.text = record;
    return ok_status();
  };
  return file;
}

}  // namespace

Status stream_checkpoint(FileSystem& files, const std::string& path, const CheckpointState& state,
                         std::span<const CheckpointTensor> tensors, const StreamSaveOptions& options) {
  ASSIGN_OR_RETURN(const std::string place, new_checkpoint_path(files, path));
  if (!files.can_rename(place))
    return invalid(fmt::format("[{}] is no local disk; write to one, and then `colossus checkpoint copy`", place));
  // With the limit, by which tensors are shared out among files.
  std::string identity = fmt::format("{} {}", options.identity, options.max_file_bytes);
  for (const CheckpointTensor& tensor : tensors) {
    RETURN_IF_ERROR(check_shape(tensor.shape).at(tensor.name));
    CHECK(tensor.piece == whole_piece(tensor.shape));
    identity += fmt::format(" {} {} {}", tensor.name, dtype_name(tensor.dtype), tensor.shape.to_string());
  }
  const std::vector<Group> groups = group_by_file(tensors, options.max_file_bytes);
  std::vector<FilePart> parts(groups.size());
  std::vector<FileToWrite> to_write;
  std::map<std::string, int64_t> count, next;  // by file
  for (const Group& group : groups) ++count[group.front()->file];
  for (size_t i = 0; i < groups.size(); ++i) {
    const std::string& file = groups[i].front()->file;
    const std::string name = count[file] == 1
                                 ? file + ".safetensors"
                                 : fmt::format("{}-{:05}-of-{:05}.safetensors", file, ++next[file], count[file]);
    parts[i].manifest.step = state.step;
    to_write.push_back(file_of(groups[i], name, parts[i]));
  }
  const std::string unfinished = place + std::string(kUnfinishedSuffix);
  RETURN_IF_ERROR(files.make_directories(unfinished));
  RETURN_IF_ERROR(write_resumable(files, unfinished, to_write,
                                  {.identity = fmt::format("{:016x}", checksum(identity)),
                                   .progress = options.progress,
                                   .block_bytes = kCheckpointBlockBytes}));
  std::vector<std::string> texts;
  for (size_t i = 0; i < groups.size(); ++i) {
    ASSIGN_OR_RETURN(Manifest told, parse_manifest(parts[i].text));
    ASSIGN_OR_RETURN(const FileEntry on_disk, files.stat(unfinished + "/" + to_write[i].name));
    told.files[to_write[i].name] = on_disk.size_bytes;
    texts.push_back(manifest_text(told));
  }
  RETURN_IF_ERROR(finish_checkpoint(files, unfinished, place, state, std::move(texts)));
  // The checkpoint is there; a record that stays does no harm.
  static_cast<void>(forget_records(files, place));
  return ok_status();
}

}  // namespace colossus
