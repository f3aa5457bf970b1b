// A trained model from a checkpoint, ready to decode. Its parameters are read where they are stored, in the forms that
// they have there, when a program that wants them is made.
#pragma once

#include <memory>
#include <string>

#include "checkpoint/checkpoint.h"
#include "device/tensor_set.h"
#include "infer/text_bounds.h"
#include "model/model.h"
#include "model/stored_parameter.h"
#include "text/tokenizer.h"

namespace colossus {

// The network alone: for who has token ids already.
struct LoadedNetwork {
  std::string path;  // of the checkpoint
  ModelConfig config;
  TensorSet parameters;
  StoredForms stored;  // of the parameters
};
// `files` outlives the parameters.
Result<LoadedNetwork> load_network(FileSystem& files, Device& device, const std::string& path);

struct LoadedModel {
  std::string path;  // of the checkpoint
  int64_t step = 0;
  ModelConfig config;
  TensorSet parameters;
  StoredForms stored;  // of the parameters
  Tokenizer tokenizer;
  GenerationTokens bounds;          // how its texts begin and end
  std::vector<Status> passed_over;  // newer checkpoints that cannot be read
};

// `path` is a run's directory (its newest good checkpoint is taken) or a checkpoint. `files` outlives the
// parameters.
Result<LoadedModel> load_model(FileSystem& files, Device& device, const std::string& path);

// What a checkpoint would hold, wherever it is: a model of others that was not imported. `place` is for messages.
struct ModelSource {
  std::string place;
  const CheckpointState& state;
  const StoredParameters& parameters;
};
Result<LoadedNetwork> load_network(Device& device, const ModelSource& source);
Result<LoadedModel> load_model(Device& device, const ModelSource& source);

// bf16 for models of 20M parameters or more, whose decoding is bound by the bytes of weights; fp32 for smaller ones.
DType decoding_dtype(const ModelConfig& config);

}  // namespace colossus
