#include "cli/eval_command.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/exit_code.h"
#include "cli/interrupt.h"
#include "cli/open_device.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "data/loader.h"
#include "infer/decode_session.h"
#include "infer/loaded_model.h"
#include "io/s3/s3_files.h"
#include "io/xz_size.h"
#include "train/evaluator.h"

namespace colossus {
namespace {

constexpr double kLn2 = 0.6931471805599453;

struct LossArguments {
  std::string model;
  std::string data;
  std::string split = kValidationSplit;
  int64_t tokens = 0;
  DeviceArguments device;
  bool json = false;
  bool no_xz = false;
};

// The bytes of the tokens that evaluation predicts: what bits per byte are counted over, and what xz is given.
Result<std::string> evaluated_text(const Loader& loader, const Tokenizer& tokenizer, int64_t num_tokens) {
  const auto row = static_cast<size_t>(loader.options().row_tokens);
  std::vector<int32_t> tokens(row), targets(row);
  std::string text;
  for (int64_t first = 0; first * loader.options().row_tokens < num_tokens; ++first) {
    RETURN_IF_ERROR(loader.fill(first / loader.options().rows_per_step, first % loader.options().rows_per_step, 1,
                                tokens, targets, {}));
    for (int32_t token : targets)
      if (!tokenizer.is_special(token)) text += tokenizer.token_bytes(token);
  }
  return text;
}

Result<Evaluation> evaluate_with_progress(Evaluator& evaluator, const Loader& loader, int64_t max_tokens) {
  const InterruptScope interrupt("stopping");
  std::atomic<double> share = 0;
  Result<Evaluation> result = interrupted("");
  std::atomic<bool> finished = false;
  std::thread worker([&] {
    result = evaluator.run(loader, max_tokens, &interrupt.requested(), &share);
    finished = true;
  });
  Progress progress({.label = "evaluate", .unit = "%", .total = 100});
  while (!finished) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    progress.update(100 * share);
  }
  worker.join();
  return result;
}

void print_result(const LossArguments& arguments, const LoadedModel& model, const Evaluation& evaluation,
                  const std::string& text, int64_t xz_bytes) {
  const double nats_per_byte = evaluation.loss * static_cast<double>(evaluation.num_tokens) /
                               static_cast<double>(std::max<size_t>(text.size(), 1));
  const double xz_bits = 8.0 * static_cast<double>(xz_bytes) / static_cast<double>(std::max<size_t>(text.size(), 1));
  if (arguments.json) {
    nlohmann::json line = {{"checkpoint", model.path},       {"step", model.step},
                           {"split", arguments.split},       {"tokens", evaluation.num_tokens},
                           {"bytes", text.size()},           {"nats_per_token", evaluation.loss},
                           {"nats_per_byte", nats_per_byte}, {"bits_per_byte", nats_per_byte / kLn2}};
    if (!arguments.no_xz) line["xz9_bits_per_byte"] = xz_bits;
    std::printf("%s\n", line.dump().c_str());
    return;
  }
  std::printf("%s, %s split: %lld tokens, %zu bytes\n", model.path.c_str(), arguments.split.c_str(),
              static_cast<long long>(evaluation.num_tokens), text.size());
  std::printf("  %8.4f nats per token\n  %8.4f nats per byte\n  %8.4f bits per byte\n", evaluation.loss, nats_per_byte,
              nats_per_byte / kLn2);
  if (!arguments.no_xz) std::printf("  %8.4f bits per byte: xz -9 on the same text\n", xz_bits);
}

Status eval_loss(const LossArguments& arguments) {
  ASSIGN_OR_RETURN(const auto device, open_device(arguments.device));
  ASSIGN_OR_RETURN(const LoadedModel model, load_model(all_files(), *device, arguments.model));
  for (const Status& status : model.passed_over) std::fprintf(stderr, "passed over: %s\n", status.message().c_str());
  const int64_t tokens = model.config.context, batch = std::max<int64_t>(1, 4096 / tokens);
  ASSIGN_OR_RETURN(
      const Loader loader,
      Loader::open(local_files(), {{arguments.data, 1.0}},
                   {.row_tokens = tokens, .rows_per_step = batch, .split = arguments.split, .shuffle = false}));
  if (loader.identity().vocab_size != model.tokenizer.vocab_size())
    return invalid(fmt::format(
        "[{}] the shards have a vocabulary of {}, the model's tokenizer {}; build them with the model's tokenizer.json",
        arguments.data, loader.identity().vocab_size, model.tokenizer.vocab_size()));
  ASSIGN_OR_RETURN(
      const auto evaluator,
      Evaluator::create(
          *device, model.parameters, model.config,
          {.batch = batch, .tokens = tokens, .compute = device->preferred_compute_dtype(), .stored = model.stored}));
  ASSIGN_OR_RETURN(const Evaluation evaluation, evaluate_with_progress(*evaluator, loader, arguments.tokens));
  ASSIGN_OR_RETURN(const std::string text, evaluated_text(loader, model.tokenizer, evaluation.num_tokens));
  int64_t xz_bytes = 0;
  if (!arguments.no_xz) {
    ASSIGN_OR_RETURN(xz_bytes, xz9_bytes(text));
  }
  print_result(arguments, model, evaluation, text, xz_bytes);
  return ok_status();
}

struct LogitsArguments {
  std::string model, tokens;
  DeviceArguments device;
};

Result<std::vector<int32_t>> parse_tokens(const std::string& text, int64_t vocab_size) {
  std::vector<int32_t> tokens;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    int32_t token = -1;
    const auto [stop, error] = std::from_chars(text.data() + at, text.data() + end, token);
    if (error != std::errc() || stop != text.data() + end || token < 0 || token >= vocab_size)
      return invalid(fmt::format("[--tokens] \"{}\"; needed ids from 0 to {}, with commas between",
                                 text.substr(at, end - at), vocab_size - 1));
    tokens.push_back(token);
    at = end + 1;
  }
  return tokens;
}

