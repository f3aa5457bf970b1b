#include "ops/collective/collective.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/testing.h"
#include "ops/testing/op_harness.h"
#include "ops/testing/rank_harness.h"

namespace colossus {
namespace {

using testing::HasSubstr;

CollectiveAttributes group_of(int64_t ranks, int64_t rank) {
  return {.group = RankGroup::along({MeshAxis::kTensor}), .ranks = ranks, .rank = rank};
}

struct Cut {
  int64_t ranks;
  Shape part;
  int64_t dimension;
  bool folded = false;
};
const Cut kCuts[] = {{1, {3, 2}, 0},          {2, {4}, 0},          {2, {3, 5, 7}, 0},   {2, {3, 5, 7}, 1},
                     {3, {3, 5, 7}, 2},       {4, {1, 3, 2}, 1},    {3, {2, 1, 40}, 1},  {2, {2, 0, 3}, 1},
                     {2, {3, 4, 5}, 1, true}, {3, {6, 2}, 0, true}, {1, {2, 2}, 1, true}};

Shape whole_of(const Cut& cut) {
  const int d = static_cast<int>(cut.dimension);
  return cut.part.with(d, cut.part[d] * cut.ranks);
}

RankCase all_gather_case(const Cut& cut) {
  return {.ranks = cut.ranks, .write = [=](Builder& b, int64_t rank, DType dtype) {
            const TensorId x = b.input("x", cut.part, dtype);
            b.mark_output(b.emit(AllGather{{group_of(cut.ranks, rank), cut.dimension, cut.folded}}, {x}), "y");
          }};
}
RankCase reduce_scatter_case(const Cut& cut) {
  return {.ranks = cut.ranks, .write = [=](Builder& b, int64_t rank, DType dtype) {
            const TensorId x = b.input("x", whole_of(cut), dtype);
            b.mark_output(b.emit(ReduceScatter{{group_of(cut.ranks, rank), cut.dimension, cut.folded}}, {x}), "y");
          }};
}
RankCase all_reduce_case(int64_t ranks, const Shape& shape) {
  return {.ranks = ranks,
          .write =
              [=](Builder& b, int64_t rank, DType dtype) {
                const TensorId x = b.input("x", shape, dtype);
                b.mark_output(b.emit(AllReduce{group_of(ranks, rank)}, {x}), "y");
              },
          .one_result = true};
}

// Where element i of rank's part lies in the whole.
size_t place(const Cut& cut, int64_t rank, size_t i) {
  int64_t inner = 1;
  for (int d = static_cast<int>(cut.dimension); d < cut.part.rank(); ++d) inner *= cut.part[d];
  const auto at = static_cast<int64_t>(i);
  const int64_t run = cut.folded ? inner / 2 : inner, offset = at % inner, runs = inner == 0 ? 0 : inner / run;
  const int64_t place = offset < run ? rank : 2 * cut.ranks - 1 - rank;
  return static_cast<size_t>((at / inner * cut.ranks * runs + place) * run + offset % run);
}

constexpr RankDevice kDevices[] = {RankDevice::kCpu, RankDevice::kGpu};

double added(DType dtype, const std::vector<double>& terms) {
  if (dtype == DType::kF64) {
    double sum = terms[0];
    for (size_t i = 1; i < terms.size(); ++i) sum += terms[i];
    return sum;
  }
  auto sum = static_cast<float>(terms[0]);
  for (size_t i = 1; i < terms.size(); ++i) sum += static_cast<float>(terms[i]);
  return dtype == DType::kBF16 ? to_float(to_bf16(sum)) : sum;
}

TEST(AllGather, PutsPartsInOrderOfRank) {
  for (const Cut& cut : kCuts)
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64, DType::kI32}) {
      RankCase c = all_gather_case(cut);
      c.fill = [](const Tensor&, int64_t rank, View view) {
        for (int64_t i = 0; i < view.num_elements(); ++i) view.set(i, static_cast<double>(rank * 100 + i % 100));
      };
      for (const RankDevice device : kDevices) {
        const RankValues values = run_ranks(c, dtype, device);
        for (const auto& own : values)
          for (size_t rank = 0; rank < values.size(); ++rank) {
            const auto& part = values[rank].at("x");
            for (size_t i = 0; i < part.size(); ++i)
              ASSERT_EQ(own.at("y")[place(cut, static_cast<int64_t>(rank), i)], part[i])
                  << cut.part.to_string() << " " << cut.dimension;
          }
      }
    }
}

