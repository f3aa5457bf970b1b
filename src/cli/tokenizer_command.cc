#include "cli/tokenizer_command.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/clock.h"
#include "cli/exit_code.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "cli/tokenizer_convert_command.h"
#include "data/document_reader.h"
#include "text/bpe_trainer.h"
#include "text/chat.h"
#include "text/utf8.h"

namespace colossus {

namespace {

// Encoding this much takes about two seconds on one core; shards are the place for more.
constexpr int64_t kMaxInputBytes = int64_t{64} << 20;

// The file, or for "-" the standard input.
Result<std::string> read_input(const std::string& path) {
  if (path != "-") return read_file(local_files(), path, kMaxInputBytes);
  std::string text;
  std::string buffer(1 << 16, '\0');
  while (const size_t size = std::fread(buffer.data(), 1, buffer.size(), stdin)) {
    text.append(buffer, 0, size);
    if (static_cast<int64_t>(text.size()) > kMaxInputBytes) {
      return exhausted(fmt::format("the standard input is above {} MiB; `colossus data build` takes any amount of text",
                                   kMaxInputBytes >> 20));
    }
  }
  if (std::ferror(stdin)) return unavailable("cannot read the standard input");
  return text;
}

std::string place_of(const std::string& input) { return input == "-" ? "standard input" : input; }

// Bytes for a person: quoted, what is not printable as an escape.
std::string readable(std::string_view bytes) {
  std::string out = "'";
  while (!bytes.empty()) {
    const Utf8Char c = decode_utf8(bytes);
    const std::string_view part = bytes.substr(0, c.num_bytes);
    const bool control = c.code_point < 0x20 || (c.code_point >= 0x7F && c.code_point < 0xA0);
    if (c.code_point == '\n') {
      out += "\\n";
    } else if (c.code_point == kInvalidCodePoint || control) {
      for (const char byte : part) out += fmt::format("\\x{:02x}", static_cast<uint8_t>(byte));
    } else {
      out += part;
    }
    bytes.remove_prefix(c.num_bytes);
  }
  return out + "'";
}

struct TrainArguments {
  std::vector<std::string> inputs;
  std::string out;
  std::string kind = "bpe";
  int vocab_size = 32768;
  std::string pattern = "cl100k";
  std::vector<std::string> special_tokens;
  bool plain = false;
  int num_threads = 0;
  int64_t memory_mib = 768;
  std::string json_field = "text";
};

// Shows what training tells of itself: bytes of the files while reading, then merges.
class TrainingDisplay {
 public:
  void show(const TrainProgress& progress, const SourceCounts& counts) {
    const bool reading = progress.phase == TrainProgress::Phase::kReading;
    if (!display_ || reading != reading_) {
      ProgressOptions options;
      options.label = reading ? "read" : "merge";
      options.unit = reading ? "bytes" : "merges";
      options.total = static_cast<double>(reading ? counts.total_bytes : progress.total);
      display_.reset();  // the old line ends before the new one begins
      display_ = std::make_unique<Progress>(std::move(options));
      reading_ = reading;
    }
    display_->update(static_cast<double>(reading ? counts.consumed_bytes : progress.done));
  }
  // Before results are printed: both may go to one terminal.
  void finish() { display_.reset(); }

