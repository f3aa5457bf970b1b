#include "checkpoint/rank_exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <span>

namespace colossus {
namespace {

constexpr int64_t kOk = -1;
constexpr int64_t kMaxMessageBytes = 4096;

// What a rank says first: how it went, and how many bytes of text or message follow.
struct Word {
  int64_t code = kOk;
  int64_t num_bytes = 0;
};

Result<std::vector<Word>> exchange_words(Communicator& ranks, const Word& mine) {
  std::vector<Word> words(static_cast<size_t>(ranks.size()));
  RETURN_IF_ERROR(ranks.all_gather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(words))));
  for (size_t rank = 0; rank < words.size(); ++rank) {
    const auto [code, num_bytes] = words[rank];
    if (code < kOk || code > static_cast<int64_t>(ErrorCode::kInterrupted) || num_bytes < 0 ||
        (code != kOk && num_bytes > kMaxMessageBytes))
      return invalid(fmt::format("rank {} says {} and {} bytes; is it the same program?", rank, code, num_bytes));
  }
  return words;
}

// The error of the lowest rank that has one: it tells the others what it is.
Status first_error(Communicator& ranks, const std::vector<Word>& words, const Status& mine) {
  const auto failed = std::find_if(words.begin(), words.end(), [](const Word& word) { return word.code != kOk; });
  if (failed == words.end()) return ok_status();
  const auto rank = static_cast<int>(failed - words.begin());
  std::string message(static_cast<size_t>(failed->num_bytes), '\0');
  if (rank == ranks.rank()) message = mine.message().substr(0, message.size());
  RETURN_IF_ERROR(ranks.broadcast(std::as_writable_bytes(std::span(message)), rank));
  return {static_cast<ErrorCode>(failed->code), fmt::format("rank {}: {}", rank, message)};
}

Word word_of(const Status& status, size_t text_bytes) {
  if (status.ok()) return {.num_bytes = static_cast<int64_t>(text_bytes)};
  return {.code = static_cast<int64_t>(status.code()),
          .num_bytes = std::min(static_cast<int64_t>(status.message().size()), kMaxMessageBytes)};
}

}  // namespace

int rank_of(const Communicator* ranks) { return ranks == nullptr ? 0 : ranks->rank(); }
int num_ranks_of(const Communicator* ranks) { return ranks == nullptr ? 1 : ranks->size(); }

Status agree(Communicator* ranks, const Status& mine) {
  if (num_ranks_of(ranks) == 1) return mine;
  ASSIGN_OR_RETURN(const std::vector<Word> words, exchange_words(*ranks, word_of(mine, 0)));
  return first_error(*ranks, words, mine);
}

Result<std::vector<std::string>> gather_texts(Communicator* ranks, const Result<std::string>& mine, int64_t max_bytes) {
  if (num_ranks_of(ranks) == 1) {
    RETURN_IF_ERROR(mine);
    if (static_cast<int64_t>(mine->size()) > max_bytes)
      return exhausted(fmt::format("{} bytes of text; the limit is {}", mine->size(), max_bytes));
    return std::vector<std::string>{*mine};
  }
  ASSIGN_OR_RETURN(const std::vector<Word> words,
                   exchange_words(*ranks, word_of(mine.status(), mine.ok() ? mine->size() : 0)));
  RETURN_IF_ERROR(first_error(*ranks, words, mine.status()));
  int64_t sum_bytes = 0;
  for (const Word& word : words)
    if (__builtin_add_overflow(sum_bytes, word.num_bytes, &sum_bytes) || sum_bytes > max_bytes)
      return exhausted(fmt::format("the ranks' texts have more than {} bytes together", max_bytes));

  std::vector<std::string> texts(ranks->rank() == 0 ? words.size() : 0);
  std::vector<std::span<const std::byte>> send(words.size());
  std::vector<std::span<std::byte>> receive(words.size());
  if (ranks->rank() != 0) send[0] = std::as_bytes(std::span(*mine));
  for (size_t rank = 1; rank < texts.size(); ++rank) {
    texts[rank].resize(static_cast<size_t>(words[rank].num_bytes));
    receive[rank] = std::as_writable_bytes(std::span(texts[rank]));
  }
  RETURN_IF_ERROR(ranks->all_to_all(send, receive));
  if (!texts.empty()) texts[0] = *mine;
  return texts;
}

}  // namespace colossus
