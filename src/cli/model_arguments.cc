#include "cli/model_arguments.h"

#include <cstdio>

#include "convert/open_import.h"
#include "io/s3/s3_files.h"

namespace colossus {

void add_model_options(Command command, ModelArguments& arguments) {
  command.option("model", arguments.path,
                 "directory of a run, or of a checkpoint; or somebody else's model, as import takes it",
                 {.required = true});
  command.option("--tokenizer", arguments.tokenizer, "of a llama2.c model: the .bin with its pieces");
  SamplerOptions& s = arguments.sampler;
  command.option("--temperature", s.temperature, "0: always the most likely token", {.min = 0.0, .max = 100.0});
  command.option("--top-k", s.top_k, "only the k most likely tokens; 0: all", {.min = 0});
  command.option("--top-p", s.top_p, "only the fewest tokens whose probability sums to p", {.min = 1e-9, .max = 1.0});
  command.option("--min-p", s.min_p, "only tokens with this share of the most likely one's probability",
                 {.min = 0.0, .max = 1.0});
  command.option("--repetition-penalty", s.repetition_penalty, "above 1: tokens seen become less likely",
                 {.min = 1e-3, .max = 1e3});
  command.option("--seed", s.seed, "of the draws", {.min = 0});
  command.option("--compute", arguments.compute, "f32, bf16, or auto: bf16 from 20M parameters on",
                 {.choices = {"auto", "f32", "bf16"}});
  command.option("--context", arguments.context, "most tokens of a sequence; 0: the model's", {.min = 0});
  add_device_options(command, arguments.device);
}

Result<LoadedModel> load_any_model(Device& device, const std::string& path, const std::string& tokenizer) {
  if (!is_foreign_model(local_files(), path)) {
    if (!tokenizer.empty()) return invalid("[--tokenizer] is for llama2.c files; " + path + " has its own");
    return load_model(all_files(), device, path);
  }
  ASSIGN_OR_RETURN(const ModelToImport model, open_import(local_files(), path, tokenizer));
  for (const std::string& note : model.report.notes) std::fprintf(stderr, "note: %s\n", note.c_str());
  return load_model(device, ModelSource{.place = path, .state = model.state, .parameters = model.stored});
}

Result<OpenModel> open_model(const ModelArguments& arguments, int64_t batch) {
  ASSIGN_OR_RETURN(auto device, open_device(arguments.device));
  ASSIGN_OR_RETURN(LoadedModel model, load_any_model(*device, arguments.path, arguments.tokenizer));
  for (const Status& status : model.passed_over) std::fprintf(stderr, "passed over: %s\n", status.message().c_str());
  DecodeOptions options{
      .batch = batch, .context = arguments.context, .compute = decoding_dtype(model.config), .stored = model.stored};
  if (arguments.compute != "auto") options.compute = arguments.compute == "bf16" ? DType::kBF16 : DType::kF32;
  ASSIGN_OR_RETURN(auto session, DecodeSession::create(*device, model.parameters, model.config, options));
  return OpenModel{std::move(device), std::move(model), std::move(session)};
}

}  // namespace colossus
