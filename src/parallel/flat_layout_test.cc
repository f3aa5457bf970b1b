#include "parallel/flat_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/grad_norm/grad_norm.h"

namespace colossus {
namespace {

std::vector<FlatTensor> some_tensors() {
  return {{.name = "table", .shape = {300, 70}},
          {.name = "norm", .shape = {70}},
          {.name = "q", .shape = {70, 70}, .whole_matrices = true},
          {.name = "experts", .shape = {5, 70, 33}, .whole_matrices = true},
          {.name = "scalar", .shape = {}},
          {.name = "head", .shape = {300, 70}}};
}

TEST(FlatLayout, TensorsLieOneAfterAnotherOnCacheLines) {
  const auto buckets = make_buckets(some_tensors(), 20000);
  ASSERT_EQ(buckets.size(), 2u);  // a bucket is full when it has 20,000, not before
  std::vector<std::string> names;
  for (const Bucket& bucket : buckets) {
    int64_t end = 0;
    for (const FlatTensor& tensor : bucket.tensors) {
      names.push_back(tensor.name);
      EXPECT_EQ(tensor.offset % 16, 0);
      EXPECT_GE(tensor.offset, end);
      EXPECT_LT(tensor.offset - end, 16);
      end = tensor.end();
    }
    EXPECT_GE(bucket.size, end);
    EXPECT_EQ(bucket.size % 16, 0);
  }
  EXPECT_THAT(names, testing::ElementsAre("table", "norm", "q", "experts", "scalar", "head"));
}

TEST(FlatLayout, PiecesAreCutWhereNoBitChanges) {
  for (const int64_t bucket_elements : {int64_t{1}, int64_t{20000}, int64_t{1} << 40})
    for (const Bucket& bucket : make_buckets(some_tensors(), bucket_elements))
      for (const int64_t count : {1, 2, 3, 7, 40}) {
        const auto pieces = bucket.cut(count);
        ASSERT_EQ(static_cast<int64_t>(pieces.size()), count);
        EXPECT_EQ(pieces.front().begin, 0);
        EXPECT_EQ(pieces.back().end, bucket.size);
        for (size_t p = 0; p < pieces.size(); ++p) {
          EXPECT_GE(pieces[p].size(), 0);
          EXPECT_EQ(pieces[p].begin, p > 0 ? pieces[p - 1].end : 0);
        }
        for (size_t i = 0; i < bucket.tensors.size(); ++i) {
          const FlatTensor& tensor = bucket.tensors[i];
          const int64_t unit = tensor.whole_matrices ? tensor.shape[-2] * tensor.shape[-1] : kSumOfSquaresBlock;
          int64_t covered = 0;
          for (const ElementRange& piece : pieces) {
            const ElementRange part = bucket.part(i, piece);
            covered += part.size();
            if (part.size() == 0) continue;
            EXPECT_EQ(part.begin % unit, 0) << tensor.name;
            EXPECT_TRUE(part.end == tensor.size() || part.end % unit == 0) << tensor.name;
          }
          EXPECT_EQ(covered, tensor.size()) << tensor.name;
        }
      }
}

TEST(FlatLayout, PiecesAreNearlyEqual) {
  const std::vector<FlatTensor> tensors = {{.name = "a", .shape = {1000, 1024}}, {.name = "b", .shape = {77, 4096}}};
  const auto buckets = make_buckets(tensors, int64_t{1} << 40);
  for (const int64_t count : {2, 3, 8, 16})
    for (const ElementRange& piece : buckets.front().cut(count))
      EXPECT_NEAR(static_cast<double>(piece.size()), static_cast<double>(buckets.front().size / count),
                  kSumOfSquaresBlock);
}

}  // namespace
}  // namespace colossus
