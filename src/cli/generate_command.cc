#include "cli/generate_command.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "cli/exit_code.h"
#include "cli/interrupt.h"
#include "cli/model_arguments.h"
#include "infer/generate.h"

namespace colossus {
namespace {

struct GenerateArguments {
  ModelArguments model;
  std::vector<std::string> prompts;
  std::string prompts_file;
  int64_t max_tokens = 256;
  std::vector<std::string> stop;
  bool json = false;
  bool show_speed = false;
};

Result<std::vector<std::string>> collect_prompts(const GenerateArguments& arguments) {
  std::vector<std::string> prompts = arguments.prompts;
  if (!arguments.prompts_file.empty()) {
    ASSIGN_OR_RETURN(const std::string text, read_file(local_files(), arguments.prompts_file));
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size());
      if (end > at) prompts.push_back(text.substr(at, end - at));
      at = end + 1;
    }
  }
  return prompts;
}

void print_json(const std::vector<std::string>& prompts, const std::vector<Generation>& generations) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    const nlohmann::json line = {{"prompt", prompts[i]},
                                 {"text", generations[i].text},
                                 {"tokens", generations[i].tokens},
                                 {"end", end_reason_name(generations[i].reason)}};
    std::printf("%s\n", line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  }
}

Status run_generate(const GenerateArguments& arguments) {
  ASSIGN_OR_RETURN(auto prompts, collect_prompts(arguments));
  const bool asked = !prompts.empty();
  if (!asked) prompts.emplace_back();
  ASSIGN_OR_RETURN(OpenModel open, open_model(arguments.model, static_cast<int64_t>(prompts.size())));
  // A text from its beginning; a model that knows none begins with a line.
  if (!asked && open.model.bounds.begin.empty()) prompts.front() = "\n";
  std::vector<std::vector<int32_t>> ids;
  for (const std::string& prompt : prompts) {
    auto encoded = encode_prompt(open.model.tokenizer, open.model.bounds, prompt);
    if (!encoded.ok()) return encoded.status().at("prompt \"" + prompt + "\"");
    ids.push_back(std::move(*encoded));
  }
  const GenerateOptions options{.sampler = arguments.model.sampler,
                                .max_tokens = arguments.max_tokens,
                                .stop_ids = open.model.bounds.end,
                                .stop_strings = arguments.stop};
  const InterruptScope interrupt("");
  const bool streams = prompts.size() == 1 && !arguments.json;
  if (streams) std::fputs(prompts.front().c_str(), stdout);
  const double start = monotonic_seconds();
  ASSIGN_OR_RETURN(const auto generations, generate(
                                               *open.session, open.model.tokenizer, ids, options,
                                               [&](int64_t, std::string_view text) {
                                                 if (!streams) return;
                                                 std::fwrite(text.data(), 1, text.size(), stdout);
                                                 std::fflush(stdout);
                                               },
                                               &interrupt.requested()));
  const double seconds = monotonic_seconds() - start;
  if (streams)
    std::fputs("\n", stdout);
  else if (arguments.json)
    print_json(prompts, generations);
  else
    for (size_t i = 0; i < prompts.size(); ++i)
      std::printf("%s%s%s\n", i ? "\n---\n" : "", prompts[i].c_str(), generations[i].text.c_str());
  if (arguments.show_speed) {
    size_t num_tokens = 0;
    for (const Generation& generation : generations) num_tokens += generation.tokens.size();
    std::fprintf(stderr, "%zu tokens in %.2f s, prompt included: %.1f tokens/s\n", num_tokens, seconds,
                 static_cast<double>(num_tokens) / seconds);
  }
  return interrupt.requested().load() ? interrupted("stopped") : ok_status();
}

}  // namespace

void add_generate_command(Command root) {
  auto arguments = std::make_shared<GenerateArguments>();
  Command command = root.add_command("generate", "Continue prompts with a trained model");
  add_model_options(command, arguments->model);
  command.option("--prompt", arguments->prompts, "text to continue; repeatable: prompts are computed together");
  command.option("--prompts-file", arguments->prompts_file, "one prompt a line");
  command.option("--max-tokens", arguments->max_tokens, "longest continuation, in tokens", {.min = 1});
  command.option("--stop", arguments->stop, "text that ends a continuation; repeatable");
  command.flag("--json", arguments->json, "one JSON object a prompt");
  command.flag("--speed", arguments->show_speed, "print tokens per second at the end");
  command.run([arguments] { return run_generate(*arguments); });
}

}  // namespace colossus
