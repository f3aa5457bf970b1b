// A checkpoint of ours as one GGUF file, for llama.cpp and what is built on it.
#pragma once

#include <functional>
#include <string>

#include "convert/export_model.h"

namespace colossus {

enum class GgufExportType { kAsStored, kF32, kBF16, kQ8_0 };

struct GgufExportOptions {
  // Of matrices; norms, biases, positions and routers are fp32. As stored: bf16 where a tensor is that, else fp32. Q8_0
  // holds rows of a multiple of 32 elements; other matrices are then bf16.
  GgufExportType type = GgufExportType::kAsStored;
  std::function<bool(int64_t done_bytes, int64_t all_bytes)> progress;  // false stops it
};

// `from` is a run (its newest checkpoint) or a checkpoint; `to` a file that is not there yet. Memory: the largest
// matrix, and some mebibytes. Cut short, it goes on where it was when it is called again. Notes of the report tell
// where llama.cpp computes something else. What llama.cpp's architectures have no place for is refused.
Result<ExportReport> export_gguf(FileSystem& files, const std::string& from, const std::string& to,
                                 const GgufExportOptions& options = {});

}  // namespace colossus
