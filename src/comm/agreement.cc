#include "comm/agreement.h"

#include <fmt/format.h>

#include <span>
#include <string_view>

#include "comm/texts.h"

namespace colossus {
namespace {

constexpr size_t kMaxMessageBytes = 4096;

// "" for ok; else a byte for the code, and the message.
std::string text_of(const Status& status) {
  if (status.ok()) return "";
  return static_cast<char>(status.code()) + status.message().substr(0, kMaxMessageBytes);
}

Status status_of(size_t rank, const std::string& text) {
  const char code = text.front();
  if (code < 0 || code > static_cast<char>(ErrorCode::kInterrupted))
    return invalid(fmt::format("rank {} says what is no error; is it the same program?", rank));
  return {static_cast<ErrorCode>(code), fmt::format("rank {}: {}", rank, text.substr(1))};
}

}  // namespace

int rank_of(const Communicator* ranks) { return ranks == nullptr ? 0 : ranks->rank(); }
int num_ranks_of(const Communicator* ranks) { return ranks == nullptr ? 1 : ranks->size(); }

Status agree(Communicator* ranks, const Status& mine) {
  if (num_ranks_of(ranks) == 1) return mine;
  constexpr int64_t kMaxBytes = 1 + kMaxMessageBytes;
  ASSIGN_OR_RETURN(const auto texts, share_texts(*ranks, text_of(mine), kMaxBytes * ranks->size()));
  for (size_t rank = 0; rank < texts.size(); ++rank)
    if (!texts[rank].empty()) return status_of(rank, texts[rank]);
  return ok_status();
}

Result<std::vector<std::string>> gather_texts(Communicator* ranks, const Result<std::string>& mine, int64_t max_bytes) {
  RETURN_IF_ERROR(agree(ranks, mine.status()));
  const auto own_bytes = static_cast<int64_t>(mine->size());
  std::vector<int64_t> sizes = {own_bytes};
  if (num_ranks_of(ranks) > 1) {
    ASSIGN_OR_RETURN(sizes, share_values(*ranks, own_bytes));
  }
  // Looked at by all: exchange_texts() would refuse on rank 0 alone, and the others would wait for it.
  int64_t left = max_bytes;
  for (const int64_t bytes : sizes)
    if (bytes < 0 || (left -= bytes) < 0)
      return exhausted(fmt::format("the ranks' texts have more than {} bytes together", max_bytes));
  if (sizes.size() == 1) return std::vector{*mine};
  std::vector<std::string> to_ranks(sizes.size());
  to_ranks.front() = *mine;
  ASSIGN_OR_RETURN(auto texts, exchange_texts(*ranks, to_ranks, max_bytes));
  if (ranks->rank() != 0) texts.clear();
  return texts;
}

Result<std::vector<std::string>> lines_of_first(Communicator* ranks, const Result<std::vector<std::string>>& mine) {
  if (num_ranks_of(ranks) == 1) return mine;
  const bool is_first = ranks->rank() == 0;
  RETURN_IF_ERROR(agree(ranks, is_first ? mine.status() : ok_status()));
  std::string text;
  if (is_first)
    for (const std::string& line : *mine) text += line + "\n";
  ASSIGN_OR_RETURN(const auto texts, share_texts(*ranks, text));
  std::vector<std::string> lines;
  for (std::string_view rest = texts.front(); !rest.empty(); rest.remove_prefix(lines.back().size() + 1))
    lines.emplace_back(rest.substr(0, rest.find('\n')));
  return lines;
}

}  // namespace colossus
