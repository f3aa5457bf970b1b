// How ranks go on together or not at all.
#pragma once

#include <string>
#include <type_traits>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "comm/communicator.h"

namespace colossus {

// All of these are collective. `ranks` null, or a group of one: what this rank has is all there is.
//
// An error of the group itself (a peer that died, or did not come in time) can differ from rank to rank.

// 0 for none.
int rank_of(const Communicator* ranks);
int num_ranks_of(const Communicator* ranks);

// Everybody's value, by rank, on all ranks.
template <class T>
Result<std::vector<T>> share_values(Communicator& ranks, const T& mine) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<T> all(static_cast<size_t>(ranks.size()));
  RETURN_IF_ERROR(ranks.all_gather(bytes_of(mine), std::as_writable_bytes(std::span(all))));
  return all;
}

// Ok on all ranks if `mine` is on all; else on all of them the error of the lowest rank that has one, with "rank N".
Status agree(Communicator* ranks, const Status& mine);

// The text of every rank, by rank, on rank 0, and nothing on the others; or an error as of agree(). Texts of more than
// max_bytes together are kExhausted on all, before memory is taken for them.
Result<std::vector<std::string>> gather_texts(Communicator* ranks, const Result<std::string>& mine, int64_t max_bytes);

// Rank 0's lines, none of which holds an end of line, or its error. What the others bring does not matter.
Result<std::vector<std::string>> lines_of_first(Communicator* ranks, const Result<std::vector<std::string>>& mine);

}  // namespace colossus
