#include "tensor/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace colossus {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;

Slice box(std::vector<int64_t> begin, std::vector<int64_t> sizes) {
  Slice slice{.shape = Shape(sizes)};
  std::copy(begin.begin(), begin.end(), slice.begin.begin());
  return slice;
}

MeshPosition position(int64_t tensor, int64_t shard) {
  MeshPosition p;
  p[MeshAxis::kTensor] = {tensor, 2};
  p[MeshAxis::kShard] = {shard, 3};
  return p;
}

TEST(Placement, SaysWhatARankHolds) {
  const Shape whole{6, 8};
  const Placement columns = Placement().cut(MeshAxis::kTensor, 1);
  EXPECT_EQ(local_slice(whole, {}, position(1, 2)), box({0, 0}, {6, 8}));
  EXPECT_EQ(local_slice(whole, columns, position(1, 2)), box({0, 4}, {6, 4}));
  EXPECT_EQ(local_slice(whole, columns.cut(MeshAxis::kShard, 0), position(1, 2)), box({4, 4}, {2, 4}));
  EXPECT_EQ(local_slice(whole, columns.partial(MeshAxis::kShard), position(0, 1)), box({0, 0}, {6, 4}));
  // The second axis cuts what the first left: 4 columns into runs of 1, 1 and 2.
  EXPECT_EQ(local_slice(whole, columns.cut(MeshAxis::kShard, 1), position(1, 2)), box({0, 6}, {6, 2}));
  EXPECT_TRUE(local_slice(whole, Placement().owned(MeshAxis::kShard, 1), position(0, 0)).empty());
  EXPECT_EQ(local_slice(whole, Placement().owned(MeshAxis::kShard, 1), position(0, 1)), box({0, 0}, {6, 8}));
  EXPECT_EQ(columns.partial(MeshAxis::kData).to_string(), "cut(1, tensor) partial(data)");
  EXPECT_EQ(columns.without(MeshAxis::kTensor).to_string(), "copies");
}

TEST(Placement, UnevenCutsLeaveNothingOut) {
  for (int64_t size : {0, 1, 2, 5, 7, 13}) {
    int64_t next = 0;
    for (int64_t i = 0; i < 3; ++i) {
      const Slice slice = local_slice(Shape{size}, Placement().cut(MeshAxis::kShard, 0), position(0, i));
      EXPECT_EQ(slice.begin[0], next);
      next += slice.shape[0];
    }
    EXPECT_EQ(next, size);
  }
}

// Every element of a tensor cut one way arrives where another cut wants it, once, whatever the cuts.
TEST(Placement, RunsMoveATensorBetweenLayouts) {
  const Shape whole{5, 7, 6};
  const std::vector<Placement> layouts = {Placement(), Placement().cut(MeshAxis::kTensor, 2),
                                          Placement().cut(MeshAxis::kTensor, 1).cut(MeshAxis::kShard, 0),
                                          Placement().cut(MeshAxis::kShard, 2).cut(MeshAxis::kTensor, 2),
                                          Placement().owned(MeshAxis::kShard, 2).cut(MeshAxis::kTensor, 0)};
  const auto ranks_of = [](const Placement& placement) {
    std::vector<MeshPosition> ranks;
    for (int64_t t = 0; t < (placement.find(MeshAxis::kTensor) ? 2 : 1); ++t)
      for (int64_t s = 0; s < (placement.find(MeshAxis::kShard) ? 3 : 1); ++s) ranks.push_back(position(t, s));
    return ranks;
  };
  const Slice all{.shape = whole};
  for (const Placement& from : layouts)
    for (const Placement& to : layouts) {
      std::vector<int> arrived(static_cast<size_t>(whole.num_elements()));
      for (const MeshPosition& sender : ranks_of(from)) {
        const Slice source = local_slice(whole, from, sender);
        std::vector<int64_t> contents(static_cast<size_t>(source.shape.num_elements()));  // which element it is
        for_each_common_run(all, source, [&](int64_t in_all, int64_t in_source, int64_t count) {
          std::iota(contents.begin() + in_source, contents.begin() + in_source + count, in_all);
        });
        for (const MeshPosition& receiver : ranks_of(to)) {
          const Slice target = local_slice(whole, to, receiver);
          std::vector<int64_t> wanted(static_cast<size_t>(target.shape.num_elements()));
          for_each_common_run(all, target, [&](int64_t in_all, int64_t in_target, int64_t count) {
            std::iota(wanted.begin() + in_target, wanted.begin() + in_target + count, in_all);
          });
          for_each_common_run(source, target, [&](int64_t in_source, int64_t in_target, int64_t count) {
            for (int64_t i = 0; i < count; ++i) {
              const int64_t element = contents[static_cast<size_t>(in_source + i)];
              EXPECT_EQ(element, wanted[static_cast<size_t>(in_target + i)]);
              ++arrived[static_cast<size_t>(element)];
            }
          });
        }
      }
      EXPECT_THAT(arrived, Each(1)) << from.to_string() << " to " << to.to_string();
    }
}

