#include "cli/data_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <memory>

#include "base/clock.h"
#include "base/platform.h"
#include "cli/exit_code.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "data/build.h"
#include "data/tokenizer_identity.h"

namespace colossus {
namespace {

struct BuildArguments {
  std::vector<std::string> inputs;
  std::string tokenizer;
  std::string out;
  double validation_fraction = -1;  // not given
  std::string json_field = "text";
  bool dedupe = false;
  int num_threads = 0;
  int64_t shard_tokens = int64_t{128} << 20;
};

// The two passes over the text, each with its own line.
class BuildDisplay {
 public:
  void show(const BuildProgress& at) {
    if (!display_ || at.counting != counting_) {
      display_.reset();
      ProgressOptions options;
      options.label = at.counting ? "count" : "tokenize";
      options.unit = "bytes";
      options.total = static_cast<double>(at.total_bytes);
      display_ = std::make_unique<Progress>(std::move(options));
      counting_ = at.counting;
    }
    const std::vector<ProgressField> fields = {{"tokens", format_quantity(static_cast<double>(at.num_tokens))},
                                               {"documents", format_quantity(static_cast<double>(at.num_documents))}};
    display_->update(static_cast<double>(at.consumed_bytes), fields);
  }
  // Before results are printed: both may go to one terminal.
  void finish() { display_.reset(); }

