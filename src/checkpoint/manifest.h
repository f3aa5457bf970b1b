// manifest.json: what a checkpoint holds and where (docs/formats.md). While a checkpoint is saved, also what one rank
// tells of its files. Internal to checkpoint.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace colossus {

inline constexpr const char* kManifestName = "manifest.json";
inline constexpr int64_t kMaxManifestBytes = int64_t{512} << 20;

struct Manifest {
  int64_t step = 0;
  std::optional<double> validation_loss;
  std::map<std::string, uint64_t> texts;   // name → checksum
  std::map<std::string, int64_t> files;    // name → bytes
  std::vector<Checkpoint::Entry> tensors;  // rising by (file, name)
};

// JSON and its checksum.
std::string manifest_text(const Manifest& manifest);
// Refuses what no manifest_text() gives, but for what only a whole checkpoint can be asked: see check_complete().
// Memory is in proportion to the text's.
Result<Manifest> parse_manifest(std::string_view text);
// Of the ranks' parts, by rank.
Result<Manifest> merge_manifests(std::vector<Manifest> parts);
// Every element of every tensor is in exactly one piece.
Status check_complete(const Manifest& manifest);

// `path` is the checkpoint's.
Result<Manifest> read_manifest(FileSystem& files, const std::string& path);

int64_t num_blocks(int64_t num_bytes);

// How a safetensors file of a checkpoint has it: a whole slice in its shape, any other piece as a list.
std::vector<int64_t> stored_shape(const Piece& piece);
std::string safetensors_word(DType dtype);
// So that a file of something else is not taken for one of ours.
const std::map<std::string, std::string>& checkpoint_file_metadata();

}  // namespace colossus