TEST(Placement, RunsAreAsLongAsTheyCanBe) {
  const auto lengths = [](const Slice& a, const Slice& b) {
    std::vector<int64_t> counts;
    for_each_common_run(a, b, [&](int64_t, int64_t, int64_t count) { counts.push_back(count); });
    return counts;
  };
  const Slice all = box({0, 0, 0}, {4, 3, 5});
  EXPECT_THAT(lengths(all, all), ElementsAre(60));
  EXPECT_THAT(lengths(all, box({1, 0, 0}, {2, 3, 5})), ElementsAre(30));
  EXPECT_THAT(lengths(all, box({1, 1, 0}, {2, 2, 5})), ElementsAre(10, 10));
  EXPECT_THAT(lengths(all, box({0, 2, 1}, {2, 1, 2})), ElementsAre(2, 2));
  EXPECT_TRUE(lengths(box({0, 0, 0}, {1, 3, 5}), box({1, 0, 0}, {2, 3, 5})).empty());
  EXPECT_THAT(lengths(Slice{}, Slice{}), ElementsAre(1));  // scalars
}

// Elements of the whole tensor that a piece holds, in its order.
std::vector<int64_t> elements_of(const Shape& whole, const Piece& piece) {
  std::vector<int64_t> elements(static_cast<size_t>(piece.slice.shape.num_elements()));
  for_each_common_run(Slice{.shape = whole}, piece.slice, [&](int64_t in_whole, int64_t in_slice, int64_t count) {
    std::iota(elements.begin() + in_slice, elements.begin() + in_slice + count, in_whole);
  });
  return {elements.begin() + piece.begin, elements.begin() + piece.end};
}

TEST(Piece, CommonRunsAreWhatBothHoldWhereverTheyBeginAndEnd) {
  const Shape whole{4, 3, 5};
  std::vector<Piece> pieces;
  for (const Slice& slice : {box({0, 0, 0}, {4, 3, 5}), box({1, 0, 0}, {2, 3, 5}), box({0, 1, 0}, {4, 1, 5}),
                             box({0, 0, 2}, {4, 3, 2}), box({1, 1, 1}, {2, 2, 3}), box({2, 0, 4}, {1, 3, 1})}) {
    const int64_t size = slice.shape.num_elements();
    for (int64_t begin = 0; begin <= size; ++begin)
      for (int64_t end = begin; end <= size; end += 1 + (size > 20 ? 6 : 0)) pieces.push_back({slice, begin, end});
  }
  for (size_t i = 0; i < pieces.size(); ++i) {
    const std::vector<int64_t> in_a = elements_of(whole, pieces[i]);
    for (size_t j = i % 23; j < pieces.size(); j += 23) {
      const std::vector<int64_t> in_b = elements_of(whole, pieces[j]);
      std::vector<int64_t> common, expected;
      int64_t next_a = 0, next_b = 0;
      for_each_common_run(pieces[i], pieces[j], [&](int64_t a, int64_t b, int64_t count) {
        ASSERT_TRUE(count > 0 && a >= next_a && b >= next_b);  // rising
        next_a = a + count;
        next_b = b + count;
        ASSERT_LE(next_a, pieces[i].size());
        ASSERT_LE(next_b, pieces[j].size());
        for (int64_t k = 0; k < count; ++k) {
          ASSERT_EQ(in_a[static_cast<size_t>(a + k)], in_b[static_cast<size_t>(b + k)]);
          common.push_back(in_a[static_cast<size_t>(a + k)]);
        }
      });
      std::set_intersection(in_a.begin(), in_a.end(), in_b.begin(), in_b.end(), std::back_inserter(expected));
      ASSERT_EQ(common, expected) << i << " " << j;
    }
  }
}

TEST(Piece, WholePieces) {
  EXPECT_EQ(whole_piece(Shape{3, 4}), (Piece{box({0, 0}, {3, 4}), 0, 12}));
  EXPECT_EQ(whole_piece(box({1, 2}, {2, 2})), (Piece{box({1, 2}, {2, 2}), 0, 4}));
  std::vector<int64_t> counts;
  const auto count_runs = [&](int64_t, int64_t, int64_t count) { counts.push_back(count); };
  for_each_common_run(whole_piece(Shape{}), whole_piece(Shape{}), count_runs);  // scalars
  for_each_common_run(whole_piece(Shape{0, 3}), whole_piece(Shape{0, 3}), count_runs);
  EXPECT_THAT(counts, ElementsAre(1));
}

// A flat range of a tensor with many rows: the rows it does not touch cost nothing.
TEST(Piece, OneRunWhereThePiecesLieTogether) {
  const Shape whole{int64_t{1} << 40, 7};
  const Slice columns = box({0, 1}, {int64_t{1} << 40, 3});
  std::vector<std::array<int64_t, 3>> runs;
  for_each_common_run(Piece{Slice{.shape = whole}, 7'000'005, 7'000'020}, Piece{columns, 2'999'999, 3'000'007},
                      [&](int64_t a, int64_t b, int64_t count) {
                        runs.push_back({a, b, count});
                      });
  EXPECT_THAT(runs, ElementsAre(std::array<int64_t, 3>{3, 4, 3}, std::array<int64_t, 3>{10, 7, 1}));
}

TEST(PlacementDeathTest, AnAxisDoesOneThing) {
  EXPECT_DEATH(Placement().cut(MeshAxis::kTensor, 0).partial(MeshAxis::kTensor), "one thing");
  EXPECT_DEATH(local_slice(Shape{2}, Placement().cut(MeshAxis::kTensor, 1), {}), "not there");
}

}  // namespace
}  // namespace colossus
