// The safetensors format: 8 bytes of header length (little-endian), a JSON header, the tensors' bytes without a gap.
// Knows no tensor type: a dtype is the format's own word ("F32", "BF16"), a shape is a list of sizes.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "io/file_system.h"

namespace colossus {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;           // BOOL U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 I16 U16 F16 BF16 I32 U32 F32 I64 U64 F64 C64
  std::vector<int64_t> shape;  // empty: a scalar
  int64_t offset = 0;          // of the first byte in the file
  int64_t size_bytes = 0;
};

// Bytes of one element of a format's dtype; nothing where the word is unknown.
std::optional<int64_t> safetensors_dtype_bytes(const std::string& dtype);

// dtype × shape in bytes; refuses unknown dtypes, negative sizes and products beyond 2^63.
Result<int64_t> safetensors_tensor_bytes(const std::string& dtype, const std::vector<int64_t>& shape);

// A file opened for reading. The header is checked in full before anything is trusted: its length, every dtype and
// shape against its bytes, every offset inside the file, no gap, no overlap, no name twice. Thread-safe.
class SafetensorsFile {
 public:
  static Result<SafetensorsFile> open(FileSystem& files, const std::string& path);

  const std::string& path() const { return path_; }
  const std::vector<SafetensorsEntry>& tensors() const { return tensors_; }  // in the order of their bytes
  const SafetensorsEntry* find(const std::string& name) const;               // null: not there
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // into.size() bytes of the tensor from `first_byte` on; they must lie inside it.
  Status read(const SafetensorsEntry& tensor, int64_t first_byte, std::span<std::byte> into) const;

 private:
  SafetensorsFile() = default;

  std::string path_;
  std::unique_ptr<FileReader> file_;
  std::vector<SafetensorsEntry> tensors_;
  std::unordered_map<std::string, size_t> by_name_;
  std::map<std::string, std::string> metadata_;
};

struct SafetensorsSpec {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
};

// Streams tensors into a new file: header first, then append() with the bytes of the specs in their order, in pieces of
// any size. Until finish() returned ok the file is not whole; writing beside and renaming is the caller's.
class SafetensorsWriter {
 public:
  static Result<SafetensorsWriter> create(FileSystem& files, const std::string& path,
                                          std::vector<SafetensorsSpec> specs,
                                          const std::map<std::string, std::string>& metadata = {});

  Status append(std::span<const std::byte> bytes);
  // Syncs and closes. Bytes missing is an error.
  Status finish();
  int64_t file_bytes() const { return file_bytes_; }  // of the whole file, known from the start

 private:
  SafetensorsWriter() = default;
  void pass_full_tensors();
  Status flush();

  std::string path_;
  std::unique_ptr<FileWriter> file_;
  std::vector<SafetensorsSpec> specs_;
  std::vector<int64_t> sizes_bytes_;
  size_t current_ = 0;         // the tensor that the next byte belongs to
  int64_t current_bytes_ = 0;  // taken of it so far
  std::vector<std::byte>
      pending_;  // small appends are gathered: one system call per piece would cost more than the bytes
  int64_t file_bytes_ = 0;
};

}  // namespace colossus