TEST(ReduceScatter, AddsInOrderOfRankAndRoundsOnce) {
  for (const Cut& cut : kCuts)
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64})
      for (const RankDevice device : kDevices) {
        const RankValues values = run_ranks(reduce_scatter_case(cut), dtype, device);
        for (size_t rank = 0; rank < values.size(); ++rank)
          for (size_t i = 0; i < static_cast<size_t>(cut.part.num_elements()); ++i) {
            std::vector<double> terms;
            for (const auto& own : values) terms.push_back(own.at("x")[place(cut, static_cast<int64_t>(rank), i)]);
            ASSERT_EQ(values[rank].at("y")[i], added(dtype, terms)) << cut.part.to_string();
          }
      }
}

// In one round and in two; parts of several sizes.
const Shape kSums[] = {{}, {3, 5}, {1, 1024}, {67, 131}};

TEST(AllReduce, AddsInOrderOfRankAndRoundsOnce) {
  for (const int64_t ranks : {1, 2, 3})
    for (const Shape& shape : kSums)
      for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF64})
        for (const RankDevice device : kDevices) {
          const RankValues values = run_ranks(all_reduce_case(ranks, shape), dtype, device);
          for (const auto& own : values)
            for (size_t i = 0; i < own.at("y").size(); ++i) {
              std::vector<double> terms;
              for (const auto& other : values) terms.push_back(other.at("x")[i]);
              ASSERT_EQ(own.at("y")[i], added(dtype, terms)) << shape.to_string() << " of " << ranks;
            }
        }
}

TEST(Collectives, AdjointsAreTheGradients) {
  for (const Cut& cut : {Cut{2, {3, 2, 2}, 1}, Cut{3, {2, 3}, 0}, Cut{3, {2, 1, 2}, 1}, Cut{2, {1, 4, 2}, 1, true}}) {
    expect_rank_gradients(all_gather_case(cut));
    expect_rank_gradients(reduce_scatter_case(cut));
  }
  for (const int64_t ranks : {2, 3}) expect_rank_gradients(all_reduce_case(ranks, {2, 3}));
}

TEST(Collectives, SendWhatTheySay) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const Cut& cut : {Cut{2, {3, 5, 7}, 1}, Cut{3, {3, 5, 7}, 2}, Cut{4, {1, 3, 2}, 1}}) {
      expect_bytes_sent(all_gather_case(cut), dtype);
      expect_bytes_sent(reduce_scatter_case(cut), dtype);
    }
    for (const int64_t ranks : {2, 3, 5})
      for (const Shape& shape : kSums) expect_bytes_sent(all_reduce_case(ranks, shape), dtype);
  }
}

TEST(Collectives, ErrorsNameTheOperand) {
  const auto error = [](const Op& op, const Shape& x, DType dtype) {
    return write_error([&](Builder& b) { b.emit(op, {b.input("x", x, dtype)}); });
  };
  EXPECT_THAT(error(ReduceScatter{{group_of(3, 0), 1}}, {3, 4}, DType::kF32),
              HasSubstr("reduce_scatter.x: got [3, 4] f32; needed a multiple of 3 ranks in dimension 1"));
  EXPECT_THAT(error(ReduceScatter{{group_of(2, 0), 0}}, {4}, DType::kI32),
              HasSubstr("reduce_scatter.x: got [4] i32; needed a float type or i64"));
  EXPECT_THAT(error(AllGather{{group_of(2, 0), 0, true}}, {3, 4}, DType::kF32),
              HasSubstr("all_gather.x: got [3, 4] f32; needed an even number of each rank in dimension 0"));
  EXPECT_THAT(error(AllGather{{group_of(2, 0), 2}}, {3, 4}, DType::kF32),
              HasSubstr("all_gather.dimension: got 2; needed one of x, which has 2"));
  EXPECT_THAT(error(AllGather{{group_of(2, 2), 0}}, {3, 4}, DType::kF32), HasSubstr("all_gather.rank: got 2 of 2"));
}

// Ranks are numbered along the axes of a group, the innermost fastest.
TEST(Collectives, AmongTheRanksOfAGroup) {
  MeshPosition position;
  position[MeshAxis::kShard] = {2, 3};
  position[MeshAxis::kExpert] = {1, 4};
  position[MeshAxis::kExpertTensor] = {1, 2};
  const auto among_axes = [&](std::initializer_list<MeshAxis> axes) {
    const CollectiveAttributes op = among(RankGroup::along(axes), position);
    return std::pair(op.rank, op.ranks);
  };
  EXPECT_EQ(among_axes({MeshAxis::kShard}), std::pair(int64_t{2}, int64_t{3}));
  EXPECT_EQ(among_axes({MeshAxis::kExpertTensor, MeshAxis::kExpert}), std::pair(int64_t{3}, int64_t{8}));
  EXPECT_EQ(among_axes({MeshAxis::kTensor}), std::pair(int64_t{0}, int64_t{1}));
}

}  // namespace
}  // namespace colossus
