// Cuts the program of one microbatch (forward and backward pass, differentiated, fused, recomputing or not) into the
// programs of one piece of the pipeline.
//
//   operations of a layer (their scope says which)   the piece that has the layer
//   what lies before the layers, and its backward    the first piece: the embedding
//   what lies behind them                            the last piece: final norm and head
//
// Operations of the phase `forward` make the forward program, all others the backward program; recomputation belongs to
// the backward pass. So does the head's fused gradient, which computes the loss: a microbatch's loss is known when the
// last piece has gone backward, and all that is added into gradients is added there, in order of microbatches.
//
// A tensor that another piece needs goes from neighbour to neighbour by send and receive. What a program receives is
// asked for by a program of its own, which runs when the one before begins, so that it comes meanwhile. Three things
// outlive the program that makes them, so they lie outside the arena, in tensors of role kStash that are bound before
// each run:
//   what a later program of the piece reads of the same microbatch: a stash. Several microbatches are in flight at
//   once,
//     each with its own;
//   what is sent, until the neighbour has taken it: the outbox;
//   what is received, from when it is asked for until it is read for the last time: an inbox.
//
// The operations are those of the whole program and each accumulator is added into in the same order, so the bits are
// those of the whole program, too: of every gradient that one piece alone adds into.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "parallel/mesh.h"
#include "parallel/stage_slots.h"
#include "program/program.h"

namespace colossus {

struct PipelineCut {
  std::vector<LayerRange> layers;  // of all pieces, in order: cut_layers
  int64_t piece = 0;               // the one asked for
  // Two backward programs: one for the gradient of the piece's input (and what comes out of the same operations: the
  // gradients of norms and of the head), one for the gradients of weights, which reads what the first one stashes.
  bool split_backward = false;
};

// What one microbatch has in a stash (or one run in its outbox): parts, one for each type of tensor. A part is a tensor
// of role kStash, of which those tensors are views, in the programs that use any of them.
struct Stash {
  struct Part {
    std::string name;  // "stash.forward_backward.bf16", "outbox.f32"
    int64_t offset_bytes = 0;
  };
  std::vector<Part> parts;
  int64_t num_bytes = 0;  // a multiple of 64
};

// Inputs, parameters and gradients of each program are the tensors it has of these roles.
struct PipelinePiece {
  Program receive_forward, receive_backward;  // what the two of them read of neighbours; empty at the ends
  Program forward;
  Program backward;         // outputs of the last piece: loss, token_loss
  Program backward_weight;  // empty unless split
  ByStashKind<Stash> stashes;
  // Parameters that other pieces have as well (a tied embedding): each piece adds its own terms of their gradient.
  std::vector<std::string> shared_parameters;
};

// Where the embedding and the head are one parameter, the embedding adds into a gradient of its own,
// "grad.<parameter>.lookup": so their terms have one order in the sum, on one rank as on the two ends of a pipeline.
Program keep_lookups_apart(Program microbatch);

// Outputs of forward operations (aux_loss) come out of the last piece's forward program, wherever they are made; those
// of backward operations where they are made. Fails for a program that cannot be cut like this, naming the tensor.
Result<PipelinePiece> cut_pipeline_piece(const Program& microbatch, const PipelineCut& cut);

}  // namespace colossus
