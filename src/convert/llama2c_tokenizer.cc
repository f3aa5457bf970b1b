#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "convert/llama2c.h"

namespace colossus {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxBytes = 256 << 20;
constexpr std::string_view kBlank = "\xE2\x96\x81";  // SentencePiece's sign for a blank
// A piece is a word. Each place to cut it is looked at: the time is the square of its length.
constexpr int32_t kMaxPieceBytes = 4096;
constexpr int kUnknown = 0, kBegin = 1, kEnd = 2;

struct ScoredPiece {
  std::string text;
  float score = 0;
};

// vocab_size < 0: as many as there are.
Result<std::vector<ScoredPiece>> read_pieces(std::string_view bytes, int64_t vocab_size) {
  size_t at = 4;  // the length of the longest piece comes first
  std::vector<ScoredPiece> pieces;
  while (vocab_size < 0 ? at < bytes.size() : static_cast<int64_t>(pieces.size()) < vocab_size) {
    float score = 0;
    int32_t length = 0;
    if (bytes.size() < at + 8)
      return corrupt(fmt::format("ends within piece {}; the model has {}: it is another model's, or was cut",
                                 pieces.size(), vocab_size));
    std::memcpy(&score, bytes.data() + at, 4);
    std::memcpy(&length, bytes.data() + at + 4, 4);
    at += 8;
    if (length < 0 || length > kMaxPieceBytes || static_cast<size_t>(length) > bytes.size() - at ||
        !std::isfinite(score))
      return corrupt(fmt::format("piece {} would be {} bytes long with the score {}; {} bytes are left", pieces.size(),
                                 length, score, bytes.size() - at));
    pieces.push_back({std::string(bytes.substr(at, static_cast<size_t>(length))), score});
    at += static_cast<size_t>(length);
  }
  if (at != bytes.size())
    return invalid(
        fmt::format("{} bytes follow the last of {} pieces; it is another model's", bytes.size() - at, vocab_size));
  return pieces;
}

std::string with_blanks(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == ' ')
      out += kBlank;
    else
      out += c;
  }
  return out;
}

bool is_byte_piece(const std::string& text) {
  return text.size() == 6 && text.starts_with("<0x") && text.ends_with('>');
}

// Every way to make a piece of two; of higher scores first. SentencePiece joins, of all neighbours, those whose piece
// has the highest score: so a piece's score is its merges' rank.
Json merges_of(const std::vector<ScoredPiece>& pieces, const std::vector<std::string>& names) {
  std::map<std::string, size_t> ids;
  for (size_t id = 0; id < names.size(); ++id) ids.emplace(names[id], id);
  struct Merge {
    float score;
    size_t whole, left, right;
  };
  std::vector<Merge> merges;
  for (size_t id = 3; id < names.size(); ++id) {
    if (is_byte_piece(names[id])) continue;
    for (size_t cut = 1; cut < names[id].size(); ++cut) {
      if ((static_cast<uint8_t>(names[id][cut]) & 0xC0) == 0x80) continue;  // within a character
      const auto left = ids.find(names[id].substr(0, cut)), right = ids.find(names[id].substr(cut));
      if (left != ids.end() && right != ids.end())
        merges.push_back({pieces[id].score, id, left->second, right->second});
    }
  }
  std::ranges::stable_sort(merges, [](const Merge& a, const Merge& b) {
    return a.score != b.score ? a.score > b.score
                              : std::tie(a.whole, a.left, a.right) < std::tie(b.whole, b.left, b.right);
  });
  Json list = Json::array();
  for (const Merge& merge : merges) list.push_back({names[merge.left], names[merge.right]});
  return list;
}

Json added_token(int id, const std::string& text) {
  return {{"id", id},        {"content", text},     {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

}  // namespace

Result<int64_t> count_llama2c_pieces(FileSystem& files, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string bytes, read_file(files, path, kMaxBytes));
  const auto pieces = read_pieces(bytes, -1);
  if (!pieces.ok()) return pieces.status().at(path);
  return static_cast<int64_t>(pieces->size());
}

Result<std::string> llama2c_tokenizer_json(FileSystem& files, const std::string& path, int64_t vocab_size) {
  ASSIGN_OR_RETURN(const std::string bytes, read_file(files, path, kMaxBytes));
  auto pieces = read_pieces(bytes, vocab_size);
  if (!pieces.ok()) return pieces.status().at(path);
  if (pieces->size() < 3) return invalid(fmt::format("[{}] has {} pieces; needed at least 3", path, pieces->size()));
  std::vector<std::string> names;
  for (const ScoredPiece& piece : *pieces) names.push_back(with_blanks(piece.text));
  names[kUnknown] = "<unk>";
  names[kBegin] = "<s>";  // in the file between line breaks, to look well when printed
  names[kEnd] = "</s>";
  Json vocab = Json::object();
  std::set<std::string_view> seen;
  for (size_t id = 0; id < names.size(); ++id) {
    if (!seen.insert(names[id]).second)
      return invalid(fmt::format("[{}] the piece \"{}\" is there twice", path, names[id]));
    // push_back: the ordered object would look through all names for each new one.
    vocab.get_ref<Json::object_t&>().push_back({names[id], id});
  }
  const Json blank_for_space = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kBlank}};
  const Json space_for_blank = {{"type", "Replace"}, {"pattern", {{"String", kBlank}}}, {"content", " "}};
  const Json begin = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const Json json = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", {added_token(kUnknown, "<unk>"), added_token(kBegin, "<s>"), added_token(kEnd, "</s>")}},
      {"normalizer",
       {{"type", "Sequence"}, {"normalizers", {{{"type", "Prepend"}, {"prepend", kBlank}}, blank_for_space}}}},
      {"pre_tokenizer", nullptr},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single", {begin, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
        {"pair", {begin, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "B"}, {"type_id", 1}}}}}},
        {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {kBegin}}, {"tokens", {"<s>"}}}}}}}},
      {"decoder",
       {{"type", "Sequence"},
        {"decoders",
         {space_for_blank,
          {{"type", "ByteFallback"}},
          {{"type", "Fuse"}},
          {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", "<unk>"},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", true},
        {"byte_fallback", true},
        {"ignore_merges", false},
        {"vocab", vocab},
        {"merges", merges_of(*pieces, names)}}}};
  try {
    return json.dump();
  } catch (const nlohmann::json::exception&) {
    return invalid(fmt::format("[{}] a piece is not valid UTF-8", path));
  }
}

}  // namespace colossus
