// For tests only: operations that talk to other ranks, run on ranks that are threads of this process.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "program/builder.h"
#include "tensor/view.h"

namespace colossus {

enum class RankDevice;  // device/testing.h

struct RankCase {
  int64_t ranks = 2;
  // Declares inputs, emits operations and marks outputs for one rank. All ranks write the same operations.
  std::function<void(Builder&, int64_t rank, DType activations)> write;
  // Called for every input after its default fill (floats: random normal numbers of that rank, integers: zero).
  std::function<void(const Tensor&, int64_t rank, View)> fill = nullptr;
  // The outputs are one result that all ranks have, not one of each.
  bool one_result = false;
};

// A rank's outputs and inputs by name.
using RankValues = std::vector<std::map<std::string, std::vector<double>>>;
// On reference kernels, or on a device; none where the machine has fewer GPUs than ranks.
RankValues run_ranks(const RankCase& rank_case, DType activations);
RankValues run_ranks(const RankCase& rank_case, DType activations, RankDevice device);

// In fp64: what adjoints make of random gradients of the float outputs, beside central differences over the inputs of
// all ranks.
void expect_rank_gradients(const RankCase& rank_case);

// The programs say what the ranks have sent.
void expect_bytes_sent(const RankCase& rank_case, DType activations);

}  // namespace colossus
