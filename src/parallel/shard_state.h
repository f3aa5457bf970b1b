// Exchanges of gradients and parameters as passes over the program of a microbatch, or of a pipeline's piece.
//
// ZeRO 1, and copies along `data`: a rank sums whole gradients over its microbatches, and the run for its last one
// exchanges them. ZeRO 2 and 3 (Rajbhandari et al. 2020): what a rank holds of gradients and parameters is a piece of
// each bucket; whole buckets live in the arena, for as long as some layer needs them.
//
// All put their operations where lanes can run them beside computation (program/lane_order.h): a bucket's gradients
// are exchanged as soon as the last addition to them is done, and added up when those of the next layer are to go on
// their way; parameters are gathered when the layer before begins.
#pragma once

#include <optional>
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

// What a program's gradients are added into.
struct GradientSum {
  std::string name;                   // (size of the bucket)
  std::vector<BucketMember> members;  // gradients of the program; all of them, or none
  // States of the same size, sums of leaves that the rank had before: those that are added to it, in order, and those
  // that are exchanged beside it, and come first.
  std::vector<std::string> added, before;
};

// Gradients that go to the ranks that have the pieces.
struct ExchangedBucket {
  std::string name;
  int64_t size = 0;
  std::vector<GradientSum> sums;         // exchanged at once, when all are complete
  ExchangePieces exchange;               // of these, and of those before each
  TreeSum addition;                      // of what comes and the rank's own
  std::optional<GatherPieces> replicas;  // hand each other what comes of it

  // ZeRO 2: the sums live as long as they are needed: zero before the first addition, gone after the exchange. What the
  // rank keeps is `name`, (num_kept, size of its piece), role gradient, overwritten by each run; so a leaf of the
  // gradient tree is one run. 0: the sums are of role gradient, and outlive the run; the rank's piece of the first is
  // overwritten.
  int64_t num_kept = 0;
};

// Buckets of whose gradients the program has none leave it as it is.
Program exchange_gradients(Program program, std::span<const ExchangedBucket> buckets);

// The exchange alone, of sums that outlive the runs that made them.
Program write_exchange(std::span<const ExchangedBucket> buckets);

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
