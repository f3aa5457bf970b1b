// tokenizer.json, read: byte-pair encoding, of bytes or of characters, and unigram models, with the steps around them
// (tokenizer_json_steps.cc). Whatever else a file holds is refused by name, since to ignore it would be to encode
// wrongly in silence.
#include "text/tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>

#include "base/base64.h"
#include "text/byte_alphabet.h"
#include "text/sentencepiece.h"
#include "text/tokenizer.h"

namespace colossus {

namespace {

Result<std::vector<AddedToken>> read_added_tokens(const Json& json, int32_t id_limit, bool has_normalizer) {
  std::vector<AddedToken> added;
  if (json.is_null()) return added;
  if (!json.is_array()) return wanted_json("$.added_tokens", json, "an array");
  for (size_t i = 0; i < json.size(); ++i) {
    const std::string path = fmt::format("$.added_tokens[{}]", i);
    const Json& token = json[i];
    RETURN_IF_ERROR(
        only_keys(token, path, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}));
    AddedToken read;
    ASSIGN_OR_RETURN(read.text, read_string(token, path, "content"));
    if (read.text.empty()) return invalid(path + ".content is empty; a token needs text");
    ASSIGN_OR_RETURN(read.special, read_bool(token, path, "special", false));
    ASSIGN_OR_RETURN(read.single_word, read_bool(token, path, "single_word", false));
    ASSIGN_OR_RETURN(read.lstrip, read_bool(token, path, "lstrip", false));
    ASSIGN_OR_RETURN(read.rstrip, read_bool(token, path, "rstrip", false));
    ASSIGN_OR_RETURN(read.normalized, read_bool(token, path, "normalized", !read.special));
    read.normalized = read.normalized && has_normalizer;  // without one it is all the same
    ASSIGN_OR_RETURN(read.id, read_id(field_or_null(token, "id"), path + ".id", id_limit));
    added.push_back(std::move(read));
  }
  return added;
}

Status check_bpe_options(const Json& model) {
  RETURN_IF_ERROR(only_keys(model, "$.model",
                            {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                             "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges", "merge_ranks"}));
  RETURN_IF_ERROR(must_be_neutral(model, "$.model", "dropout", 0.0));
  RETURN_IF_ERROR(must_be_neutral(model, "$.model", "continuing_subword_prefix", ""));
  return must_be_neutral(model, "$.model", "end_of_word_suffix", "");
}

// Puts `bytes` under `id`, which must be free.
Status place_token(TokenizerSpec& spec, int32_t id, std::string bytes, std::string_view name, const std::string& path) {
  if (static_cast<size_t>(id) >= spec.tokens.size()) spec.tokens.resize(id + 1);
  std::string& token = spec.tokens[id];
  if (!token.empty()) {
    std::string other;
    append_byte_alphabet(other, token);
    return invalid(
        fmt::format("{}: the id {} of '{}' is taken by '{}'; every token needs its own", path, id, name, other));
  }
  token = std::move(bytes);
  return ok_status();
}

using AddedIds = std::unordered_map<std::string_view, int32_t>;

Result<AddedIds> place_added(TokenizerSpec& spec) {
  AddedIds added;
  for (const AddedToken& token : spec.added) {
    if (!added.emplace(token.text, token.id).second) {
      return invalid(fmt::format("$.added_tokens: '{}' is added twice", token.text));
    }
    RETURN_IF_ERROR(place_token(spec, token.id, token.text, token.text, "$.added_tokens"));
  }
  return added;
}

// Whether the vocabulary's token is an added one, which has its place already.
Result<bool> check_added(const AddedIds& added, std::string_view name, int32_t id, const std::string& path) {
  const auto found = added.find(name);
  if (found == added.end()) return false;
  if (found->second == id) return true;
  return invalid(fmt::format("{} is {}, but $.added_tokens gives it {}", path, id, found->second));
}

Status read_vocab(const Json& vocab, int32_t id_limit, TokenizerSpec& spec) {
  const std::string path = "$.model.vocab";
  ASSIGN_OR_RETURN(const auto added, place_added(spec));
  for (const auto& [name, value] : vocab.items()) {
    ASSIGN_OR_RETURN(const int32_t id, read_id(value, fmt::format("{}[\"{}\"]", path, name), id_limit));
    ASSIGN_OR_RETURN(const bool is_added, check_added(added, name, id, fmt::format("{}[\"{}\"]", path, name)));
    if (is_added) continue;
    if (name.empty()) return invalid(path + " holds the empty token, which no text can produce");
    std::optional<std::string> bytes = name;
    if (spec.alphabet == Alphabet::kBytes) bytes = bytes_of_alphabet(name);
    if (!bytes) {
      return invalid(
          fmt::format("{}[\"{}\"] has characters outside of the byte alphabet; an ordinary token spells bytes, "
                      "a special one must stand in $.added_tokens too",
                      path, name));
    }
    RETURN_IF_ERROR(place_token(spec, id, std::move(*bytes), name, path));
  }
  return ok_status();
}

// A merge is "left right" or ["left", "right"].
Status read_merges(const Json& json, const Json& vocab, TokenizerSpec& spec) {
  if (!json.is_array()) return wanted_json("$.model.merges", json, "an array (empty where nothing merges)");
  spec.merges.reserve(json.size());
  std::unordered_map<std::string_view, int32_t> ids;
  ids.reserve(vocab.size());
  for (const auto& [name, id] : vocab.items()) ids.emplace(name, id.get<int32_t>());  // read_vocab has checked it
  for (size_t i = 0; i < json.size(); ++i) {
    const Json& merge = json[i];
    std::array<std::string_view, 2> names;
    if (merge.is_string()) {
      const std::string_view text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
        return wanted_json(fmt::format("$.model.merges[{}]", i), merge, "two tokens and a space between");
      }
      names = {text.substr(0, space), text.substr(space + 1)};
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      names = {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()};
    } else {
      return wanted_json(fmt::format("$.model.merges[{}]", i), merge, "two tokens, as one string or an array");
    }
    std::array<int32_t, 2> pair;
    for (const size_t side : {0, 1}) {
      const auto found = ids.find(names[side]);
      if (found == ids.end()) {
        return invalid(fmt::format("$.model.merges[{}] is {} and names '{}', which is not in $.model.vocab", i,
                                   brief_json(merge), names[side]));
      }
      pair[side] = found->second;
    }
    spec.merges.emplace_back(pair[0], pair[1]);
  }
  return ok_status();
}

