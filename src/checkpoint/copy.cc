#include "checkpoint/copy.h"

#include <fmt/format.h>

#include <algorithm>

#include "checkpoint/checkpoint.h"
#include "checkpoint/directory.h"
#include "checkpoint/manifest.h"

namespace colossus {
namespace {

Status copy_file(FileSystem& files, const std::string& from, const std::string& to, const CopyOptions& options,
                 int64_t& num_bytes) {
  ASSIGN_OR_RETURN(const auto reader, files.open(from));
  ASSIGN_OR_RETURN(const auto writer, files.create(to));
  std::vector<std::byte> block;
  for (int64_t at = 0; at < reader->size(); at += static_cast<int64_t>(block.size())) {
    if (options.progress && !options.progress(num_bytes)) return interrupted("stopped");
    block.resize(static_cast<size_t>(std::min(kCheckpointBlockBytes, reader->size() - at)));
    if (const Status read = read_exactly(*reader, at, block); !read.ok()) return read.at(from);
    RETURN_IF_ERROR(writer->append(block));
    num_bytes += static_cast<int64_t>(block.size());
  }
  RETURN_IF_ERROR(writer->sync());
  return writer->close();
}

Status copy_files(FileSystem& files, const Checkpoint& checkpoint, const std::string& to, const CopyOptions& options) {
  int64_t num_bytes = 0;
  for (const auto& [name, size] : checkpoint.file_bytes())
    RETURN_IF_ERROR(copy_file(files, checkpoint.path() + "/" + name, to + "/" + name, options, num_bytes));
  for (const auto& [name, text] : checkpoint.state().texts)
    RETURN_IF_ERROR(write_file_atomically(files, to + "/" + name, text));
  ASSIGN_OR_RETURN(const std::string manifest,
                   read_file(files, checkpoint.path() + "/" + kManifestName, kMaxManifestBytes));
  RETURN_IF_ERROR(write_file_atomically(files, to + "/" + kManifestName, manifest));
  return files.sync_directory(to);
}

Status verify_at(FileSystem& files, const std::string& path) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::open(files, path));
  return checkpoint.verify();
}

}  // namespace

Status copy_checkpoint(FileSystem& files, const std::string& from, const std::string& to, const CopyOptions& options) {
  ASSIGN_OR_RETURN(const std::string path, new_checkpoint_path(files, to));
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::open(files, from));
  const bool to_disk = files.can_rename(path);
  if (!to_disk) RETURN_IF_ERROR(checkpoint.verify());
  const std::string unfinished = unfinished_path(files, path);
  const auto write = [&] {
    RETURN_IF_ERROR(files.remove_all(unfinished));
    RETURN_IF_ERROR(files.make_directories(unfinished));
    RETURN_IF_ERROR(copy_files(files, checkpoint, unfinished, options));
    if (!to_disk) return ok_status();
    RETURN_IF_ERROR(verify_at(files, unfinished));
    RETURN_IF_ERROR(files.rename(unfinished, path));
    const size_t slash = path.rfind('/');
    return files.sync_directory(slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1)));
  };
  const Status written = write();
  if (!written.ok()) static_cast<void>(remove_checkpoint(files, unfinished));
  return written;
}

}  // namespace colossus
