// What an operation asks of a machine, without saying of which: read off the operation once, priced many times.
#pragma once

#include <cstdint>
#include <vector>

#include "program/program.h"
#include "tensor/placement.h"

namespace colossus {

enum class WorkKind : uint8_t {
  kMemory,     // bound by reading and writing: norms, activations, rotations, the optimizer
  kMatmul,     // `count` products of (m, k) by (k, n)
  kAttention,  // scores never stored
  kAttentionGrad,
  kCommunication,  // with other ranks
};

// How a communication moves bytes.
enum class Exchange : uint8_t { kAllReduce, kAllGather, kReduceScatter, kAllToAll, kSend, kReceive };

struct KernelWork {
  WorkKind kind = WorkKind::kMemory;
  double flops = 0;
  double bytes = 0;  // read and written
  int64_t m = 0, n = 0, k = 0, count = 1;
  int64_t head_dim = 0, tokens = 0;  // of attention: D, and the tokens a query sees at most
  bool narrow = false;               // a product of a layer's weights, which may be computed in fp8 or fp4
  bool head = false;                 // of the output head
  bool experts = false;              // products of `count` experts with the rows routed to each
  double rounded = 0;                // elements of its first operand, brought into the narrower type before it
  double packed = 0;                 // parameters brought into the form that the device's products read
  bool absorbed = false;             // its work is another's (merged_products.h)
  double eager = 1;                  // how often its bytes are moved by who has no kernel of its own for it
  bool routing = false;              // puts rows in order of their experts, or back

  RankGroup group;
  Exchange exchange = Exchange::kAllReduce;
  double bytes_sent = 0;  // by this rank
};

KernelWork work_of(const Program& program, const Operation& operation);

// A program ready to be played: what each operation asks, and for what it waits (program/lane_order.h).
struct PlayableProgram {
  std::vector<KernelWork> works;
  std::vector<std::vector<int>> waits;
  std::vector<char> outlives_run;
};
PlayableProgram playable(const Program& program);

}  // namespace colossus