 private:
  std::unique_ptr<Progress> display_;
  bool reading_ = true;
};

Status say_trained(const TrainArguments& arguments, const TrainedTokenizer& trained, double seconds) {
  const int vocab_size = trained.tokenizer.vocab_size();
  if (arguments.kind == "bpe" && vocab_size < arguments.vocab_size) {
    fmt::print(stderr, "colossus: the text holds pairs for {} tokens only, of the {} asked for; more text gives more\n",
               vocab_size, arguments.vocab_size);
  }
  if (trained.forgotten_up_to > 0) {
    fmt::print(stderr, "colossus: pieces seen {} times or less were dropped to stay within --memory {}\n",
               trained.forgotten_up_to, arguments.memory_mib);
  }
  return print(fmt::format("{}: {} tokens from {:.2f} MB of text, {} different {}, in {:.1f} s\n", arguments.out,
                           vocab_size, static_cast<double>(trained.num_bytes) / 1e6, trained.num_distinct_pieces,
                           arguments.kind == "bpe" ? "pieces" : "characters", seconds));
}

Status train(const TrainArguments& arguments) {
  const double start_seconds = monotonic_seconds();
  const InterruptScope interrupt("stopping; nothing was written yet");
  ASSIGN_OR_RETURN(DocumentReader reader,
                   DocumentReader::open(local_files(), arguments.inputs, {.json_field = arguments.json_field}));
  const auto documents = [&](DocumentSink sink) -> Status {
    Document document;
    while (true) {
      ASSIGN_OR_RETURN(const bool more, reader.next(document));
      if (!more) return ok_status();
      if (interrupt.requested()) return interrupted("tokenizer training was stopped; nothing was written");
      const Status status = sink(document.text);
      if (!status.ok()) return status.at(document.place);
    }
  };
  TrainingDisplay display;
  const auto progress = [&](const TrainProgress& at) { display.show(at, reader.counts()); };

  // A tokenizer that a model is to chat with needs the markers from the start: ids cannot be added to a trained model.
  std::vector<std::string> special_tokens;
  if (!arguments.plain && arguments.kind == "bpe") special_tokens = chat_special_tokens();
  special_tokens.insert(special_tokens.end(), arguments.special_tokens.begin(), arguments.special_tokens.end());
  const BpeTrainOptions options{.vocab_size = arguments.vocab_size,
                                .pattern = *split_pattern_named(arguments.pattern),
                                .special_tokens = special_tokens,
                                .num_threads = arguments.num_threads,
                                .max_memory_bytes = arguments.memory_mib << 20};
  ASSIGN_OR_RETURN(const TrainedTokenizer trained, arguments.kind == "char"
                                                       ? train_characters(special_tokens, documents, progress)
                                                       : train_bpe(options, documents, progress));
  if (interrupt.requested()) return interrupted("tokenizer training was stopped; nothing was written");
  RETURN_IF_ERROR(save_tokenizer(local_files(), arguments.out, trained.tokenizer));
  display.finish();
  return say_trained(arguments, trained, monotonic_seconds() - start_seconds);
}

struct EncodeArguments {
  std::string tokenizer;
  std::string input = "-";
  bool allow_special = false;
  bool add_special = false;
  bool pieces = false;
  bool count = false;
  bool json_lines = false;
};

// One value for each line of the input, which are JSON; JSON in turn, one line each.
Status for_each_json_line(const std::string& input, std::string_view text,
                          FunctionRef<Result<std::string>(const nlohmann::json& value)> answer) {
  std::string out;
  int64_t number = 0;
  while (!text.empty()) {
    ++number;
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.empty()) continue;
    const nlohmann::json value = nlohmann::json::parse(line, nullptr, false);
    const auto answered = answer(value);
    if (!answered.ok()) return answered.status().at(fmt::format("{}:{}", place_of(input), number));
    out += *answered;
    out += '\n';
  }
  return print(out);
}

Status encode_json_lines(const Tokenizer& tokenizer, const EncodeArguments& arguments, std::string_view text) {
  return for_each_json_line(arguments.input, text, [&](const nlohmann::json& value) -> Result<std::string> {
    if (!value.is_string()) return invalid("wanted a string in JSON");
    ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                     tokenizer.encode(value.get_ref<const std::string&>(), {.allow_special = arguments.allow_special,
                                                                            .add_special = arguments.add_special}));
    return fmt::format("[{}]", fmt::join(ids, ", "));
  });
}

Status encode(const EncodeArguments& arguments) {
  ASSIGN_OR_RETURN(const Tokenizer tokenizer, load_tokenizer(local_files(), arguments.tokenizer));
  ASSIGN_OR_RETURN(const std::string text, read_input(arguments.input));
  if (arguments.json_lines) return encode_json_lines(tokenizer, arguments, text);
  std::vector<int32_t> ids;
  const Status status =
      tokenizer.encode(text, ids, {.allow_special = arguments.allow_special, .add_special = arguments.add_special});
  if (!status.ok()) return status.at(place_of(arguments.input));
  if (arguments.count) {
    const double bytes_per_token = ids.empty() ? 0 : static_cast<double>(text.size()) / static_cast<double>(ids.size());
    return print(
        fmt::format("{} tokens, {} bytes, {:.3f} bytes per token\n", ids.size(), text.size(), bytes_per_token));
  }
  std::string out;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (arguments.pieces) {
      out += fmt::format("{}\t{}\n", ids[i], readable(tokenizer.token_bytes(ids[i])));
    } else {
      out += fmt::format("{}{}", ids[i], i + 1 == ids.size() ? "\n" : " ");
    }
  }
  return print(out);
}

