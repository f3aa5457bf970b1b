// What generate and chat have in common: a model, how to sample from it, and on what.
#pragma once

#include <memory>
#include <string>

#include "cli/command.h"
#include "device/device.h"
#include "infer/decode_session.h"
#include "infer/loaded_model.h"
#include "infer/sampler.h"

namespace colossus {

struct ModelArguments {
  std::string path;
  SamplerOptions sampler;
  std::string compute = "auto";
  int64_t context = 0;
  int threads = 0;
};

void add_model_options(Command command, ModelArguments& arguments);

struct OpenModel {
  std::unique_ptr<Device> device;  // first: it outlives what was made by it
  LoadedModel model;
  std::unique_ptr<DecodeSession> session;
};

// Loads the model and prepares `batch` sequences; says on stderr which checkpoints were passed over.
Result<OpenModel> open_model(const ModelArguments& arguments, int64_t batch);

}  // namespace colossus
