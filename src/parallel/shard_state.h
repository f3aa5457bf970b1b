// ZeRO 2 and 3 (Rajbhandari et al. 2020) as passes over the program of a microbatch, or of a pipeline's piece: what a
// rank holds of gradients and parameters is a piece of each bucket; whole buckets live in the arena, for as long as
// some layer needs them.
//
// Both put their operations where lanes can run them beside computation (program/lane_order.h): a bucket's gradients
// are exchanged as soon as the last addition to them is done, and added up when those of the next layer are on their
// way; parameters are gathered when the layer before begins.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "ops/pieces/pieces.h"
#include "program/program.h"

namespace colossus {

// A tensor of the program and its place in a bucket, in elements.
struct BucketMember {
  std::string name;
  int64_t offset = 0;
};

// Gradients that go to the ranks that have the pieces.
struct ExchangedBucket {
  std::string sums;  // what the rank keeps: (S, size of its piece), role gradient, overwritten by each run
  int64_t num_sums = 1;
  int64_t size = 0;                   // of the bucket
  std::vector<BucketMember> members;  // gradients of the program; all of them, or none
  ExchangePieces exchange;            // one sum of each rank
  TreeSum addition;                   // of what comes to num_sums
};

// The program's gradients named here become sums of the arena: zero before the first addition, gone after the exchange.
// What a run adds is what it leaves in `sums`, so a leaf of the gradient tree is one run.
Program exchange_gradients(Program program, std::span<const ExchangedBucket> buckets);

// Parameters of which the rank keeps a piece.
struct GatheredBucket {
  std::string piece;                  // (size of its piece), role parameter
  std::vector<BucketMember> members;  // parameters; those that the program does not have are left out
  PieceAttributes pieces;
};

// Whole buckets are gathered for the forward pass, layer by layer, and again for the backward pass. Where the two
// follow on one another (the last layer, with the head between) the bucket stays.
Program gather_parameters(Program program, std::span<const GatheredBucket> buckets);

}  // namespace colossus
