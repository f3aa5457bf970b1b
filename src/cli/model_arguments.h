// What generate and chat have in common: a model, how to sample from it, and on what.
#pragma once

#include <memory>
#include <string>

#include "cli/command.h"
#include "cli/open_device.h"
#include "device/device.h"
#include "infer/decode_session.h"
#include "infer/loaded_model.h"
#include "infer/sampler.h"

namespace colossus {

struct ModelArguments {
  std::string path;
  std::string tokenizer;  // of a llama2.c model
  SamplerOptions sampler;
  std::string compute = "auto";
  int64_t context = 0;
  DeviceArguments device;
};

void add_model_options(Command command, ModelArguments& arguments);

struct OpenModel {
  std::unique_ptr<Device> device;  // first: it outlives what was made by it
  LoadedModel model;
  std::unique_ptr<DecodeSession> session;
};

// `path` as ModelArguments has it; notes of what was passed over go to stderr.
Result<LoadedModel> load_any_model(Device& device, const std::string& path, const std::string& tokenizer = "");

// Loads the model, a checkpoint's or, straight from their files, somebody else's (convert/open_import.h), and prepares
// `batch` sequences; says on stderr which checkpoints were passed over.
Result<OpenModel> open_model(const ModelArguments& arguments, int64_t batch);

}  // namespace colossus
