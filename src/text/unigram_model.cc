#include "text/unigram_model.h"

#include <algorithm>
#include <cmath>

#include "text/utf8.h"

namespace colossus {

UnigramModel::UnigramModel(const std::vector<std::string>& tokens, const std::vector<double>& scores,
                           double unknown_score, bool single_precision)
    : scores_(scores), unknown_score_(unknown_score), single_precision_(single_precision) {
  for (size_t id = 0; id < scores.size(); ++id) {
    if (!std::isnan(scores[id]) && !tokens[id].empty()) trie_.insert(tokens[id], static_cast<int32_t>(id));
  }
}

void UnigramModel::encode(std::string_view text, std::vector<Piece>& out) const {
  single_precision_ ? best_path<float>(text, out) : best_path<double>(text, out);
}

template <class Sum>
void UnigramModel::best_path(std::string_view text, std::vector<Piece>& out) const {
  // The best way to each place: its last piece and where that begins.
  struct Arrival {
    Sum score = 0;
    int32_t id = -1;
    uint32_t num_bytes = 0;  // 0: not reached
  };
  std::vector<Arrival> arrivals(text.size() + 1);
  for (size_t at = 0; at < text.size();) {
    const size_t character = decode_utf8(text.substr(at)).num_bytes;
    const Sum before = arrivals[at].score;
    bool has_character = false;
    const auto arrive = [&](size_t length, int32_t id, auto score) {
      Arrival& arrival = arrivals[at + length];
      if (arrival.num_bytes != 0 && !(score > arrival.score)) return;
      arrival = {static_cast<Sum>(score), id, static_cast<uint32_t>(length)};
    };
    trie_.for_each_prefix(text, at, [&](size_t length, int32_t id) {
      arrive(length, id, scores_[static_cast<size_t>(id)] + static_cast<double>(before));
      has_character = has_character || length == character;
    });
    if (!has_character) arrive(character, -1, static_cast<Sum>(static_cast<Sum>(unknown_score_) + before));
    at += character;
  }
  const size_t first = out.size();
  for (size_t at = text.size(); at > 0; at -= arrivals[at].num_bytes) {
    out.push_back({arrivals[at].id, arrivals[at].num_bytes});
  }
  std::reverse(out.begin() + static_cast<std::ptrdiff_t>(first), out.end());
}

}  // namespace colossus
