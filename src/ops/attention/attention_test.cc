#include "ops/attention/attention.h"

#include <cmath>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

struct AttentionCase {
  int64_t batch, positions, heads, kv_heads, dim;
  double softcap = 0;
  int64_t window = 0, temperature_len = 0;
  bool documents = false;

  std::string name() const {
    return fmt::format("B={} T={} H={} K={} D={} softcap {} window {} temperature_len {}{}", batch, positions, heads,
                       kv_heads, dim, softcap, window, temperature_len, documents ? " documents" : "");
  }
  template <class AnyAttention>
  AnyAttention op() const {
    return {{.num_heads = heads,
             .num_kv_heads = kv_heads,
             .head_dim = dim,
             .scale = 1 / std::sqrt(static_cast<double>(dim)),
             .softcap = softcap,
             .window = window,
             .temperature_len = temperature_len}};
  }
  Shape wide(int64_t num_positions) const { return {batch, num_positions, heads * dim}; }
  Shape narrow(int64_t num_positions) const { return {batch, num_positions, kv_heads * dim}; }
};

// Documents of uneven lengths, other ones in each sequence.
void fill_documents(const Tensor& tensor, View view) {
  if (tensor.name != "document_start") return;
  const int64_t positions = view.shape[1];
  int32_t start = 0;
  for (int64_t i = 0; i < view.num_elements(); ++i) {
    const int64_t t = i % positions;
    if (t == 0) start = 0;
    if ((i * 2654435761U >> 7) % 23 == 0) start = static_cast<int32_t>(t);
    view.as<int32_t>()[i] = start;
  }
}

std::vector<TensorId> declare_inputs(Builder& b, const AttentionCase& c, DType dtype) {
  std::vector<TensorId> inputs = {b.input("q", c.wide(c.positions), dtype), b.input("k", c.narrow(c.positions), dtype),
                                  b.input("v", c.narrow(c.positions), dtype)};
  if (c.documents) inputs.push_back(b.input("document_start", {c.batch, c.positions}, DType::kI32));
  return inputs;
}

TEST(Attention, Cases) {
  const AttentionCase cases[] = {
      {1, 1, 1, 1, 7},
      {2, 7, 3, 1, 13},
      {1, 64, 2, 2, 16},
      {1, 37, 6, 2, 5, 2.0},
      {2, 37, 4, 2, 3, 0, 5, 0, true},
      {1, 70, 1, 1, 8, 3.0, 50, 20, true},
      {1, 130, 2, 1, 4, 0, 0, 10},
  };
  for (const AttentionCase& c : cases)
    run_op_case({.name = c.name(),
                 .write =
                     [&](Builder& b, DType dtype) {
                       b.emit(c.op<Attention>(), declare_inputs(b, c, dtype));
                       b.mark_output(b.last_outputs()[Attention::kO], "o");
                     },
                 .fill = fill_documents});
}

// Queries of some columns in two runs, against the keys of all.
TEST(Attention, PositionsOfQueries) {
  struct Queries {
    AttentionCase keys;
    int64_t count, first, second, num_second;
  };
  const Queries cases[] = {{{2, 12, 4, 2, 5, 2.0, 0, 0, true}, 6, 2, 8, 3},
                           {{1, 40, 2, 1, 16, 0, 7, 10}, 13, 20, 30, 7},
                           {{1, 300, 2, 2, 8, 0, 0, 0, true}, 150, 75, 150, 75},
                           {{1, 9, 1, 1, 4}, 1, 8, 0, 0}};
  for (const Queries& q : cases) {
    const AttentionCase& c = q.keys;
    const bool gradient = c.positions < 100;  // numerical ones are slow
    run_op_case(
        {.name = c.name(),
         .write =
             [&](Builder& b, DType dtype) {
               std::vector<TensorId> inputs = {b.input("q", c.wide(q.count), dtype),
                                               b.input("k", c.narrow(c.positions), dtype),
                                               b.input("v", c.narrow(c.positions), dtype)};
               inputs.push_back(c.documents ? b.input("document_start", {c.batch, q.count}, DType::kI32) : TensorId{});
               inputs.push_back(b.emit(Positions{.batch = c.batch,
                                                 .tokens = q.count,
                                                 .first = q.first,
                                                 .second = q.second,
                                                 .num_second = q.num_second},
                                       {}));
               b.emit(c.op<Attention>(), inputs);
               const TensorId o = b.last_outputs()[Attention::kO], lse = b.last_outputs()[Attention::kLse];
               b.mark_output(o, "o");
               if (gradient) return;
               const TensorId d = b.input("do", c.wide(q.count), dtype);
               b.emit(c.op<AttentionGrad>(), {d, inputs[0], inputs[1], inputs[2], o, lse, inputs[3], inputs[4]});
               for (const auto& [output, name] :
                    {std::pair{AttentionGrad::kDq, "dq"}, {AttentionGrad::kDk, "dk"}, {AttentionGrad::kDv, "dv"}})
                 b.mark_output(b.last_outputs()[static_cast<size_t>(output)], name);
             },
         .fill = fill_documents,
         .check_gradient = gradient});
  }
}