struct DecodeArguments {
  std::string tokenizer;
  std::string input = "-";
  bool skip_special = false;
  bool json_lines = false;
};

// Whole numbers between white space, commas or brackets.
Result<std::vector<int32_t>> parse_ids(std::string_view text, const Tokenizer& tokenizer) {
  constexpr std::string_view kBetween = " \t\r\n,[]";
  std::vector<int32_t> ids;
  for (size_t at = text.find_first_not_of(kBetween); at != std::string_view::npos;
       at = text.find_first_not_of(kBetween, at)) {
    const std::string_view word = text.substr(at, text.find_first_of(kBetween, at) - at);
    int32_t id = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size() || id < 0 || id >= tokenizer.vocab_size()) {
      return invalid(fmt::format("id number {} is '{}'; this tokenizer's ids are 0 to {}", ids.size(),
                                 word.substr(0, 40), tokenizer.vocab_size() - 1));
    }
    ids.push_back(id);
    at += word.size();
  }
  return ids;
}

Status decode(const DecodeArguments& arguments) {
  ASSIGN_OR_RETURN(const Tokenizer tokenizer, load_tokenizer(local_files(), arguments.tokenizer));
  ASSIGN_OR_RETURN(const std::string text, read_input(arguments.input));
  const DetokenizeOptions options{.skip_special = arguments.skip_special};
  if (arguments.json_lines) {
    return for_each_json_line(arguments.input, text, [&](const nlohmann::json& value) -> Result<std::string> {
      ASSIGN_OR_RETURN(const std::vector<int32_t> ids, parse_ids(value.dump(), tokenizer));
      // What is no UTF-8 cannot stand in JSON: U+FFFD.
      return nlohmann::json(tokenizer.decode(ids, options))
          .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    });
  }
  const auto ids = parse_ids(text, tokenizer);
  if (!ids.ok()) return ids.status().at(place_of(arguments.input));
  return print(tokenizer.decode(*ids, options));
}

Status inspect(const std::string& path) {
  ASSIGN_OR_RETURN(const Tokenizer tokenizer, load_tokenizer(local_files(), path));
  const TokenizerSpec& spec = tokenizer.spec();
  const bool by_bytes = spec.alphabet == Alphabet::kBytes;
  std::vector<int32_t> longest;
  size_t num_tokens = 0;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (spec.tokens[id].empty()) continue;
    ++num_tokens;
    if (!tokenizer.is_special(id)) longest.push_back(id);
  }
  const size_t num_shown = std::min<size_t>(longest.size(), 5);
  std::partial_sort(longest.begin(), longest.begin() + num_shown, longest.end(), [&](int32_t a, int32_t b) {
    const size_t size_a = spec.tokens[a].size();
    const size_t size_b = spec.tokens[b].size();
    return size_a != size_b ? size_a > size_b : a < b;
  });
  const char* kind = spec.unigram          ? "unigram"
                     : by_bytes            ? "byte-level byte-pair encoding"
                     : spec.merges.empty() ? "one token per character"
                                           : "byte-pair encoding of characters";
  std::string out = fmt::format("kind        {}{}\n", kind, spec.sentencepiece.empty() ? "" : ", SentencePiece");
  if (!spec.normalizer.empty()) out += fmt::format("normalizer  {} steps\n", spec.normalizer.size());
  out += spec.pre_tokenizer.empty() ? fmt::format("split       {}\n", split_pattern_name(spec.pattern))
                                    : fmt::format("split       {} steps\n", spec.pre_tokenizer.size());
  out += fmt::format("vocabulary  {} ids, {} tokens, {} merges, {} added\n", tokenizer.vocab_size(), num_tokens,
                     spec.merges.size(), spec.added.size());
  for (const auto& [name, ids] : {std::pair("begins with", &spec.prefix), std::pair("ends with  ", &spec.suffix)}) {
    for (const int32_t id : *ids) out += fmt::format("{} {:>6}  {}\n", name, id, readable(spec.tokens[id]));
  }
  out += fmt::format("any bytes   {}\n", tokenizer.encodes_any_bytes() ? "yes" : "no: text with others is refused");
  out += fmt::format("chat        {}\n",
                     ChatFormat::create(tokenizer).ok() ? "yes" : "no: it lacks tokens of the chat format");
  for (const AddedToken& token : spec.added) {
    out += fmt::format("{}  {:>6}  {}\n", token.special ? "special   " : "added     ", token.id, readable(token.text));
  }
  for (size_t i = 0; i < num_shown; ++i) {
    const std::string& token = spec.tokens[longest[i]];
    out += fmt::format("longest     {:>6}  {} bytes  {}\n", longest[i], token.size(), readable(token.substr(0, 64)));
  }
  return print(out);
}

