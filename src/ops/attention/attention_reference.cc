// Attention as its definition reads, one query at a time, in fp64.
#include <algorithm>
#include <cmath>
#include <vector>

#include "device/cpu/cpu_kernel.h"
#include "ops/attention/attention.h"

namespace colossus {
namespace {

double temperature(const AttentionAttributes& op, int64_t position) {
  if (op.temperature_len == 0 || position <= op.temperature_len) return 1;
  return std::log(static_cast<double>(position)) / std::log(static_cast<double>(op.temperature_len));
}

// Reads head `head` of row `row` of a (..., heads * dim) tensor.
struct Heads {
  const View& view;
  int64_t dim;
  int64_t at(int64_t row, int64_t head, int64_t d) const { return row * view.shape.row_size() + head * dim + d; }
  double get(int64_t row, int64_t head, int64_t d) const { return view.get(at(row, head, d)); }
};

// What one query sees: keys first .. last, in rows first_row + key of k and v.
struct Query {
  int64_t row, head;  // of q
  int64_t kv_head, first_row;
  int64_t first, last;  // last is the query's own position
};

int64_t first_visible(const AttentionAttributes& op, int64_t position, int64_t document_start) {
  const int64_t in_window = op.window == 0 ? 0 : position - op.window + 1;
  return std::min(position, std::max({document_start, in_window, int64_t{0}}));
}

double capped(const AttentionAttributes& op, double product) {
  return op.softcap == 0 ? product : op.softcap * std::tanh(product / op.softcap);
}

// Products scale * q . k of the keys seen.
std::vector<double> products(const AttentionAttributes& op, const Query& query, const Heads& q, const Heads& k) {
  std::vector<double> result;
  for (int64_t key = query.first; key <= query.last; ++key) {
    double sum = 0;
    for (int64_t d = 0; d < op.head_dim; ++d)
      sum += q.get(query.row, query.head, d) * k.get(query.first_row + key, query.kv_head, d);
    result.push_back(op.scale * sum);
  }
  return result;
}

// o of one query; returns its lse.
double attend(const AttentionAttributes& op, const Query& query, const Heads& q, const Heads& k, const Heads& v,
              const Heads& o) {
  std::vector<double> scores = products(op, query, q, k);
  for (double& score : scores) score = temperature(op, query.last) * capped(op, score);
  const double largest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (const double score : scores) sum += std::exp(score - largest);
  const double lse = largest + std::log(sum);
  for (int64_t d = 0; d < op.head_dim; ++d) {
    double value = 0;
    for (int64_t key = query.first; key <= query.last; ++key) {
      value += std::exp(scores[static_cast<size_t>(key - query.first)] - lse) *
               v.get(query.first_row + key, query.kv_head, d);
    }
    o.view.set(o.at(query.row, query.head, d), value);
  }
  return lse;
}

// (B, T), or not there.
const View* columns_of(const ReferenceCall& call, int input) {
  return call.has_input(input) ? &call.input(input) : nullptr;
}

struct QueryColumns {
  const View *document_start, *positions;
  int64_t num_keys;
};

// Calls visit(query, index of its lse) for every token and head of q (B, T, H * D).
template <class Visit>
void for_each_query(const AttentionAttributes& op, const Shape& q, const QueryColumns& columns, Visit visit) {
  const int64_t length = q[1];
  for (int64_t b = 0; b < q[0]; ++b) {
    for (int64_t head = 0; head < op.num_heads; ++head) {
      for (int64_t t = 0; t < length; ++t) {
        const int64_t row = b * length + t;
        const auto start = columns.document_start ? static_cast<int64_t>(columns.document_start->get(row)) : 0;
        const auto position = columns.positions ? static_cast<int64_t>(columns.positions->get(row)) : t;
        const Query query = {.row = row,
                             .head = head,
                             .kv_head = head / (op.num_heads / op.num_kv_heads),
                             .first_row = b * columns.num_keys,
                             .first = first_visible(op, position, start),
                             .last = position};
        visit(query, (b * op.num_heads + head) * length + t);
      }
    }
  }
}

}  // namespace

template <>
void run_reference(const Attention& op, const ReferenceCall& call) {
  const Heads q = {call.input(Attention::kQ), op.head_dim}, k = {call.input(Attention::kK), op.head_dim};
  const Heads v = {call.input(Attention::kV), op.head_dim}, o = {call.output(Attention::kO), op.head_dim};
  const QueryColumns columns = {columns_of(call, Attention::kDocumentStart), columns_of(call, Attention::kPositions),
                                k.view.shape[1]};
  for_each_query(op, q.view.shape, columns, [&](const Query& query, int64_t lse_index) {
    const double lse = attend(op, query, q, k, v, o);
    if (call.has_output(Attention::kLse)) call.output(Attention::kLse).set(lse_index, lse);
  });
}

// P = exp(s - lse), dP = do . v, ds = P (dP - sum(do o)), and through s = temperature * c tanh(x / c), x = scale q . k:
// dx = temperature (1 - tanh^2) ds.
template <>
void run_reference(const AttentionGrad& op, const ReferenceCall& call) {
  const Heads q = {call.input(AttentionGrad::kQ), op.head_dim}, k = {call.input(AttentionGrad::kK), op.head_dim};
  const Heads v = {call.input(AttentionGrad::kV), op.head_dim}, o = {call.input(AttentionGrad::kO), op.head_dim};
  const Heads grad = {call.input(AttentionGrad::kDo), op.head_dim};
  const QueryColumns columns = {columns_of(call, AttentionGrad::kDocumentStart),
                                columns_of(call, AttentionGrad::kPositions), k.view.shape[1]};
  std::vector<double> dk(static_cast<size_t>(k.view.num_elements())), dv(dk.size());
  std::vector<double> dq(static_cast<size_t>(q.view.num_elements()));
  for_each_query(op, q.view.shape, columns, [&](const Query& query, int64_t lse_index) {
    const std::vector<double> product = products(op, query, q, k);
    const double lse = call.input(AttentionGrad::kLse).get(lse_index), heat = temperature(op, query.last);
    double delta = 0;
    for (int64_t d = 0; d < op.head_dim; ++d)
      delta += grad.get(query.row, query.head, d) * o.get(query.row, query.head, d);
    for (int64_t key = query.first; key <= query.last; ++key) {
      const int64_t key_row = query.first_row + key;
      const double score = capped(op, product[static_cast<size_t>(key - query.first)]);
      const double p = std::exp(heat * score - lse);
      double dp = 0;
      for (int64_t d = 0; d < op.head_dim; ++d)
        dp += grad.get(query.row, query.head, d) * v.get(key_row, query.kv_head, d);
      const double slope = op.softcap == 0 ? 1 : 1 - (score / op.softcap) * (score / op.softcap);
      const double dx = p * (dp - delta) * heat * slope * op.scale;
      for (int64_t d = 0; d < op.head_dim; ++d) {
        const auto at_q = static_cast<size_t>(q.at(query.row, query.head, d));
        const auto at_k = static_cast<size_t>(k.at(key_row, query.kv_head, d));
        dv[at_k] += p * grad.get(query.row, query.head, d);
        dq[at_q] += dx * k.get(key_row, query.kv_head, d);
        dk[at_k] += dx * q.get(query.row, query.head, d);
      }
    }
  });
  for (size_t i = 0; i < dq.size(); ++i) call.output(AttentionGrad::kDq).set(static_cast<int64_t>(i), dq[i]);
  for (size_t i = 0; i < dk.size(); ++i) call.output(AttentionGrad::kDk).set(static_cast<int64_t>(i), dk[i]);
  for (size_t i = 0; i < dv.size(); ++i) call.output(AttentionGrad::kDv).set(static_cast<int64_t>(i), dv[i]);
}

template <>
void run_reference(const AttentionCached& op, const ReferenceCall& call) {
  const Heads q = {call.input(AttentionCached::kQ), op.head_dim}, o = {call.output(AttentionCached::kO), op.head_dim};
  const View &k = call.input(AttentionCached::kK), &v = call.input(AttentionCached::kV);
  const Heads k_cache = {call.input(AttentionCached::kKCache), op.head_dim};
  const Heads v_cache = {call.input(AttentionCached::kVCache), op.head_dim};
  const int64_t length = k.shape[1], row_size = k.shape[2], capacity = k_cache.view.shape[1];
  for (int64_t b = 0; b < k.shape[0]; ++b) {
    const auto held = static_cast<int64_t>(call.input(AttentionCached::kLengths).get(b));
    CHECK(held >= 0 && held + length <= capacity, "attention_cached.lengths: more tokens than the cache has rows");
    for (int64_t i = 0; i < length * row_size; ++i) {
      const int64_t to = (b * capacity + held) * row_size + i;
      k_cache.view.set(to, k.get(b * length * row_size + i));
      v_cache.view.set(to, v.get(b * length * row_size + i));
    }
    for (int64_t t = 0; t < length; ++t) {
      for (int64_t head = 0; head < op.num_heads; ++head) {
        const Query query = {.row = b * length + t,
                             .head = head,
                             .kv_head = head / (op.num_heads / op.num_kv_heads),
                             .first_row = b * capacity,
                             .first = first_visible(op, held + t, 0),
                             .last = held + t};
        attend(op, query, q, k_cache, v_cache, o);
      }
    }
  }
}

}  // namespace colossus