 private:
  std::unique_ptr<Progress> display_;
  bool counting_ = false;
};

std::string describe_split(const ShardIndex& index, const char* name) {
  const ShardCounts counts = index.totals(name);
  if (counts.num_tokens == 0) return fmt::format("{:<12}none\n", name);
  return fmt::format(
      "{:<12}{} tokens, {} documents, {} of text, {:.2f} bytes per token, {} shards\n", name, counts.num_tokens,
      counts.num_documents, format_quantity(static_cast<double>(counts.num_source_bytes), "bytes"),
      static_cast<double>(counts.num_source_bytes) / static_cast<double>(counts.num_tokens), index.split(name).size());
}

Status say_built(const BuildArguments& arguments, const BuildReport& built, double seconds) {
  const SourceCounts& counts = built.counts;
  if (counts.num_binary_files > 0) {
    fmt::print(stderr, "colossus: {} files are no text and were left out:\n", counts.num_binary_files);
    for (const std::string& path : counts.binary_files) fmt::print(stderr, "  {}\n", path);
    const auto unnamed = counts.num_binary_files - static_cast<int64_t>(counts.binary_files.size());
    if (unnamed > 0) fmt::print(stderr, "  and {} more\n", unnamed);
  }
  if (!built.note.empty()) fmt::print(stderr, "colossus: {}\n", built.note);
  return print(
      fmt::format("{}{}{}: {} files, {} documents ({} duplicates and {} empty ones left out) in {:.1f} s; {}\n",
                  describe_split(built.index, kTrainSplit), describe_split(built.index, kValidationSplit),
                  arguments.out, counts.num_files, counts.num_documents, counts.num_duplicates, counts.num_empty,
                  seconds, built.index.split_rule));
}

Status build(const BuildArguments& arguments) {
  const double start_seconds = monotonic_seconds();
  ASSIGN_OR_RETURN(const Tokenizer tokenizer, load_tokenizer(local_files(), arguments.tokenizer));
  const InterruptScope interrupt("stopping; the shards that were there before stay");
  BuildOptions options;
  options.inputs = arguments.inputs;
  options.out = arguments.out;
  options.source.json_field = arguments.json_field;
  options.source.dedupe = arguments.dedupe;
  options.identity = shard_identity(tokenizer);
  options.bos_token = document_bos_token(tokenizer);
  options.eos_token = document_eos_token(tokenizer);
  if (arguments.validation_fraction >= 0) options.validation_fraction = arguments.validation_fraction;
  options.num_threads = arguments.num_threads > 0 ? arguments.num_threads : num_usable_cores();
  options.shard_tokens = arguments.shard_tokens;
  BuildDisplay display;
  const auto progress = [&](const BuildProgress& at) {
    display.show(at);
    return !interrupt.requested();
  };
  const TokenizeFunction tokenize = [&](std::string_view text, std::vector<int32_t>& tokens) {
    return tokenizer.encode(text, tokens);
  };
  ASSIGN_OR_RETURN(const BuildReport built, build_shards(local_files(), options, tokenize, progress));
  // Training, and whoever is given the shards, finds the tokenizer beside them. `train` compares its hash with the
  // index, so a crash between the two files is noticed.
  RETURN_IF_ERROR(save_tokenizer(local_files(), arguments.out + "/tokenizer.json", tokenizer));
  display.finish();
  return say_built(arguments, built, monotonic_seconds() - start_seconds);
}

struct InspectArguments {
  std::string directory;
  std::string tokenizer;
  int64_t sample_tokens = 64;
};

// The first tokens of a split: as text where the tokenizer is given, else as numbers.
Result<std::string> sample_of(const ShardSet& set, const InspectArguments& arguments, const Tokenizer* tokenizer) {
  std::vector<int32_t> tokens(static_cast<size_t>(std::min(arguments.sample_tokens, set.num_tokens())));
  RETURN_IF_ERROR(set.read_tokens(0, tokens));
  if (tokenizer != nullptr) return tokenizer->decode(tokens) + "\n";
  return fmt::format("{}\n", fmt::join(tokens, " "));
}

Status verify(const ShardSet& set, const char* split, const InterruptScope& interrupt) {
  ProgressOptions options;
  options.label = fmt::format("verify {}", split);
  options.unit = "tokens";
  options.total = static_cast<double>(set.num_tokens());
  Progress display(std::move(options));
  double done = 0;
  for (const Shard& shard : set.shards()) {
    if (interrupt.requested()) return interrupted("stopped");
    RETURN_IF_ERROR(shard.verify());
    done += static_cast<double>(shard.counts().num_tokens);
    display.update(done);
  }
  return ok_status();
}

Status inspect(const InspectArguments& arguments) {
  const InterruptScope interrupt("stopping");
  std::optional<Tokenizer> tokenizer;
  if (!arguments.tokenizer.empty()) {
    ASSIGN_OR_RETURN(tokenizer, load_tokenizer(local_files(), arguments.tokenizer));
  }
  ASSIGN_OR_RETURN(const ShardIndex index, read_shard_index(local_files(), arguments.directory));
  if (tokenizer && shard_identity(*tokenizer) != index.identity) {
    return invalid(
        fmt::format("{} is not the tokenizer that {} was built with", arguments.tokenizer, arguments.directory));
  }
  const auto token = [](const std::optional<int32_t>& id) { return id ? std::to_string(*id) : "none"; };
  std::string out =
      fmt::format("vocabulary  {} tokens of {} bytes, tokenizer {:016x}, begin {}, end {}\nheld out    {}\n",
                  index.identity.vocab_size, index.identity.token_bytes(), index.identity.tokenizer_hash,
                  token(index.bos_token), token(index.eos_token), index.split_rule);
  for (const char* split : {kTrainSplit, kValidationSplit}) {
    ASSIGN_OR_RETURN(const ShardSet set, ShardSet::open(local_files(), arguments.directory, split));
    RETURN_IF_ERROR(verify(set, split, interrupt));
    ASSIGN_OR_RETURN(const std::string sample, sample_of(set, arguments, tokenizer ? &*tokenizer : nullptr));
    out += describe_split(index, split);
    for (const ShardListing& shard : index.split(split))
      out += fmt::format("  {}  {} tokens\n", shard.file, shard.counts.num_tokens);
    if (set.num_tokens() > 0) out += "  begins: " + sample;
  }
  return print(out + "all checksums hold\n");
}

void add_build(Command parent) {
  const auto arguments = std::make_shared<BuildArguments>();
  Command command = parent.add_command("build", "Text to token shards");
  command.option("inputs", arguments->inputs,
                 "Files, directories, patterns ('text/**/*.txt'): text, .jsonl, manual pages; each also .gz or .zst",
                 {.required = true});
  command.option("--tokenizer", arguments->tokenizer, "A tokenizer.json", {.required = true});
  command.option("--out", arguments->out,
                 "The directory of shards; a build that is there stays until the new one is whole", {.required = true});
  command.option(
      "--validation-fraction", arguments->validation_fraction,
      "Share held out: of 1000 documents or more whole ones (default 0.02), of fewer the end of each (default 0.1)",
      {.min = 0.0, .max = 0.99, .show_default = false});
  command.option("--field", arguments->json_field, "The field of JSON lines that holds the text");
  command.flag("--dedupe", arguments->dedupe, "Leave out documents whose text came before");
  command.option("--threads", arguments->num_threads, "Threads; 0: all cores. The result does not depend on it",
                 {.min = 0, .max = 1024});
  command.option("--shard-tokens", arguments->shard_tokens, "Tokens after which a shard is closed",
                 {.min = 1, .max = kMaxShardTokens / 4});
  command.run([arguments] { return build(*arguments); });
}

}  // namespace

void add_data_command(Command root) {
  Command command = root.add_command("data", "Build token shards from text, and look at them");
  add_build(command);
  const auto arguments = std::make_shared<InspectArguments>();
  Command look = command.add_command("inspect", "Verify all checksums; counts and a sample");
  look.option("directory", arguments->directory, "A directory of shards", {.required = true});
  look.option("--tokenizer", arguments->tokenizer, "Shows the sample as text");
  look.option("--sample", arguments->sample_tokens, "Tokens to show of each split", {.min = 1, .max = 100000});
  look.run([arguments] { return inspect(*arguments); });
}

}  // namespace colossus
