// GGUF files as models to import.
#pragma once

#include <string>
#include <vector>

#include "convert/gguf_file.h"
#include "convert/opened_model.h"

namespace colossus {

// The file, and where it is one of several ("x-00001-of-00003.gguf") all of them, in order. Each tensor is in one.
Result<std::vector<std::shared_ptr<const GgufFile>>> open_gguf_files(FileSystem& files, const std::string& path);

// Quantized tensors are seen as fp32, floats as they are.
Result<OpenedModel> open_gguf_model(FileSystem& files, const std::string& path);

// A tensor of the file as numbers; its type must be readable.
SourceTensor gguf_source(const std::shared_ptr<const GgufFile>& file, const GgufTensor& tensor);

}  // namespace colossus
