// What an operation of a program does on the network.
#pragma once

#include <optional>

#include "device/sim/network.h"
#include "program/op.h"

namespace colossus {

// Nothing: it talks to nobody. Its bytes are Cost::bytes_sent, its group group_of(op). A receive waits for its send.
// These are the patterns of NCCL; where floats must be added in order of rank (docs/numerics.md), a reduce-scatter is
// an all-to-all of the same bytes and a sum beside it.
std::optional<CollectiveKind> collective_kind(const Op& op);

}  // namespace colossus
