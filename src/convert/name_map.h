// How another program names and lays out the tensors that we call as docs/formats.md says. A table of rules for each
// family of models; import and export read the same table.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/model.h"

namespace colossus {

enum class MatrixOrder {
  kSame,        // theirs as ours: (in, out)
  kTransposed,  // theirs is (out, in)
  // The same, and the rows of each head are in the order of rotary pairs (0, D/2, 1, D/2 + 1, ...), ours in that of
  // halves: programs that turn neighbours (llama2.c).
  kTransposedPairs,
};

// {l} stands for the number of a layer, {e} for that of an expert: theirs is then one matrix of our stack. Rules with
// the same name of theirs lie beside one another there along `out`, in the order of the table.
struct NameRule {
  std::string_view ours;
  std::string_view theirs;
  MatrixOrder layout = MatrixOrder::kSame;
};

// One of our matrices, and where it is in one of theirs. A vector is a matrix of one row.
struct MatrixLink {
  size_t ours = 0;     // in the table of parameters
  int64_t matrix = 0;  // of our stack of experts
  int64_t in = 1, out = 1;
  size_t theirs = 0;         // in NameMap::theirs
  int64_t their_matrix = 0;  // of their stack
  int64_t first_out = 0;     // of all their out
  MatrixOrder layout = MatrixOrder::kSame;
};

struct TheirTensor {
  std::string name;
  Shape shape;
  int64_t num_matrices = 1, in = 1, out = 1;
  std::vector<size_t> links;  // in the order of first_out, then their_matrix
};

struct NameMap {
  std::vector<ParameterSpec> ours;
  std::vector<TheirTensor> theirs;  // in the order in which ours name them first
  std::vector<MatrixLink> links;    // by ours, then matrix

  // The links of one of ours.
  std::span<const MatrixLink> of_ours(size_t index) const;
};

// The rules written out for a model. Fails where no rule names a parameter of it. `strip`: a beginning that their names
// have in the rules and not in the files.
Result<NameMap> make_name_map(const ModelConfig& model, std::span<const NameRule> rules, std::string_view strip = "");

}  // namespace colossus
