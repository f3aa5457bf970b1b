// For tests only: models as other programs write them, with bytes of no meaning in every tensor.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "convert/hf_config.h"
#include "convert/name_map.h"
#include "convert/open_import.h"
#include "io/checksum.h"
#include "io/safetensors.h"
#include "io/testing.h"

namespace colossus {

// One network for each family of names, with every part that it has.
inline ModelConfig small_model_of(std::string_view family) {
  ModelConfig m{
      .family = Family::kLlama, .num_layers = 2, .width = 12, .num_heads = 4, .num_kv_heads = 2, .head_dim = 4};
  m.num_experts = 0;
  m.vocab_size = 19;
  m.context = 32;
  m.ffn_width = 20;
  m.activation = ActivationKind::kSilu;
  m.tie_embeddings = false;
  m.norm_eps = 1e-6;
  if (family == "mistral") m.window = 8;
  m.qk_norm = family == "qwen3" || family == "qwen3_moe";
  if (family == "mixtral" || family == "qwen3_moe" || family.starts_with("grok")) {
    m.num_experts = 3;
    m.num_experts_per_token = 2;
    m.expert_width = 10;
    m.ffn_width = family == "grok-2" ? 14 : 0;
    m.renormalize_gates = !family.starts_with("grok");
  }
  if (family == "gpt2") {
    m.family = Family::kGpt2;
    m.num_kv_heads = 4;
    m.head_dim = 3;
    m.biases = m.tie_embeddings = true;
    m.activation = ActivationKind::kGeluTanh;
  }
  if (!family.starts_with("grok")) return m;
  m.family = family == "grok-2" ? Family::kGrok2 : Family::kGrok1;
  m.activation = ActivationKind::kGeluTanh;
  m.embedding_scale = 3;
  m.logit_scale = 0.5;
  m.attn_softcap = 30;
  m.tie_embeddings = family != "grok-2";
  if (family == "grok-2") {
    m.router_softcap = 30;
    m.logit_softcap = 50;
    m.attn_temperature_len = 8;
  }
  return m;
}

// Bytes that depend on the name, the generation and their place; among them every kind of float.
inline std::vector<std::byte> bytes_of(const std::string& name, size_t size, uint64_t generation = 0) {
  uint64_t state = checksum(name) + generation;
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    byte = static_cast<std::byte>(state >> 56);
  }
  return bytes;
}

struct ForeignTensor {
  SafetensorsSpec spec;
  std::vector<std::byte> bytes;
};

inline void write_safetensors(const std::string& path, const std::vector<ForeignTensor>& tensors) {
  std::vector<SafetensorsSpec> specs;
  for (const ForeignTensor& tensor : tensors) specs.push_back(tensor.spec);
  auto writer = SafetensorsWriter::create(local_files(), path, std::move(specs), {{"format", "pt"}});
  CHECK(writer.ok(), writer.status().message().c_str());
  for (const ForeignTensor& tensor : tensors) CHECK(writer->append(tensor.bytes).ok());
  CHECK(writer->finish().ok());
}

// Every tensor that the family names for the network, in the order of the names.
inline std::vector<ForeignTensor> foreign_tensors(const ModelConfig& model, const ModelFamily& family, DType dtype) {
  const auto map = make_name_map(model, family.rules);
  CHECK(map.ok(), map.status().message().c_str());
  std::vector<ForeignTensor> tensors;
  for (const TheirTensor& theirs : map->theirs) {
    const auto size = static_cast<size_t>(theirs.shape.num_elements() * dtype_bytes(dtype));
    const std::string word = dtype == DType::kF32 ? "F32" : dtype == DType::kF16 ? "F16" : "BF16";
    tensors.push_back(
        {{theirs.name, word, {theirs.shape.sizes().begin(), theirs.shape.sizes().end()}}, bytes_of(theirs.name, size)});
  }
  std::ranges::sort(tensors, {}, [](const ForeignTensor& t) { return t.spec.name; });
  return tensors;
}

inline void write_text(const std::string& path, const std::string& text) {
  CHECK(write_file_atomically(local_files(), path, text).ok());
}

// A directory with config.json and one model.safetensors.
inline std::vector<ForeignTensor> write_foreign_model(const std::string& directory, const ModelConfig& model,
                                                      const ModelFamily& family, DType dtype) {
  CHECK(local_files().make_directories(directory).ok());
  write_text(directory + "/config.json", write_hf_config(model, family_of(model), "float32").dump(2));
  auto tensors = foreign_tensors(model, family, dtype);
  write_safetensors(directory + "/model.safetensors", tensors);
  return tensors;
}

// Every parameter where it lies is the one that an import has, read in parts of any size, turned over where it says so.
inline void expect_stored_as_imported(const ModelToImport& model) {
  ASSERT_EQ(model.stored.size(), model.tensors.size());
  for (const CheckpointTensor& tensor : model.tensors) {
    const StoredParameter& stored = model.stored.at(tensor.name);
    ASSERT_EQ(stored.type.dtype, tensor.dtype) << tensor.name;
    const auto size = static_cast<size_t>(tensor.num_bytes()), element = static_cast<size_t>(dtype_bytes(tensor.dtype));
    std::vector<std::byte> imported(size), there(size), turned(size);
    ASSERT_TRUE(tensor.read(0, imported).ok()) << tensor.name;
    for (size_t at = 0, part = element; at < size; at += part, part = 3 * part + element) {
      part = std::min(part, size - at);
      ASSERT_TRUE(stored.bytes.read(static_cast<int64_t>(at), std::span(there).subspan(at, part)).ok()) << tensor.name;
    }
    if (!stored.transposed) {
      EXPECT_EQ(stored.type.shape, tensor.shape) << tensor.name;
      EXPECT_EQ(there, imported) << tensor.name;
      continue;
    }
    ASSERT_EQ(stored.type.shape, tensor.shape.transposed()) << tensor.name;
    const auto rows = static_cast<size_t>(tensor.shape[-2]), cols = static_cast<size_t>(tensor.shape[-1]);
    for (size_t i = 0; i < size / element; ++i) {
      const size_t matrix = i / (rows * cols), row = i / cols % rows, col = i % cols;
      std::copy_n(there.begin() + static_cast<std::ptrdiff_t>(((matrix * cols + col) * rows + row) * element), element,
                  turned.begin() + static_cast<std::ptrdiff_t>(i * element));
    }
    EXPECT_EQ(turned, imported) << tensor.name;
  }
}

}  // namespace colossus
