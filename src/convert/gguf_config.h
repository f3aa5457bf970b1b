// The keys of a GGUF file that describe a network: "llama.block_count" and the like.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "convert/gguf_file.h"
#include "convert/gguf_names.h"
#include "model/model_config.h"

namespace colossus {

struct GgufModel {
  GgufArchitecture architecture = GgufArchitecture::kLlama;
  ModelConfig config;
  std::vector<std::string> notes;  // keys that were not understood, and taken to mean nothing
};

// Refuses what our network cannot express, with the key that asks for it. What no key says, the tensors do: the size of
// the vocabulary, whether there is a head, or a dense block beside experts. `shapes`: of all tensors; `rope_freqs`:
// what the tensor of that name holds.
Result<GgufModel> read_gguf_config(const GgufMetadata& metadata, const std::map<std::string, Shape>& shapes,
                                   const std::vector<float>& rope_freqs);

// The same the other way: read_gguf_config of it and of the model's tensors gives the model again, its numbers rounded
// to fp32, where llama.cpp's architecture has all its parts.
GgufMetadata gguf_config(const ModelConfig& model);

// What llama.cpp computes in another way than this network is meant: for the user of an export.
std::vector<std::string> gguf_differences(const ModelConfig& model);

// Keys and values as writers need them.
GgufValue gguf_u32(int64_t value);
GgufValue gguf_f32(double value);
GgufValue gguf_bool(bool value);
GgufValue gguf_text(std::string value);

}  // namespace colossus
