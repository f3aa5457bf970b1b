// One number for a sensible small Grok. See docs/dial.md for where the rule comes from.
#pragma once

#include <cstdint>

namespace colossus {

struct RunConfig;

// Sets model, batch, learning rates and steps of `run` for `depth` layers:
//   width 64 depth, heads of 64; key/value heads: the largest divisor of the heads not above half of them;
//   8 experts, 2 per token, each 4/3 of the width rounded to 32, so that the active parameters are those of a dense
//   gated block of 8/3; Grok-1's attention cap 30, embeddings times sqrt(width), logits times 1/sqrt(3), tied;
//   context 128 + 64 depth, at most 2048; 16384 tokens a step;
//   Muon 0.02 for matrices; AdamW 4e-3 sqrt(256 / width) for the rest; balance loss 0.01, z-loss 0.001;
//   steps: 20 tokens for each active matmul parameter, at least 200.
void apply_dial(RunConfig& run, int64_t depth);

}  // namespace colossus
