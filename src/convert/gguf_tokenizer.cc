#include "convert/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/gguf_vocabulary.h"
#include "text/piece_vocabulary.h"

namespace colossus {
namespace {

constexpr int64_t kMaxTokens = 1 << 20, kMaxMerges = 1 << 21, kMaxCharsmapBytes = 16 << 20;

// The values under one key, where there are any.
class Reader {
 public:
  explicit Reader(const GgufFile& file) : file_(file) {}

  const GgufValue* find(const std::string& key) const {
    const auto found = file_.metadata().find(key);
    return found == file_.metadata().end() ? nullptr : &found->second;
  }
  std::string text(const std::string& key) const {
    const GgufValue* value = find(key);
    return value && value->text() ? *value->text() : "";
  }
  std::optional<bool> flag(const std::string& key) const {
    const GgufValue* value = find(key);
    return value ? value->flag() : std::nullopt;
  }
  // `read`: what of the file makes a list of the array.
  template <class List>
  Status list(const std::string& key, Result<List> (GgufFile::*read)(const GgufArray&, int64_t) const, int64_t most,
              List& into) const {
    const GgufValue* value = find(key);
    if (!value) return ok_status();
    if (!value->array()) return invalid(fmt::format("{} is a {}; needed an array", key, gguf_type_name(value->type)));
    auto list = (file_.*read)(*value->array(), most);
    if (!list.ok()) return Status(list.status().code(), fmt::format("{}: {}", key, list.status().message()));
    into = *std::move(list);
    return ok_status();
  }
  // The number of a token, held to the vocabulary.
  Result<std::optional<int32_t>> id(const std::string& key, size_t num_tokens) const {
    const GgufValue* value = find(key);
    if (!value) return std::optional<int32_t>();
    const auto whole = value->whole();
    if (!whole || *whole < 0 || static_cast<uint64_t>(*whole) >= num_tokens)
      return invalid(fmt::format("{} is {}; the vocabulary has {} tokens", key,
                                 whole ? std::to_string(*whole) : gguf_type_name(value->type), num_tokens));
    return std::optional(static_cast<int32_t>(*whole));
  }

 private:
  const GgufFile& file_;
};

Result<GgufVocabulary> read_vocabulary(const Reader& reader, int64_t vocab_size) {
  GgufVocabulary v{.model = reader.text("tokenizer.ggml.model"), .pre = reader.text("tokenizer.ggml.pre")};
  RETURN_IF_ERROR(reader.list("tokenizer.ggml.tokens", &GgufFile::texts, kMaxTokens, v.tokens));
  if (static_cast<int64_t>(v.tokens.size()) > vocab_size)
    return invalid(fmt::format("tokenizer.ggml.tokens has {} tokens, and the model's embedding {} rows",
                               v.tokens.size(), vocab_size));
  RETURN_IF_ERROR(reader.list("tokenizer.ggml.scores", &GgufFile::floats, kMaxTokens, v.scores));
  RETURN_IF_ERROR(reader.list("tokenizer.ggml.token_type", &GgufFile::wholes, kMaxTokens, v.types));
  RETURN_IF_ERROR(reader.list("tokenizer.ggml.merges", &GgufFile::texts, kMaxMerges, v.merges));
  RETURN_IF_ERROR(
      reader.list("tokenizer.ggml.precompiled_charsmap", &GgufFile::bytes, kMaxCharsmapBytes, v.precompiled_charsmap));
  ASSIGN_OR_RETURN(v.bos_id, reader.id("tokenizer.ggml.bos_token_id", v.tokens.size()));
  ASSIGN_OR_RETURN(v.eos_id, reader.id("tokenizer.ggml.eos_token_id", v.tokens.size()));
  ASSIGN_OR_RETURN(v.unknown_id, reader.id("tokenizer.ggml.unknown_token_id", v.tokens.size()));
  v.add_bos = reader.flag("tokenizer.ggml.add_bos_token");
  v.add_eos = reader.flag("tokenizer.ggml.add_eos_token");
  v.add_space_prefix = reader.flag("tokenizer.ggml.add_space_prefix");
  v.remove_extra_whitespaces = reader.flag("tokenizer.ggml.remove_extra_whitespaces");
  // Fillers: no text becomes them. Merging pieces know no unused ones; as control tokens they do no harm.
  if (v.model == "llama")
    for (int32_t& type : v.types)
      if (type == static_cast<int32_t>(PieceType::kUnused)) type = static_cast<int32_t>(PieceType::kControl);
  return v;
}

}  // namespace

Result<GgufTokenizer> read_gguf_tokenizer(const GgufFile& file, int64_t vocab_size) {
  const Reader reader(file);
  GgufTokenizer out;
  ASSIGN_OR_RETURN(const GgufVocabulary vocabulary, read_vocabulary(reader, vocab_size));
  if (vocabulary.tokens.empty()) {
    out.notes.emplace_back("there is no tokenizer in the file; the model runs on token ids only");
    return out;
  }
  if (vocabulary.bos_id) out.begin_ids.push_back(*vocabulary.bos_id);
  for (const char* key : {"eos", "eot", "eom"}) {
    ASSIGN_OR_RETURN(const auto id,
                     reader.id(fmt::format("tokenizer.ggml.{}_token_id", key), vocabulary.tokens.size()));
    if (id && std::ranges::find(out.end_ids, *id) == out.end_ids.end()) out.end_ids.push_back(*id);
  }
  out.chat_template = reader.text("tokenizer.chat_template");
  const auto tokenizer = tokenizer_from_gguf(vocabulary);
  if (tokenizer.ok()) {
    out.json = tokenizer->to_json();
    out.adds_begin = !tokenizer->spec().prefix.empty();
  } else {
    out.notes.push_back(fmt::format("its tokenizer cannot be used here, and the model runs on token ids only: {}",
                                    tokenizer.status().message()));
  }
  return out;
}

}  // namespace colossus
