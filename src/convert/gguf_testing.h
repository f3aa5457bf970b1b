// For tests only: GGUF files, whole and broken.
#pragma once

#include <fmt/format.h>

#include <cstring>

#include "convert/gguf_config.h"
#include "convert/gguf_writer.h"
#include "convert/testing.h"

namespace colossus {

// A file byte by byte: nothing keeps it from contradicting itself.
class RawGguf {
 public:
  RawGguf(uint64_t num_tensors, uint64_t num_keys, uint32_t version = 3, std::string_view magic = "GGUF") {
    bytes_ = magic;
    number(version).number(num_tensors).number(num_keys);
  }

  template <class T>
  RawGguf& number(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  RawGguf& text(std::string_view text) {
    number(static_cast<uint64_t>(text.size()));
    bytes_ += text;
    return *this;
  }
  RawGguf& key(std::string_view name, GgufValueType type) { return text(name).number(static_cast<uint32_t>(type)); }
  RawGguf& array(std::string_view name, GgufValueType element, uint64_t count) {
    return key(name, GgufValueType::kArray).number(static_cast<uint32_t>(element)).number(count);
  }
  // Sizes innermost first, as the file has them.
  RawGguf& tensor(std::string_view name, const std::vector<uint64_t>& sizes, uint32_t type, uint64_t offset) {
    text(name).number(static_cast<uint32_t>(sizes.size()));
    for (const uint64_t size : sizes) number(size);
    return number(type).number(offset);
  }
  // To the next multiple, and so many bytes.
  RawGguf& data(size_t num_bytes, size_t alignment = 32) {
    bytes_.append((alignment - bytes_.size() % alignment) % alignment, '\0');
    bytes_.append(num_bytes, '\x3C');
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// A file of the network, with bytes of no meaning as fp32 numbers of order one.
inline GgufToWrite small_gguf(const ModelConfig& model) {
  GgufToWrite file{.metadata = gguf_config(model), .lists = {}, .tensors = {}};
  const auto map = make_name_map(model, gguf_rules(model));
  CHECK(map.ok(), map.status().message().c_str());
  for (const TheirTensor& theirs : map->theirs)
    file.tensors.push_back({.name = theirs.name,
                            .type = GgmlType::kF32,
                            .shape = theirs.shape,
                            .read = [name = theirs.name](int64_t offset, std::span<std::byte> into) {
                              const auto all = bytes_of(name, static_cast<size_t>(offset) + into.size());
                              for (size_t i = 0; i < into.size(); i += 4) {
                                const auto* raw = reinterpret_cast<const uint8_t*>(all.data()) + offset + i;
                                const float value = (static_cast<float>(raw[0]) - 128) / 64;
                                std::memcpy(into.data() + i, &value, sizeof(value));
                              }
                              return ok_status();
                            }});
  return file;
}

// With the vocabulary of pieces that llama.cpp's "llama" has: unknown, begin, end, bytes and letters.
inline void add_small_vocabulary(GgufToWrite& file, int64_t vocab_size) {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {2, 3, 3};
  for (int64_t i = 3; i < vocab_size; ++i) {
    tokens.emplace_back(1, static_cast<char>('a' + i - 3));
    types.push_back(1);
  }
  file.lists["tokenizer.ggml.scores"] = std::vector<float>(tokens.size());
  file.lists["tokenizer.ggml.tokens"] = std::move(tokens);
  file.lists["tokenizer.ggml.token_type"] = std::move(types);
  file.metadata["tokenizer.ggml.model"] = gguf_text("llama");
  file.metadata["tokenizer.ggml.bos_token_id"] = gguf_u32(1);
  file.metadata["tokenizer.ggml.eos_token_id"] = gguf_u32(2);
}

inline void write_small_gguf(const std::string& path, const GgufToWrite& file) {
  const auto written = write_gguf(local_files(), path, file, {.identity = "test", .progress = {}});
  CHECK(written.ok(), written.status().message().c_str());
}

}  // namespace colossus