// Positions in no order, some of them twice, and keys that nobody sees.
TEST(Attention, PositionsInAnyOrder) {
  const AttentionCase c = {2, 200, 2, 1, 24, 0, 40, 0, true};
  const int64_t count = 70;
  run_op_case({.name = c.name(),
               .write =
                   [&](Builder& b, DType dtype) {
                     const TensorId q = b.input("q", c.wide(count), dtype), grad = b.input("do", c.wide(count), dtype);
                     const TensorId k = b.input("k", c.narrow(c.positions), dtype);
                     const TensorId v = b.input("v", c.narrow(c.positions), dtype);
                     const TensorId document_start = b.input("document_start", {c.batch, count}, DType::kI32);
                     const TensorId positions = b.input("positions", {c.batch, count}, DType::kI32);
                     b.emit(c.op<Attention>(), {q, k, v, document_start, positions});
                     const std::vector<TensorId> out = b.last_outputs();
                     b.mark_output(out[0], "o");
                     b.emit(c.op<AttentionGrad>(), {grad, q, k, v, out[0], out[1], document_start, positions});
                     const std::vector<TensorId> grads = b.last_outputs();
                     for (const auto& [output, name] :
                          {std::pair{AttentionGrad::kDq, "dq"}, {AttentionGrad::kDk, "dk"}, {AttentionGrad::kDv, "dv"}})
                       b.mark_output(grads[static_cast<size_t>(output)], name);
                   },
               .fill =
                   [&](const Tensor& tensor, View view) {
                     fill_documents(tensor, view);
                     for (int64_t i = 0; tensor.name == "positions" && i < view.num_elements(); ++i)
                       view.as<int32_t>()[i] = static_cast<int32_t>(i * 37 % 80);
                   },
               .check_gradient = false});
}

// Longer sequences and wider heads: forward and backward kernels, too slow for numerical gradients.
TEST(Attention, LongCases) {
  const AttentionCase cases[] = {
      {1, 300, 1, 1, 128},
      {2, 200, 6, 2, 37, 4.0},
      {1, 257, 2, 2, 64, 0, 100, 30, true},
      {1, 100, 9, 1, 32, 0, 0, 0, true},
      {1, 90, 2, 1, 200, 2.0, 0, 0, true},
      {1, 40, 2, 2, 264},
      {1, 2100, 1, 1, 8, 0, 40},
  };
  for (const AttentionCase& c : cases)
    run_op_case(
        {.name = c.name(),
         .write =
             [&](Builder& b, DType dtype) {
               const std::vector<TensorId> inputs = declare_inputs(b, c, dtype);
               b.emit(c.op<Attention>(), inputs);
               const std::vector<TensorId> out = b.last_outputs();
               const TensorId grad = b.input("do", c.wide(c.positions), dtype);
               b.emit(c.op<AttentionGrad>(),
                      {grad, inputs[0], inputs[1], inputs[2], out[0], out[1], c.documents ? inputs[3] : TensorId{}});
               const std::vector<TensorId> grads = b.last_outputs();
               b.mark_output(out[0], "o");
               b.mark_output(out[1], "lse");
               for (const int i : {0, 1, 2})
                 b.mark_output(grads[static_cast<size_t>(i)], std::vector{"dq", "dk", "dv"}[static_cast<size_t>(i)]);
             },
         .fill = fill_documents,
         .check_gradient = false});
}

