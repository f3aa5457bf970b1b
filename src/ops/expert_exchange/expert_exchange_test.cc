#include "ops/expert_exchange/expert_exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "device/testing.h"
#include "ops/testing/op_harness.h"
#include "ops/testing/rank_harness.h"

namespace colossus {
namespace {

using testing::HasSubstr;

struct Exchange {
  int64_t ranks, expert_tensor;
  int64_t num_experts;
  int64_t num_rows, width;
  // Rows of each expert on each rank; every rank has num_rows.
  std::vector<std::vector<int64_t>> loads;
};

// Even loads, uneven ones, and all rows of all ranks for one expert.
std::vector<Exchange> exchanges() {
  return {{2, 1, 2, 4, 3, {{2, 2}, {2, 2}}},
          {2, 1, 4, 5, 2, {{1, 0, 4, 0}, {0, 2, 0, 3}}},
          {3, 1, 3, 4, 2, {{0, 4, 0}, {0, 4, 0}, {0, 4, 0}}},
          {2, 2, 2, 3, 2, {{1, 2}, {3, 0}}},
          {4, 2, 4, 3, 3, {{1, 0, 2, 0}, {0, 0, 0, 3}, {3, 0, 0, 0}, {1, 1, 1, 0}}}};
}

ExpertExchangeAttributes attributes(const Exchange& e, int64_t rank) {
  return {{.group = RankGroup::along({MeshAxis::kExpert, MeshAxis::kExpertTensor}), .ranks = e.ranks, .rank = rank},
          e.expert_tensor};
}

TensorId offsets_input(Builder& b, const Exchange& e) {
  return b.input("all_offsets", {e.ranks * (e.num_experts + 1)}, DType::kI32);
}

void fill_offsets(const Exchange& e, const Tensor& tensor, View view) {
  if (tensor.name != "all_offsets") return;
  int64_t at = 0;
  for (const auto& loads : e.loads) {
    int64_t row = 0;
    view.set(at++, 0);
    for (const int64_t load : loads) view.set(at++, static_cast<double>(row += load));
  }
}

RankCase to_experts(const Exchange& e) {
  return {.ranks = e.ranks,
          .write =
              [=](Builder& b, int64_t rank, DType dtype) {
                const TensorId rows = b.input("rows", {e.num_rows, e.width}, dtype);
                b.emit(RowsToExperts{attributes(e, rank)}, {rows, offsets_input(b, e)});
                b.mark_output(b.last_outputs()[RowsToExperts::kOffsets], "offsets");
                b.mark_output(b.last_outputs()[RowsToExperts::kArrived], "arrived");
              },
          .fill = [=](const Tensor& tensor, int64_t, View view) { fill_offsets(e, tensor, view); }};
}

// There and back: each row comes back as often as ranks share its expert.
RankCase there_and_back(const Exchange& e) {
  RankCase c = to_experts(e);
  c.write = [=](Builder& b, int64_t rank, DType dtype) {
    const TensorId rows = b.input("rows", {e.num_rows, e.width}, dtype), offsets = offsets_input(b, e);
    const TensorId arrived = b.emit(RowsToExperts{attributes(e, rank)}, {rows, offsets});
    const TensorId more = b.emit(Scale{.factor = 1 + static_cast<double>(rank)}, {arrived});
    b.mark_output(b.emit(RowsFromExperts{attributes(e, rank)}, {more, offsets}), "back");
  };
  return c;
}

class ExpertExchanges : public testing::TestWithParam<RankDevice> {};
INSTANTIATE_TEST_SUITE_P(All, ExpertExchanges, testing::Values(RankDevice::kReference, RankDevice::kGpu));

TEST_P(ExpertExchanges, RowsArriveByExpertThenByRank) {
  for (const Exchange& e : exchanges())
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const RankValues values = run_ranks(to_experts(e), dtype, GetParam());
      const int64_t experts_here = e.num_experts * e.expert_tensor / e.ranks;
      for (size_t at = 0; at < values.size(); ++at) {
        const auto rank = static_cast<int64_t>(at);
        const auto& own = values[at];
        std::vector<double> expected, offsets = {0};
        for (int64_t expert = rank / e.expert_tensor * experts_here, n = 0; n < experts_here; ++n, ++expert) {
          for (int64_t source = 0; source < e.ranks; ++source) {
            const auto& loads = e.loads[static_cast<size_t>(source)];
            int64_t first = 0;
            for (int64_t before = 0; before < expert; ++before) first += loads[static_cast<size_t>(before)];
            const auto& rows = values[static_cast<size_t>(source)].at("rows");
            expected.insert(expected.end(), rows.begin() + first * e.width,
                            rows.begin() + (first + loads[static_cast<size_t>(expert)]) * e.width);
          }
          offsets.push_back(static_cast<double>(expected.size()) / static_cast<double>(e.width));
        }
        std::vector<double> arrived = own.at("arrived");
        ASSERT_EQ(arrived.size(), static_cast<size_t>(e.ranks * e.num_rows * e.width));
        arrived.resize(expected.size());
        EXPECT_EQ(arrived, expected);
        EXPECT_EQ(own.at("offsets"), offsets);
      }
    }
}

TEST_P(ExpertExchanges, WhatTheRanksOfAnExpertMadeIsAdded) {
  const bool rounds = GetParam() == RankDevice::kGpu;  // to fp32
  for (const Exchange& e : exchanges()) {
    const RankValues values = run_ranks(there_and_back(e), rounds ? DType::kF32 : DType::kF64, GetParam());
    const int64_t experts_here = e.num_experts * e.expert_tensor / e.ranks;
    for (size_t rank = 0; rank < values.size(); ++rank) {
      size_t row = 0;
      for (int64_t expert = 0; expert < e.num_experts; ++expert) {
        double factor = 0;
        for (int64_t t = 0; t < e.expert_tensor; ++t)
          factor += 1 + static_cast<double>(expert / experts_here * e.expert_tensor + t);
        for (int64_t n = 0; n < e.loads[rank][static_cast<size_t>(expert)]; ++n, ++row)
          for (size_t c = 0; c < static_cast<size_t>(e.width); ++c) {
            const size_t i = row * static_cast<size_t>(e.width) + c;
            const double expected = factor * values[rank].at("rows")[i];
            EXPECT_NEAR(values[rank].at("back")[i], expected, (rounds ? 1e-6 : 1e-15) * std::abs(expected));
          }
      }
    }
  }
}

TEST(ExpertExchange, AdjointsAreTheGradients) {
  for (const Exchange& e : exchanges()) expect_rank_gradients(there_and_back(e));
}

// Costs are those of balanced loads.
TEST(ExpertExchange, SendsWhatItSaysWhenBalanced) {
  for (const Exchange& e : {Exchange{2, 1, 2, 4, 3, {{2, 2}, {2, 2}}},
                            Exchange{4, 2, 4, 4, 3, {{1, 1, 1, 1}, {1, 1, 1, 1}, {1, 1, 1, 1}, {1, 1, 1, 1}}}}) {
    expect_bytes_sent(to_experts(e), DType::kF32);
    expect_bytes_sent(there_and_back(e), DType::kBF16);
  }
}

TEST(ExpertExchange, ErrorsNameTheOperand) {
  const auto error = [](const Op& op, const Shape& rows, const Shape& offsets) {
    return write_error([&](Builder& b) {
      b.emit(op, {b.input("rows", rows, DType::kF32), b.input("offsets", offsets, DType::kI32)});
    });
  };
  const ExpertExchangeAttributes two{{.ranks = 2}, 1};
  EXPECT_THAT(error(RowsToExperts{two}, {4, 3}, {7}),
              HasSubstr("rows_to_experts.all_offsets: got [7] i32; needed E + 1 numbers"));
  EXPECT_THAT(error(RowsToExperts{two}, {4, 3}, {8}), HasSubstr("E a multiple of 2"));
  EXPECT_THAT(error(RowsFromExperts{two}, {5, 3}, {6}), HasSubstr("rows_from_experts.arrived: got [5, 3] f32"));
  EXPECT_THAT(error(RowsToExperts{{{.ranks = 3}, 2}}, {4, 3}, {9}),
              HasSubstr("expert_tensor: got 2; needed a divisor of the 3"));
}

}  // namespace
}  // namespace colossus
