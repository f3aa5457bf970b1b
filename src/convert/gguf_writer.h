// Writing a GGUF file (version 3) whose tensors are made while it is written.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "convert/gguf_file.h"
#include "convert/gguf_tokenizer.h"

namespace colossus {

struct GgufTensorToWrite {
  std::string name;
  GgmlType type = GgmlType::kF32;
  Shape shape;  // outermost first
  // Fills `into` with the tensor's bytes, as the file has them, from `offset` on: both multiples of a block's bytes.
  // Called from front to back; what an earlier try wrote is left out.
  std::function<Status(int64_t offset, std::span<std::byte> into)> read;

  int64_t num_bytes() const;
};

struct GgufToWrite {
  GgufMetadata metadata;                  // scalars
  std::map<std::string, GgufList> lists;  // arrays
  std::vector<GgufTensorToWrite> tensors;
};

struct GgufWriteOptions {
  std::string identity;  // of what is written: other bytes come from another one. One line.
  // Called with the bytes that are done, those of earlier tries included; false stops it (kInterrupted).
  std::function<bool(int64_t done_bytes, int64_t all_bytes)> progress;
};

// The file appears whole: it is written as <path>.part, synced and renamed. Every so often <path>.part.done says how
// much is on the disk, and another try with the same identity goes on there; what lies behind is compared with what
// would be written. Returns its bytes.
Result<int64_t> write_gguf(FileSystem& files, const std::string& path, const GgufToWrite& file,
                           const GgufWriteOptions& options);

}  // namespace colossus
