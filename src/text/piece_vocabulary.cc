#include "text/piece_vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "text/utf8.h"
#include "text/vocabulary.h"

namespace colossus {

namespace {

constexpr size_t kMaxMergedBytes = 256;  // each way to cut such a piece is looked at
constexpr double kUnknownPenalty = 10;   // SentencePiece's

Status fill_tokens(const std::vector<ScoredPiece>& pieces, TokenizerSpec& spec) {
  if (pieces.empty()) return invalid("there are no pieces");
  if (pieces.size() > (size_t{1} << 30)) return invalid(fmt::format("{} pieces are too many", pieces.size()));
  spec.alphabet = Alphabet::kCharacters;
  spec.pattern = SplitPattern::kNone;
  spec.tokens.reserve(pieces.size());
  spec.byte_fallback = false;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const ScoredPiece& piece = pieces[i];
    const int32_t id = static_cast<int32_t>(i);
    if (piece.text.empty()) return invalid(fmt::format("piece {} is empty", i));
    if (find_invalid_utf8(piece.text) != std::string_view::npos) {
      return invalid(fmt::format("piece {} is {}, not UTF-8", i, printable_bytes(piece.text)));
    }
    if (!std::isfinite(piece.score)) return invalid(fmt::format("piece {} has the score {}", i, piece.score));
    spec.tokens.push_back(piece.text);
    switch (piece.type) {
      case PieceType::kControl: spec.added.push_back({.id = id, .text = piece.text}); break;
      case PieceType::kUserDefined: spec.whole.push_back(id); break;
      case PieceType::kByte:
        if (!byte_of_fallback(piece.text)) {
          return invalid(fmt::format("piece {} is {}, but its type is byte", i, printable_bytes(piece.text)));
        }
        spec.byte_fallback = true;
        break;
      case PieceType::kUnknown:
        if (spec.unknown) return invalid(fmt::format("pieces {} and {} both are the unknown one", *spec.unknown, i));
        spec.unknown = id;
        break;
      default: break;
    }
  }
  spec.fuse_unknown = true;
  return ok_status();
}

}  // namespace

Status fill_from_merging_pieces(const std::vector<ScoredPiece>& pieces, TokenizerSpec& spec) {
  RETURN_IF_ERROR(fill_tokens(pieces, spec));
  std::unordered_map<std::string_view, int32_t> ids;
  std::vector<float> scores;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].type == PieceType::kUnused) {
      return invalid(fmt::format("piece {} is of the type \"unused\", which merging does not support", i));
    }
    if (pieces[i].type != PieceType::kNormal) continue;
    if (!ids.emplace(spec.tokens[i], static_cast<int32_t>(i)).second) {
      return invalid(fmt::format("piece {} is {}, which stands before", i, printable_bytes(spec.tokens[i])));
    }
    scores.push_back(pieces[i].score);
  }
  std::sort(scores.begin(), scores.end(), std::greater<>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());

  struct RankedMerge {
    uint32_t rank;
    int32_t left, right;
  };
  std::vector<RankedMerge> merges;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].type != PieceType::kNormal) continue;
    const std::string_view text = spec.tokens[i];
    if (text.size() > kMaxMergedBytes) {
      return invalid(fmt::format("piece {} has {} bytes; up to {} are supported", i, text.size(), kMaxMergedBytes));
    }
    const auto place = std::lower_bound(scores.begin(), scores.end(), pieces[i].score, std::greater<>());
    const uint32_t rank = static_cast<uint32_t>(place - scores.begin());
    const size_t first = decode_utf8(text).num_bytes;
    for (size_t at = first; at < text.size(); at += decode_utf8(text.substr(at)).num_bytes) {
      const auto left = ids.find(text.substr(0, at));
      const auto right = left == ids.end() ? ids.end() : ids.find(text.substr(at));
      if (right != ids.end()) merges.push_back({rank, left->second, right->second});
    }
    for (size_t at = 0, size; first < text.size() && at < text.size(); at += size) {
      size = decode_utf8(text.substr(at)).num_bytes;
      if (!ids.contains(text.substr(at, size))) {
        return invalid(fmt::format("piece {} is {}, but {} is no piece by itself, which merging needs", i,
                                   printable_bytes(text), printable_bytes(text.substr(at, size))));
      }
    }
  }
  std::stable_sort(merges.begin(), merges.end(),
                   [](const RankedMerge& a, const RankedMerge& b) { return a.rank < b.rank; });
  for (const RankedMerge& merge : merges) {
    spec.merges.emplace_back(merge.left, merge.right);
    spec.merge_ranks.push_back(merge.rank);
  }
  return ok_status();
}

Status fill_from_unigram_pieces(const std::vector<ScoredPiece>& pieces, TokenizerSpec& spec) {
  RETURN_IF_ERROR(fill_tokens(pieces, spec));
  float least = std::numeric_limits<float>::max();
  // SentencePiece begins with the least positive float, not the lowest: scores are logarithms, so it stays that.
  float greatest = std::numeric_limits<float>::min();
  for (const ScoredPiece& piece : pieces) {
    if (piece.type != PieceType::kNormal) continue;
    least = std::min(least, piece.score);
    greatest = std::max(greatest, piece.score);
  }
  UnigramScores unigram{.scores = std::vector<double>(pieces.size(), std::nan("")), .single_precision = true};
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].type == PieceType::kNormal) unigram.scores[i] = pieces[i].score;
    // So good that nothing beats it.
    const float length = static_cast<float>(pieces[i].text.size());
    if (pieces[i].type == PieceType::kUserDefined) unigram.scores[i] = static_cast<double>(length * greatest) - 0.1;
  }
  unigram.unknown_score = static_cast<float>(static_cast<double>(least) - kUnknownPenalty);
  spec.unigram = std::move(unigram);
  spec.whole.clear();  // scores see to it
  return ok_status();
}

}  // namespace colossus