// Ours alone: ranks that several merges share.
Status read_merge_ranks(const Json& json, TokenizerSpec& spec) {
  if (json.is_null()) return ok_status();
  if (!json.is_array() || json.size() != spec.merges.size()) {
    return wanted_json("$.model.merge_ranks", json, "null or a rank for each merge");
  }
  for (size_t i = 0; i < json.size(); ++i) {
    ASSIGN_OR_RETURN(const int32_t rank, read_id(json[i], fmt::format("$.model.merge_ranks[{}]", i), 1 << 30));
    spec.merge_ranks.push_back(static_cast<uint32_t>(rank));
  }
  return ok_status();
}

// Gaps between ids are real (cl100k has some), but memory must not follow one number in a file.
int32_t id_limit_of(const Json& vocab, const Json& added) {
  return static_cast<int32_t>(std::min<size_t>(2 * (vocab.size() + added.size()) + 1024, 1 << 30));
}

Status read_bpe(const Json& model, const Json& added, TokenizerSpec& spec) {
  RETURN_IF_ERROR(check_bpe_options(model));
  const Json& vocab = field_or_null(model, "vocab");
  if (!vocab.is_object() || vocab.empty()) {
    return wanted_json("$.model.vocab", vocab, "an object of tokens and their ids");
  }
  ASSIGN_OR_RETURN(spec.ignore_merges, read_bool(model, "$.model", "ignore_merges", false));
  ASSIGN_OR_RETURN(spec.byte_fallback, read_bool(model, "$.model", "byte_fallback", false));
  ASSIGN_OR_RETURN(spec.fuse_unknown, read_bool(model, "$.model", "fuse_unk", false));
  const int32_t id_limit = id_limit_of(vocab, added);
  ASSIGN_OR_RETURN(spec.added, read_added_tokens(added, id_limit, !spec.normalizer.empty()));
  RETURN_IF_ERROR(read_vocab(vocab, id_limit, spec));
  if (const Json& unknown = field_or_null(model, "unk_token"); !unknown.is_null()) {
    if (!unknown.is_string() || !vocab.contains(unknown.get_ref<const std::string&>())) {
      return wanted_json("$.model.unk_token", unknown, "null or a token of $.model.vocab");
    }
    spec.unknown = vocab[unknown.get_ref<const std::string&>()].get<int32_t>();  // read_vocab has checked it
  }
  // Means nothing unless there is something to fuse; what is written again must not depend on it.
  spec.fuse_unknown = spec.fuse_unknown && spec.unknown.has_value();
  RETURN_IF_ERROR(read_merges(field_or_null(model, "merges"), vocab, spec));
  return read_merge_ranks(field_or_null(model, "merge_ranks"), spec);
}

