// What operations that talk to other ranks are made of, on any device. Such an operation has one kernel for all of
// them, in src/ops/x/x_ranks.cc:
//   template <> int64_t ranks_workspace_bytes(const X& op, const OpShapes& shapes);
//   template <> Status communicate(const X& op, const RankCall& call, Collectives& ranks);
// It runs beside compute kernels, on the lane of its group.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/status.h"
#include "program/op_interface.h"
#include "tensor/view.h"

namespace colossus {

using ByteSpan = std::span<std::byte>;
using ConstByteSpan = std::span<const std::byte>;

// The ranks of a group, as the device of this one reaches them. Bytes are in the device's memory. A device may queue
// what it is asked for: then calls return at once, and what follows in the lane sees their results. Between two ranks
// messages match in order; sizes are those that the peer expects, or nothing is defined but that it fails.
class Collectives {
 public:
  Collectives() = default;
  virtual ~Collectives() = default;
  Collectives(const Collectives&) = delete;
  Collectives& operator=(const Collectives&) = delete;

  // all = the `mine` of rank 0, 1, ... one after the other. `mine` may lie in its place within `all`.
  virtual Status all_gather(ConstByteSpan mine, ByteSpan all) = 0;
  // send[i] goes to rank i, receive[i] comes from rank i; this rank's own part is copied.
  virtual Status all_to_all(std::span<const ConstByteSpan> send, std::span<const ByteSpan> receive) = 0;
  virtual Status send(ConstByteSpan bytes, int peer) = 0;
  virtual Status receive(ByteSpan bytes, int peer) = 0;

  // Rows of `row_bytes`, a step apart in each place; they do not overlap.
  struct Rows {
    std::byte* data;
    int64_t step;  // bytes from one to the next
  };
  virtual void copy_rows(Rows to, Rows from, int64_t row_bytes, int64_t num_rows) = 0;
  // sum[i] = terms[0][i] + terms[1][i] + ..., in this order; bf16 is added in fp32 and rounded once.
  // terms: (num_terms, count), one after the other. f32, f64, bf16, i64.
  virtual void add_in_order(DType dtype, const std::byte* terms, int64_t num_terms, int64_t count, std::byte* sum) = 0;
  // What the tensor holds now, on the host: until the next call of this. For the few numbers that sizes of messages
  // depend on: a device that queues its work waits here until it has come so far.
  virtual Result<ConstByteSpan> on_host(const View& tensor) = 0;
  virtual void write(ByteSpan to, ConstByteSpan from_host) = 0;
};

struct RankCall {
  std::span<const View> inputs, outputs;  // absent ones have a null View
  std::byte* workspace = nullptr;         // 64-byte aligned, undefined contents

  const View& input(int i) const { return inputs[static_cast<size_t>(i)]; }
  const View& output(int i) const { return outputs[static_cast<size_t>(i)]; }
  int num_inputs() const { return static_cast<int>(inputs.size()); }
};

template <class Op>
int64_t ranks_workspace_bytes(const Op& op, const OpShapes& shapes);
template <class Op>
Status communicate(const Op& op, const RankCall& call, Collectives& ranks);

inline ByteSpan bytes_of(const View& view) { return {view.data, static_cast<size_t>(view.num_bytes())}; }

// The parts of a tensor that ranks hand each other, by rank.
using Parts = std::vector<ByteSpan>;

inline std::vector<ConstByteSpan> constant(const Parts& parts) { return {parts.begin(), parts.end()}; }

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
inline Status share_parts(Collectives& ranks, const Parts& parts, int64_t own_rank) {
  const auto own = static_cast<size_t>(own_rank);
  std::vector<ConstByteSpan> send(parts.size(), parts[own]);
  send[own] = {};
  Parts receive = parts;
  receive[own] = {};
  return ranks.all_to_all(send, receive);
}

}  // namespace colossus
