// What every export begins with: a checkpoint of ours, and its tensors as another format has them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "convert/assemble.h"
#include "convert/name_map.h"
#include "convert/source.h"
#include "model/generation_tokens.h"
#include "model/model_config.h"

namespace colossus {

struct ExportSource {
  Checkpoint checkpoint;
  ModelConfig config;
  std::vector<std::string> notes;
};
// `from` is a run (its newest checkpoint) or a checkpoint.
Result<ExportSource> open_export_source(FileSystem& files, const std::string& from);

// Null where the checkpoint has none of that name.
const std::string* text_of(const Checkpoint& checkpoint, const std::string& name);

// How texts begin and end, as the checkpoint's generation.toml has it; nothing where there is none.
Result<GenerationTokens> generation_of(const Checkpoint& checkpoint);

// What decides logits: how a network is trained is not in the files of others.
ModelConfig network_of(ModelConfig config);
// kInvalid names the first field in which the network that was read back differs from what was to be said; `place` says
// in what.
Status check_same_network(const ModelConfig& wanted, const ModelConfig& read_back, const std::string& place);

// A place for an export, without slashes at its end; nothing may be there yet, and names can be changed there.
Result<std::string> free_place(FileSystem& files, const std::string& to);

// Our tensors in the map's order; each block is verified as it is read. The checkpoint outlives them.
Result<std::vector<SourceTensor>> open_sources(const Checkpoint& checkpoint, const NameMap& map);

// One of theirs, made of ours: `sources` are those of open_sources, and outlive it. Its parts must be of one type.
struct MadeTensor {
  DType dtype = DType::kF32;
  std::shared_ptr<Assembly> assembly;
};
Result<MadeTensor> make_tensor(const NameMap& map, const TheirTensor& theirs, const std::vector<SourceTensor>& sources,
                               int64_t head_dim, const std::shared_ptr<AssemblyBuffers>& buffers);

}  // namespace colossus
