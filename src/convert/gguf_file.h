// GGUF files (llama.cpp; versions 2 and 3, little-endian): typed keys and values, a table of tensors, and the tensors'
// bytes, each at a multiple of the alignment.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/status.h"
#include "convert/ggml_types.h"
#include "io/file_system.h"
#include "tensor/shape.h"

namespace colossus {

enum class GgufValueType : uint32_t {  // numbers as in the files
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kText,
  kArray,
  kU64,
  kI64,
  kF64,
};
std::string_view gguf_type_name(GgufValueType type);  // "u32"

// Stays in the file; GgufFile reads it.
struct GgufArray {
  GgufValueType element = GgufValueType::kU8;
  int64_t count = 0;
  int64_t offset = 0, num_bytes = 0;  // in the file
};

struct GgufValue {
  GgufValueType type = GgufValueType::kU32;
  std::variant<int64_t, uint64_t, double, bool, std::string, GgufArray>
      value;  // whole numbers: u64 only where too large

  // Nothing where it is of another kind.
  std::optional<int64_t> whole() const;
  std::optional<double> number() const;  // whole ones, too; an f32 as the shortest decimal that stands for it
  std::optional<bool> flag() const;
  const std::string* text() const;
  const GgufArray* array() const;
};

using GgufMetadata = std::map<std::string, GgufValue>;

struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  Shape shape;         // outermost first: the file has it the other way round
  int64_t offset = 0;  // in the file
  int64_t num_bytes = 0;

  std::string_view type_name() const { return ggml_type_size(static_cast<uint32_t>(type))->name; }
};

inline constexpr int64_t kMaxGgufKeys = 1 << 16, kMaxGgufTensors = 1 << 16;  // of a file: real ones have thousands
inline constexpr int kMaxGgufDepth = 128;                                    // of arrays within arrays

// An opened file: all but the tensors' bytes was looked at. Every count and size was held to the bytes that are there
// before memory was taken; names, keys and offsets are consistent, tensors lie one behind the other. Thread-safe.
class GgufFile {
 public:
  static Result<GgufFile> open(FileSystem& files, const std::string& path);

  const std::string& path() const { return path_; }
  uint32_t version() const { return version_; }
  int64_t alignment() const { return alignment_; }
  int64_t data_offset() const { return data_offset_; }  // where tensors begin
  int64_t num_bytes() const { return file_->size(); }
  int64_t bytes_behind() const { return bytes_behind_; }  // of the last tensor and its padding: of no meaning
  const GgufMetadata& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }  // as they lie in the file

  // Elements of an array of `array.element`; refuses arrays of other types. `most`: of elements.
  Result<std::vector<std::string>> texts(const GgufArray& array, int64_t most) const;
  Result<std::vector<float>> floats(const GgufArray& array, int64_t most) const;    // f32
  Result<std::vector<int32_t>> wholes(const GgufArray& array, int64_t most) const;  // i32, or u32 that fit
  Result<std::string> bytes(const GgufArray& array, int64_t most) const;            // u8 or i8
  // Of the tensor's bytes, as they lie in the file, those from `offset` on.
  Status read(const GgufTensor& tensor, int64_t offset, std::span<std::byte> into) const;

 private:
  friend class GgufParser;
  GgufFile() = default;

  std::string path_;
  std::shared_ptr<FileReader> file_;
  uint32_t version_ = 0;
  int64_t alignment_ = 32, data_offset_ = 0, bytes_behind_ = 0;
  GgufMetadata metadata_;
  std::vector<GgufTensor> tensors_;
};

}  // namespace colossus