// The vocabulary is a list of [token, score]; a token's place is its id.
Status read_unigram(const Json& model, const Json& added, TokenizerSpec& spec) {
  constexpr double kUnknownPenalty = 10;  // the library's
  RETURN_IF_ERROR(only_keys(model, "$.model", {"type", "unk_id", "vocab", "byte_fallback"}));
  const Json& vocab = field_or_null(model, "vocab");
  if (!vocab.is_array() || vocab.empty()) {
    return wanted_json("$.model.vocab", vocab, "an array of tokens and their scores");
  }
  if (spec.alphabet == Alphabet::kBytes) {
    return invalid("$.pre_tokenizer makes bytes of the text, which $.model.type \"Unigram\" does not take");
  }
  ASSIGN_OR_RETURN(spec.byte_fallback, read_bool(model, "$.model", "byte_fallback", false));
  ASSIGN_OR_RETURN(spec.added, read_added_tokens(added, id_limit_of(vocab, added), !spec.normalizer.empty()));
  ASSIGN_OR_RETURN(const AddedIds ids, place_added(spec));
  UnigramScores unigram;
  double least = 0;
  for (size_t i = 0; i < vocab.size(); ++i) {
    const Json& entry = vocab[i];
    const std::string path = fmt::format("$.model.vocab[{}]", i);
    const bool sound = entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_number() &&
                       std::isfinite(entry[1].get<double>());
    if (!sound) return wanted_json(path, entry, "[token, score]");
    const std::string& name = entry[0].get_ref<const std::string&>();
    const int32_t id = static_cast<int32_t>(i);
    if (name.empty()) return invalid(path + " is the empty token, which no text can produce");
    ASSIGN_OR_RETURN(const bool is_added, check_added(ids, name, id, path));
    if (!is_added) RETURN_IF_ERROR(place_token(spec, id, name, name, path));
    unigram.scores.push_back(entry[1].get<double>());
    least = i == 0 ? unigram.scores[i] : std::min(least, unigram.scores[i]);
  }
  unigram.unknown_score = least - kUnknownPenalty;
  spec.unigram = std::move(unigram);
  if (const Json& unknown = field_or_null(model, "unk_id"); !unknown.is_null()) {
    ASSIGN_OR_RETURN(spec.unknown, read_id(unknown, "$.model.unk_id", static_cast<int32_t>(vocab.size())));
  }
  return ok_status();
}

}  // namespace

namespace {

// A SentencePiece model, whole, as this program writes it; only begin and end tokens are beside it.
Result<TokenizerSpec> read_sentencepiece_model(const Json& json) {
  const Json& model = json["model"];
  RETURN_IF_ERROR(only_keys(model, "$.model", {"type", "file"}));
  for (const char* key : {"normalizer", "pre_tokenizer", "decoder"}) {
    RETURN_IF_ERROR(must_be_neutral(json, "$", key, nullptr));
  }
  RETURN_IF_ERROR(must_be_neutral(json, "$", "added_tokens", Json::array()));
  ASSIGN_OR_RETURN(const std::string file, read_string(model, "$.model", "file"));
  const auto bytes = decode_base64(file);
  if (!bytes) return invalid("$.model.file is not base64");
  auto spec = spec_from_sentencepiece(*bytes);
  if (!spec.ok()) return invalid(fmt::format("$.model.file: {}", spec.status().message()));
  RETURN_IF_ERROR(read_post_processor(field_or_null(json, "post_processor"), "$.post_processor", *spec));
  return spec;
}

}  // namespace

Result<Tokenizer> Tokenizer::from_json(std::string_view text) {
  ASSIGN_OR_RETURN(const Json json, parse_json_object(text));
  RETURN_IF_ERROR(only_keys(json, "$",
                            {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                             "post_processor", "decoder", "model"}));
  for (const char* key : {"truncation", "padding"}) RETURN_IF_ERROR(must_be_neutral(json, "$", key, nullptr));
  for (const char* key : {"pre_tokenizer", "decoder", "model"}) {
    if (!json.contains(key)) return invalid(fmt::format("$.{} is missing; is this a tokenizer.json?", key));
  }
  const Json& model = json["model"];
  if (!model.is_object()) return wanted_json("$.model", model, "an object");
  // Files of before 2021 name no type.
  const Json type = model.value("type", Json("BPE"));
  if (type == "SentencePiece") {
    ASSIGN_OR_RETURN(TokenizerSpec whole, read_sentencepiece_model(json));
    return Tokenizer::create(std::move(whole));
  }
  if (type != "BPE" && type != "Unigram") return wanted_json("$.model.type", type, "\"BPE\" or \"Unigram\"");

  TokenizerSpec spec;
  RETURN_IF_ERROR(read_normalizer(field_or_null(json, "normalizer"), "$.normalizer", spec));
  RETURN_IF_ERROR(read_pre_tokenizer(json["pre_tokenizer"], "$.pre_tokenizer", spec));
  RETURN_IF_ERROR(read_decoder(json["decoder"], "$.decoder", spec));
  RETURN_IF_ERROR(read_post_processor(field_or_null(json, "post_processor"), "$.post_processor", spec));
  const Json& added = field_or_null(json, "added_tokens");
  RETURN_IF_ERROR(type == "BPE" ? read_bpe(model, added, spec) : read_unigram(model, added, spec));
  return Tokenizer::create(std::move(spec));
}

}  // namespace colossus