// One token after the other, in fp32: what comparisons with other programs want.
Status eval_logits(const LogitsArguments& arguments) {
  ASSIGN_OR_RETURN(const auto device, open_device(arguments.device));
  ASSIGN_OR_RETURN(const LoadedNetwork network, load_network(all_files(), *device, arguments.model));
  ASSIGN_OR_RETURN(const auto tokens, parse_tokens(arguments.tokens, network.config.vocab_size));
  ASSIGN_OR_RETURN(const auto session,
                   DecodeSession::create(*device, network.parameters, network.config,
                                         {.context = static_cast<int64_t>(tokens.size()), .stored = network.stored}));
  for (const int32_t token : tokens) {
    RETURN_IF_ERROR(session->feed(std::vector<std::vector<int32_t>>{{token}}));
    std::string line;
    for (const float logit : session->logits(0)) line += fmt::format("{}{}", line.empty() ? "[" : ", ", logit);
    RETURN_IF_ERROR(print(line + "]\n"));
  }
  return ok_status();
}

void add_logits_command(Command eval) {
  auto arguments = std::make_shared<LogitsArguments>();
  Command logits =
      eval.add_command("logits", "Logits behind each token of a sequence of ids, in fp32: a JSON list a line");
  logits.option("model", arguments->model, "directory of a run, of a checkpoint, or of an import", {.required = true});
  logits.option("--tokens", arguments->tokens, "ids, with commas between: 1,15043,3186", {.required = true});
  add_device_options(logits, arguments->device);
  logits.run([arguments] { return eval_logits(*arguments); });
}

}  // namespace

void add_eval_command(Command root) {
  auto arguments = std::make_shared<LossArguments>();
  Command eval = root.add_command("eval", "Measure a trained model");
  add_logits_command(eval);
  Command loss = eval.add_command("loss", "Loss on held-out text, beside xz -9 on the same bytes");
  loss.option("model", arguments->model, "directory of a run, or of a checkpoint", {.required = true});
  loss.option("--data", arguments->data, "directory of token shards", {.required = true});
  loss.option("--split", arguments->split, "of the shards", {.choices = {kTrainSplit, kValidationSplit}});
  loss.option("--tokens", arguments->tokens, "the first so many tokens; 0: all", {.min = 0});
  add_device_options(loss, arguments->device);
  loss.flag("--json", arguments->json, "one JSON object");
  loss.flag("--no-xz", arguments->no_xz, "without xz, which is slow on much text");
  loss.run([arguments] { return eval_loss(*arguments); });
}

}  // namespace colossus
