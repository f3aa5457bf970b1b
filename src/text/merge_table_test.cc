#include "text/merge_table.h"

#include <gtest/gtest.h>

#include "base/rng.h"

namespace colossus {
namespace {

// By the definition: find the lowest rank, leftmost, and merge; from the start each time.
std::vector<int32_t> merge_plainly(const MergeTable& table, std::vector<int32_t> symbols) {
  while (true) {
    MergeTable::Merge best;
    size_t at = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const MergeTable::Merge merge = table.find(symbols[i], symbols[i + 1]);
      if (merge.rank < best.rank) best = merge, at = i;
    }
    if (best.rank == MergeTable::kNoRank) return symbols;
    symbols[at] = best.id;
    symbols.erase(symbols.begin() + at + 1);
  }
}

TEST(MergeTable, ShortAndLongPiecesMergeByDefinition) {
  // Ranks are drawn, not trained: chains and rivals that no corpus gives.
  MergeTable table(60);
  const RngKey key{.seed = 5};
  uint64_t draw = 0;
  for (uint32_t rank = 0; rank < 60; ++rank) {
    const int32_t known = 3 + static_cast<int32_t>(rank);
    const int32_t left = static_cast<int32_t>(random_bits(key, draw++) % known);
    const int32_t right = static_cast<int32_t>(random_bits(key, draw++) % known);
    table.insert(left, right, {rank, known});
  }
  for (int length = 0; length < 130; ++length) {
    for (int trial = 0; trial < 20; ++trial) {
      std::vector<int32_t> symbols;
      for (int i = 0; i < length; ++i) symbols.push_back(static_cast<int32_t>(random_bits(key, draw++) % 3));
      const std::vector<int32_t> expected = merge_plainly(table, symbols);
      table.apply(symbols);
      ASSERT_EQ(symbols, expected) << "length " << length;
    }
  }
}

TEST(MergeTable, RefusesAPairTwice) {
  MergeTable table(2);
  EXPECT_TRUE(table.insert(1, 2, {0, 3}));
  EXPECT_FALSE(table.insert(1, 2, {1, 4}));
  EXPECT_TRUE(table.insert(2, 1, {1, 4}));
  EXPECT_EQ(table.find(1, 2).id, 3);
  EXPECT_EQ(table.find(1, 1).rank, MergeTable::kNoRank);
}

}  // namespace
}  // namespace colossus
