// Texts of any length between the ranks of a group.
#pragma once

#include <string>
#include <vector>

#include "comm/communicator.h"

namespace colossus {

// texts[i] goes to rank i; the result's i-th came from rank i. More than max_bytes for one rank, in all, is kExhausted
// on that rank, before memory is taken.
Result<std::vector<std::string>> exchange_texts(Communicator& ranks, const std::vector<std::string>& texts,
                                                int64_t max_bytes = int64_t{1} << 30);

// Everybody's text, by rank, on all ranks.
Result<std::vector<std::string>> share_texts(Communicator& ranks, const std::string& mine,
                                             int64_t max_bytes = int64_t{1} << 30);

}  // namespace colossus