void add_train(Command parent) {
  const auto arguments = std::make_shared<TrainArguments>();
  Command command = parent.add_command("train", "Train a tokenizer on text");
  command.option("inputs", arguments->inputs, "Files, directories, patterns; plain, .jsonl, each also .gz or .zst",
                 {.required = true});
  command.option("--out", arguments->out, "The tokenizer.json to write", {.required = true});
  command.option("--vocab", arguments->vocab_size, "Size of the vocabulary: special tokens, 256 bytes, merges");
  command.option("--kind", arguments->kind, "bpe, or char: one token for each character of the text",
                 {.choices = {"bpe", "char"}});
  command.option("--split", arguments->pattern, "How text is cut before merging",
                 {.choices = {"cl100k", "o200k", "qwen2", "gpt2", "none"}});
  command.option("--special", arguments->special_tokens, "A special token (may be given again); after those for chat");
  command.flag("--no-chat", arguments->plain, "Leave out the special tokens of the chat format (char has none)");
  command.option("--threads", arguments->num_threads, "Threads; 0: all cores. The result does not depend on it",
                 {.min = 0, .max = 1024});
  command.option("--memory", arguments->memory_mib, "MiB for counting; beyond it the rarest pieces are dropped",
                 {.min = 16, .max = 1 << 24});
  command.option("--json-field", arguments->json_field, "The field of JSON lines that holds the text");
  command.run([arguments] { return train(*arguments); });
}

void add_encode(Command parent) {
  const auto arguments = std::make_shared<EncodeArguments>();
  Command command = parent.add_command("encode", "Text to token ids");
  command.option("tokenizer", arguments->tokenizer, "A tokenizer.json, a SentencePiece .model, tiktoken ranks",
                 {.required = true});
  command.option("input", arguments->input, "A file of text; -: standard input");
  command.flag("--allow-special", arguments->allow_special, "Special tokens in the text become their ids");
  command.flag("--add-special", arguments->add_special, "Put the begin and end tokens that the file asks for");
  command.flag("--pieces", arguments->pieces, "One line per token: its id and its bytes");
  command.flag("--count", arguments->count, "Only how many tokens, and bytes per token");
  command.flag("--json-lines", arguments->json_lines, "Each line is a string in JSON; a line of ids for each");
  command.run([arguments] { return encode(*arguments); });
}

void add_decode(Command parent) {
  const auto arguments = std::make_shared<DecodeArguments>();
  Command command = parent.add_command("decode", "Token ids to text");
  command.option("tokenizer", arguments->tokenizer, "A tokenizer.json, a SentencePiece .model, tiktoken ranks",
                 {.required = true});
  command.option("input", arguments->input, "A file of ids between spaces or commas; -: standard input");
  command.flag("--skip-special", arguments->skip_special, "Leave special tokens out of the text");
  command.flag("--json-lines", arguments->json_lines, "Each line is an array of ids; a string in JSON for each");
  command.run([arguments] { return decode(*arguments); });
}

}  // namespace

void add_tokenizer_command(Command root) {
  Command command = root.add_command("tokenizer", "Train, use and look at tokenizers");
  add_train(command);
  add_encode(command);
  add_decode(command);
  add_tokenizer_convert(command);
  add_tokenizer_evaluate(command);
  const auto path = std::make_shared<std::string>();
  Command look = command.add_command("inspect", "What a tokenizer's file holds");
  look.option("tokenizer", *path, "A tokenizer.json, a SentencePiece .model, tiktoken ranks", {.required = true});
  look.run([path] { return inspect(*path); });
}

}  // namespace colossus
