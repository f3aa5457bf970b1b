#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "convert/llama2c.h"
#include "text/gguf_vocabulary.h"
#include "text/piece_vocabulary.h"

namespace colossus {
namespace {

constexpr int64_t kMaxBytes = 256 << 20;
constexpr std::string_view kBlank = "\xE2\x96\x81";  // SentencePiece's sign for a blank
// A piece is a word. Each place to cut it is looked at: the time is the square of its length.
constexpr int32_t kMaxPieceBytes = 4096;
constexpr int kUnknown = 0, kBegin = 1, kEnd = 2;

struct RawPiece {
  std::string text;
  float score = 0;
};

// vocab_size < 0: as many as there are.
Result<std::vector<RawPiece>> read_pieces(std::string_view bytes, int64_t vocab_size) {
  size_t at = 4;  // the length of the longest piece comes first
  std::vector<RawPiece> pieces;
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
  GgufVocabulary vocabulary{.model = "llama", .bos_id = kBegin, .eos_id = kEnd, .unknown_id = kUnknown};
  for (const RawPiece& piece : *pieces) {
    vocabulary.types.push_back(static_cast<int32_t>(is_byte_piece(piece.text) ? PieceType::kByte : PieceType::kNormal));
    vocabulary.tokens.push_back(with_blanks(piece.text));
    vocabulary.scores.push_back(piece.score);
  }
  // In the file the second and third stand between line breaks, to look well when printed.
  const std::pair<const char*, PieceType> first[] = {
      {"<unk>", PieceType::kUnknown}, {"<s>", PieceType::kControl}, {"</s>", PieceType::kControl}};
  for (const int id : {kUnknown, kBegin, kEnd}) {
    vocabulary.tokens[id] = first[id].first;
    vocabulary.types[id] = static_cast<int32_t>(first[id].second);
  }
  const auto tokenizer = tokenizer_from_gguf(vocabulary);
  if (!tokenizer.ok()) return tokenizer.status().at(path);
  return tokenizer->to_json();
}

}  // namespace colossus
