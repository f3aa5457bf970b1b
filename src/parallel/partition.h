// From a forward program of the whole model to that of one of the ranks that share it. Each operation says how it may
// be cut (partition() beside its adjoint); this walks through them, puts collectives where an operation needs another
// part of a tensor than the rank has, and reports what the rank has of everything that lives outside the program.
//
// Between the large products a rank has some of each sequence's tokens. So parameters that are copies get from each
// rank of the tensor axis the gradient of its own tokens: a term of a sum, as along the data axes.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "program/program.h"
#include "tensor/placement.h"

namespace colossus {

// A tensor outside the program, or an output, and the rank's part of it. Placements speak of axes larger than 1 only.
struct TensorPart {
  std::string name;
  TensorType whole;
  Placement placement;
  // Of a parameter, where its gradient lies after the backward pass: as the parameter, and partial along the axes over
  // which it must still be summed. kData and kShard are among them: a rank's program is about its own microbatch.
  Placement gradient = {};
};

struct RankProgram {
  Program program;  // names and roles as in the whole program; inputs, parameters and outputs are the rank's parts
  std::vector<TensorPart> inputs, parameters, outputs;
};

// `whole`: a forward program before any other pass (write_loss_program). `parameters`: how each may be cut, by name;
// those left out are copies. Differentiate the result: collectives have adjoints, so the backward pass communicates
// what it must. All ranks that share a model run programs of the same operations, and run them the same number of
// times: the experts' group reaches over data ranks.
//
// Along the context axis sequences are cut in folded order (folded_token): whoever feeds the inputs puts the columns of
// each sequence in that order first, and then cuts as the Placement says. What is in the tensors stays the same:
// document_start holds columns of the sequence as it was.
//
// Fails for what cannot be cut this way: heads, widths or tokens that the mesh does not divide, programs that are not
// forward passes of training.
Result<RankProgram> partition(const Program& whole, const std::map<std::string, Placement>& parameters,
                              const MeshPosition& position);

// The column of a sequence that comes at `place` in folded order: of 2 * context pieces 0, the last, 1, the last but
// one,
// ... So each context rank has a piece from the front and one from the back, and causal attention costs all the same.
// num_tokens: a multiple of 2 * context, unless context is 1.
int64_t folded_token(int64_t num_tokens, int64_t context, int64_t place);

}  // namespace colossus
