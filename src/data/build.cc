#include "data/build.h"

#include <fmt/format.h>

#include "data/split_writer.h"
#include "data/tokenize_crew.h"

namespace colossus {
namespace {

constexpr int64_t kBatchBytes = int64_t{512} << 10;

Status check_options(const BuildOptions& options) {
  if (options.out.empty()) return invalid("no directory for the shards is named (--out)");
  if (options.identity.vocab_size < 1 || options.identity.vocab_size > INT32_MAX) {
    return invalid(fmt::format("a vocabulary of {} tokens is not possible", options.identity.vocab_size));
  }
  for (const auto& token : {options.bos_token, options.eos_token}) {
    if (token && (*token < 0 || *token >= options.identity.vocab_size)) {
      return invalid(fmt::format("the token {} around documents is outside of the vocabulary of {}", *token,
                                 options.identity.vocab_size));
    }
  }
  const double fraction = options.validation_fraction.value_or(0);
  if (!(fraction >= 0 && fraction < 1)) {
    return invalid(fmt::format("--validation-fraction {} should be at least 0 and below 1", fraction));
  }
  if (options.shard_tokens < 1 || options.shard_tokens > kMaxShardTokens / 4) {
    return invalid(
        fmt::format("shards of {} tokens: should be from 1 to {}", options.shard_tokens, kMaxShardTokens / 4));
  }
  return ok_status();
}

class Builder {
 public:
  Builder(FileSystem& files, const BuildOptions& options, const TokenizeFunction& tokenize,
          FunctionRef<bool(const BuildProgress&)> progress)
      : files_(files),
        options_(options),
        tokenize_(tokenize),
        progress_(progress),
        train_(files, options.out, kTrainSplit, options.identity, options.shard_tokens),
        validation_(files, options.out, kValidationSplit, options.identity, options.shard_tokens) {}

  Result<BuildReport> build() {
    ASSIGN_OR_RETURN(SplitRule rule, SplitRule::choose(files_, options_, progress_));
    ASSIGN_OR_RETURN(DocumentReader reader, DocumentReader::open(files_, options_.inputs, options_.source));
    RETURN_IF_ERROR(tokenize_all(reader, rule));
    RETURN_IF_ERROR(train_.finish());
    RETURN_IF_ERROR(validation_.finish());
    if (train_.shards().empty()) {
      return invalid(fmt::format("the inputs hold no text: {} files, {} of them binary, {} documents empty",
                                 reader.counts().num_files, reader.counts().num_binary_files,
                                 reader.counts().num_empty));
    }
    BuildReport report = {.index = {.identity = options_.identity,
                                    .bos_token = options_.bos_token,
                                    .eos_token = options_.eos_token,
                                    .split_rule = rule.describe(),
                                    .train = train_.shards(),
                                    .validation = validation_.shards()},
                          .counts = reader.counts(),
                          .note = {}};
    if (report.index.validation.empty() && options_.validation_fraction != 0.0) {
      report.note = "no text was held out for validation: there is too little of it, or the fraction is too small";
    }
    RETURN_IF_ERROR(files_.sync_directory(options_.out));
    RETURN_IF_ERROR(write_shard_index(files_, options_.out, report.index));
    return report;
  }

 private:
  Status tokenize_all(DocumentReader& reader, SplitRule& rule) {
    TokenizeCrew crew(options_.num_threads, tokenize_);
    // Two batches for each thread: one it works on, one that waits for it.
    const size_t max_waiting = 2 * static_cast<size_t>(std::max(options_.num_threads, 1));
    auto batch = std::make_unique<TokenBatch>();
    Document document;
    while (true) {
      ASSIGN_OR_RETURN(const bool more, reader.next(document));
      if (!more) break;
      batch->text_bytes += static_cast<int64_t>(document.text.size());
      RETURN_IF_ERROR(rule.split(std::move(document), batch->parts));
      if (batch->text_bytes < kBatchBytes) continue;
      crew.give(std::exchange(batch, std::make_unique<TokenBatch>()));
      if (crew.num_waiting() >= max_waiting) RETURN_IF_ERROR(write(*crew.take()));
      RETURN_IF_ERROR(report_progress(reader.counts()));
    }
    crew.give(std::move(batch));
    while (crew.num_waiting() > 0) {
      RETURN_IF_ERROR(write(*crew.take()));
      RETURN_IF_ERROR(report_progress(reader.counts()));
    }
    return ok_status();
  }

  Status report_progress(const SourceCounts& counts) {
    const bool go_on = progress_({.counting = false,
                                  .consumed_bytes = counts.consumed_bytes,
                                  .total_bytes = counts.total_bytes,
                                  .num_documents = counts.num_documents,
                                  .num_tokens = num_tokens_});
    return go_on ? ok_status() : interrupted("stopped; what the directory held before is still there");
  }

  Status write(const TokenBatch& batch) {
    RETURN_IF_ERROR(batch.status);
    size_t begin = 0;
    for (size_t i = 0; i < batch.parts.size(); ++i) {
      const SplitPart& part = batch.parts[i];
      SplitWriter& writer = part.validation ? validation_ : train_;
      const auto tokens = std::span(batch.tokens).subspan(begin, batch.part_ends[i] - begin);
      begin = batch.part_ends[i];
      const bool with_bos = part.starts_document && options_.bos_token.has_value();
      if (with_bos) RETURN_IF_ERROR(writer.append(std::span(&*options_.bos_token, 1), 0, false));
      const bool with_eos = part.ends_document && options_.eos_token.has_value();
      RETURN_IF_ERROR(writer.append(tokens, static_cast<int64_t>(part.text.size()), part.ends_part && !with_eos));
      if (with_eos) RETURN_IF_ERROR(writer.append(std::span(&*options_.eos_token, 1), 0, true));
      num_tokens_ += static_cast<int64_t>(tokens.size()) + (with_bos ? 1 : 0) + (with_eos ? 1 : 0);
    }
    return ok_status();
  }

  FileSystem& files_;
  const BuildOptions& options_;
  const TokenizeFunction& tokenize_;
  const FunctionRef<bool(const BuildProgress&)> progress_;
  SplitWriter train_, validation_;
  int64_t num_tokens_ = 0;
};

}  // namespace

Result<BuildReport> build_shards(FileSystem& files, const BuildOptions& options, const TokenizeFunction& tokenize,
                                 FunctionRef<bool(const BuildProgress&)> progress) {
  RETURN_IF_ERROR(check_options(options));
  RETURN_IF_ERROR(files.make_directories(options.out));
  auto report = Builder(files, options, tokenize, progress).build();
  // After success: the shards of the build before. After an error: those of this one.
  remove_unlisted_shards(files, options.out);
  return report;
}

}  // namespace colossus