TEST(AttentionCached, Cases) {
  const AttentionCase cases[] = {
      {3, 1, 2, 2, 16}, {2, 1, 6, 2, 37, 3.0},           {3, 1, 4, 1, 64, 0, 300, 40}, {2, 1, 3, 3, 1},
      {2, 7, 4, 2, 13}, {2, 70, 3, 1, 16, 2.0, 100, 30}, {2, 9, 4, 1, 128, 0, 0, 290}, {1, 1, 4, 2, 200, 5.0},
  };
  for (const AttentionCase& c : cases)
    for (const bool narrow_cache : {false, true}) {
      const int64_t capacity = 600;
      run_op_case({.name = c.name() + (narrow_cache ? " bf16 cache" : ""),
                   .write =
                       [&](Builder& b, DType dtype) {
                         const TensorType cache = {c.narrow(capacity), narrow_cache ? DType::kBF16 : dtype};
                         const TensorId k_cache = b.declare("k_cache", cache, Role::kState);
                         const TensorId v_cache = b.declare("v_cache", cache, Role::kState);
                         std::vector<TensorId> inputs = declare_inputs(b, c, dtype);
                         inputs.insert(inputs.end(), {k_cache, v_cache, b.input("lengths", {c.batch}, DType::kI32)});
                         b.mark_output(b.emit(c.op<AttentionCached>(), inputs), "o");
                       },
                   .fill =
                       [&](const Tensor& tensor, View view) {
                         // Full, empty, and between.
                         const int32_t lengths[] = {static_cast<int32_t>(capacity - c.positions), 0, 300};
                         for (int64_t b = 0; tensor.name == "lengths" && b < c.batch; ++b)
                           view.as<int32_t>()[b] = lengths[b];
                       },
                   .check_gradient = false});
    }
}

TEST(Attention, CostCountsVisiblePairs) {
  const auto pairs = [](AttentionCase c) {
    Builder b("cost");
    b.emit(c.op<Attention>(), declare_inputs(b, c, DType::kF32));
    const Program& program = b.program();
    return cost_of(program, program.operations[0]).flops / static_cast<double>(4 * c.dim * c.heads * c.batch);
  };
  EXPECT_EQ(pairs({2, 5, 4, 2, 8}), 1 + 2 + 3 + 4 + 5);
  EXPECT_EQ(pairs({2, 5, 4, 2, 8, 0, 2}), 1 + 2 + 2 + 2 + 2);
}

TEST(Attention, ErrorsNameOpAndOperand) {
  using testing::HasSubstr;
  const AttentionCase c = {2, 5, 4, 2, 8};
  EXPECT_THAT(write_error([&](Builder& b) {
                const TensorId q = b.input("q", c.wide(5), DType::kF32), k = b.input("k", c.narrow(6), DType::kF32);
                b.emit(c.op<Attention>(), {q, k, k});
              }),
              HasSubstr("attention.k: got [2, 6, 16] f32; needed [2, 5, 16]"));
  EXPECT_THAT(write_error([&](Builder& b) {
                Attention op = c.op<Attention>();
                op.num_kv_heads = 3;
                b.emit(op, declare_inputs(b, c, DType::kF32));
              }),
              HasSubstr("attention.num_kv_heads: got 3; needed a divisor of num_heads = 4"));
  EXPECT_THAT(write_error([&](Builder& b) {
                std::vector<TensorId> inputs = declare_inputs(b, c, DType::kF32);
                inputs.push_back(b.input("document_start", {2, 4}, DType::kI32));
                b.emit(c.op<Attention>(), inputs);
              }),
              HasSubstr("attention.document_start: got [2, 4] i32; needed [2, 5]"));
  EXPECT_THAT(write_error([&](Builder& b) {
                std::vector<TensorId> inputs = declare_inputs(b, c, DType::kF32);
                const TensorId cache = b.declare("cache", {c.narrow(3), DType::kF32}, Role::kState);
                inputs.insert(inputs.end(), {cache, cache, b.input("lengths", {2}, DType::kI32)});
                b.emit(c.op<AttentionCached>(), inputs);
              }),
              HasSubstr("attention_cached.k_cache: got [2, 3, 16] f32; needed room for q's 5 tokens"));
}

}  // namespace
}  // namespace colossus
