// `colossus tokenizer convert`, `colossus tokenizer evaluate`.
#include "cli/tokenizer_convert_command.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "cli/terminal.h"
#include "cli/text_table.h"
#include "io/file_system.h"
#include "text/tiktoken.h"
#include "text/tokenizer_convert.h"

namespace colossus {

namespace {

constexpr int64_t kMaxTextBytes = int64_t{1} << 30;

struct ConvertArguments {
  std::string from;
  std::string to;
  std::string as = "auto";
  bool exact = false;
};

Status convert(const ConvertArguments& arguments) {
  ASSIGN_OR_RETURN(const Tokenizer tokenizer, load_tokenizer(local_files(), arguments.from));
  const bool ranks = arguments.as == "tiktoken" || (arguments.as == "auto" && arguments.to.ends_with(".tiktoken"));
  if (ranks) {
    auto text = tiktoken_ranks(tokenizer);
    if (!text.ok()) return text.status().at(arguments.from);
    RETURN_IF_ERROR(write_file_atomically(local_files(), arguments.to, *text));
  } else if (arguments.exact) {
    RETURN_IF_ERROR(save_tokenizer(local_files(), arguments.to, tokenizer));
  } else {
    auto portable = portable_json(tokenizer);
    if (!portable.ok()) return portable.status().at(arguments.from);
    RETURN_IF_ERROR(write_file_atomically(local_files(), arguments.to, portable->json));
    for (const std::string& difference : portable->differences) {
      fmt::print(stderr, "colossus: not quite the same: {}\n", difference);
    }
  }
  return print(fmt::format("{}: {} tokens\n", arguments.to, tokenizer.vocab_size()));
}

struct EvaluateArguments {
  std::string tokenizer;
  std::vector<std::string> texts;
  std::vector<std::string> beside;
  bool csv = false;
};

struct Counts {
  size_t num_bytes = 0;
  size_t num_tokens = 0;
};

std::string bytes_per_token(const Counts& counts) {
  return counts.num_tokens == 0
             ? "-"
             : fmt::format("{:.3f}", static_cast<double>(counts.num_bytes) / static_cast<double>(counts.num_tokens));
}

Status evaluate(const EvaluateArguments& arguments) {
  std::vector<std::string> paths = {arguments.tokenizer};
  paths.insert(paths.end(), arguments.beside.begin(), arguments.beside.end());
  std::vector<Tokenizer> tokenizers;
  TextTable table{.header = {"text", "bytes"}};
  for (const std::string& path : paths) {
    ASSIGN_OR_RETURN(Tokenizer tokenizer, load_tokenizer(local_files(), path));
    table.header.push_back(path);
    tokenizers.push_back(std::move(tokenizer));
  }
  std::vector<Counts> totals(tokenizers.size());
  std::vector<int32_t> ids;
  for (const std::string& name : arguments.texts) {
    ASSIGN_OR_RETURN(const std::string text, read_file(local_files(), name, kMaxTextBytes));
    std::vector<std::string> row = {name, std::to_string(text.size())};
    for (size_t i = 0; i < tokenizers.size(); ++i) {
      ids.clear();
      const Status status = tokenizers[i].encode(text, ids);
      if (!status.ok()) return status.at(fmt::format("{}, {}", paths[i], name));
      row.push_back(bytes_per_token({text.size(), ids.size()}));
      totals[i].num_bytes += text.size();
      totals[i].num_tokens += ids.size();
    }
    table.rows.push_back(std::move(row));
  }
  std::vector<std::string> row = {"all", std::to_string(totals[0].num_bytes)};
  for (const Counts& counts : totals) row.push_back(bytes_per_token(counts));
  table.rows.push_back(std::move(row));
  if (arguments.csv) return write_csv(table, "");
  return print("bytes per token\n" + aligned_text(table));
}

}  // namespace

void add_tokenizer_convert(Command parent) {
  const auto arguments = std::make_shared<ConvertArguments>();
  Command command = parent.add_command("convert", "Another program's tokenizer as a tokenizer.json, or as ranks");
  command.option("from", arguments->from, "A tokenizer.json, a SentencePiece .model, tiktoken ranks",
                 {.required = true});
  command.option("to", arguments->to, "The file to write", {.required = true});
  command.option("--as", arguments->as, "What to write; auto: tiktoken for a name in .tiktoken, else json",
                 {.choices = {"auto", "json", "tiktoken"}});
  command.flag("--exact", arguments->exact,
               "A SentencePiece model as it is, inside of the json: only Colossus reads it");
  command.run([arguments] { return convert(*arguments); });
}

void add_tokenizer_evaluate(Command parent) {
  const auto arguments = std::make_shared<EvaluateArguments>();
  Command command = parent.add_command("evaluate", "Bytes per token on texts, beside other tokenizers");
  command.option("tokenizer", arguments->tokenizer, "A tokenizer's file, of any kind that is read", {.required = true});
  command.option("texts", arguments->texts, "Files of text, such as one per language", {.required = true});
  command.option("--beside", arguments->beside, "Another tokenizer's file (may be given again)");
  command.flag("--csv", arguments->csv, "As CSV");
  command.run([arguments] { return evaluate(*arguments); });
}

}  // namespace colossus
