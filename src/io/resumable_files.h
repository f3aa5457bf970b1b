// Safetensors files so large that a try that was cut short must not be repeated from the start. They are written one
// after the other into a directory: each as name.part, synced, renamed, and then there is name.done, which says what
// was written. Another try with the same identity goes on behind the last file that has one.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/safetensors.h"

namespace colossus {

struct TensorToWrite {
  SafetensorsSpec spec;
  // Fills `into` with the tensor's bytes from `offset` on; called from front to back.
  std::function<Status(int64_t offset, std::span<std::byte> into)> read;
};

struct FileToWrite {
  std::string name;  // without a directory
  std::map<std::string, std::string> metadata;
  std::vector<TensorToWrite> tensors;
  // What the next try must know of the file, asked when its tensors were read.
  std::function<std::string()> record = [] { return std::string(); };
  // In place of reading the tensors: what record() said when the file was written. An error: it is written again.
  std::function<Status(const std::string& record)> recall = [](const std::string&) { return ok_status(); };
};

struct ResumeOptions {
  std::string identity;  // of what is written: other bytes come from another one. One line.
  // Called with the bytes that are done, those of earlier tries included; false stops it (kInterrupted).
  std::function<bool(int64_t num_bytes)> progress;
  int64_t block_bytes = 4 << 20;  // of a read
};

// Writes those of `to_write` that are not there yet; `directory` exists.
Status write_resumable(FileSystem& files, const std::string& directory, std::span<const FileToWrite> to_write,
                       const ResumeOptions& options);
// Removes the records: after this nothing can be resumed.
Status forget_records(FileSystem& files, const std::string& directory);

}  // namespace colossus
