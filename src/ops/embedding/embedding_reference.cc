#include "device/cpu/cpu_kernel.h"
#include "ops/embedding/embedding.h"

namespace colossus {
namespace {

// Row 0 stands in for rows that are not there.
int64_t row_in(const View& table, int64_t row) { return row >= 0 && row < table.shape[0] ? row : 0; }

int64_t position_of(const ReferenceCall& call, int positions, int64_t token, int64_t T) {
  return call.has_input(positions) ? static_cast<int64_t>(call.input(positions).get(token)) : token % T;
}

void add_into(const View& table, int64_t row, int64_t c, double value) {
  const int64_t at = row * table.shape[1] + c;
  table.set(at, table.get(at) + value);
}

}  // namespace

template <>
void run_reference(const Embedding& op, const ReferenceCall& call) {
  using E = Embedding;
  const View &table = call.input(E::kTable), &tokens = call.input(E::kTokens), &y = call.output(E::kY);
  const int64_t C = table.shape[1];
  for (int64_t i = 0; i < tokens.num_elements(); ++i) {
    const int64_t row = row_in(table, static_cast<int64_t>(tokens.get(i)));
    for (int64_t c = 0; c < C; ++c) {
      double sum = op.scale * table.get(row * C + c);
      if (call.has_input(E::kPositionTable)) {
        const View& position_table = call.input(E::kPositionTable);
        sum += position_table.get(row_in(position_table, position_of(call, E::kPositions, i, tokens.shape[1])) * C + c);
      }
      y.set(i * C + c, sum);
    }
  }
}

template <>
void run_reference(const EmbeddingGrad& op, const ReferenceCall& call) {
  using E = EmbeddingGrad;
  const View &dy = call.input(E::kDy), &tokens = call.input(E::kTokens), &dtable = call.input(E::kDtable);
  const int64_t C = dy.shape[2];
  for (int64_t i = 0; i < tokens.num_elements(); ++i)
    for (int64_t c = 0; c < C; ++c) {
      add_into(dtable, row_in(dtable, static_cast<int64_t>(tokens.get(i))), c, op.scale * dy.get(i * C + c));
      if (!call.has_input(E::kDpositionTable)) continue;
      const View& dpositions = call.input(E::kDpositionTable);
      add_into(dpositions, row_in(dpositions, position_of(call, E::kPositions, i, dy.shape[1])), c, dy.get(i * C + c));
    }
}

}  // namespace colossus
