// The parts of a tensor that ranks hand each other.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "comm/communicator.h"
#include "tensor/view.h"

namespace colossus {

using Parts = std::vector<std::span<std::byte>>;

inline std::vector<std::span<const std::byte>> constant(const Parts& parts) { return {parts.begin(), parts.end()}; }

// Nearly equal runs of whole elements: part i begins at element count * i / ranks.
inline Parts parts_of(const View& view, int64_t ranks) {
  const int64_t count = view.num_elements(), bytes = dtype_bytes(view.dtype);
  Parts parts;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const int64_t begin = count * rank / ranks, end = count * (rank + 1) / ranks;
    parts.push_back({view.data + begin * bytes, static_cast<size_t>((end - begin) * bytes)});
  }
  return parts;
}

// Rank i has parts[i] of one buffer; afterwards all ranks have all of them.
inline Status share_parts(Communicator& ranks, const Parts& parts) {
  const auto own = static_cast<size_t>(ranks.rank());
  std::vector<std::span<const std::byte>> send(parts.size(), parts[own]);
  send[own] = {};
  Parts receive = parts;
  receive[own] = {};
  return ranks.all_to_all(send, receive);
}

// sum[i] = terms[0][i] + terms[1][i] + ..., in this order; bf16 is added in fp32 and rounded once.
// terms: (num_terms, count), one after the other. f32, f64, bf16, i64.
void add_in_order(DType dtype, const std::byte* terms, int64_t num_terms, int64_t count, std::byte* sum);

}  // namespace colossus
