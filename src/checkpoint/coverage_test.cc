#include "checkpoint/coverage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "base/rng.h"

namespace colossus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Slice box(std::vector<int64_t> begin, std::vector<int64_t> sizes) {
  Slice slice{.shape = Shape(std::span<const int64_t>(sizes))};
  std::copy(begin.begin(), begin.end(), slice.begin.begin());
  return slice;
}

// By counting: what find_coverage_fault should say.
std::optional<CoverageFault> counted(const Shape& whole, std::span<const Piece> pieces) {
  std::vector<std::vector<size_t>> holders(static_cast<size_t>(whole.num_elements()));
  for (size_t i = 0; i < pieces.size(); ++i)
    for_each_common_run(whole_piece(whole), pieces[i], [&](int64_t at, int64_t, int64_t count) {
      for (int64_t k = 0; k < count; ++k) holders[static_cast<size_t>(at + k)].push_back(i);
    });
  for (size_t e = 0; e < holders.size(); ++e) {
    if (holders[e].size() == 1) continue;
    CoverageFault fault{.element = std::vector<int64_t>(static_cast<size_t>(whole.rank())), .holders = holders[e]};
    auto rest = static_cast<int64_t>(e);
    for (int d = whole.rank() - 1; d >= 0; --d) {
      fault.element[static_cast<size_t>(d)] = rest % whole[d];
      rest /= whole[d];
    }
    return fault;
  }
  return std::nullopt;
}

void expect_counted(const Shape& whole, std::span<const Piece> pieces) {
  const auto found = find_coverage_fault(whole, pieces), expected = counted(whole, pieces);
  ASSERT_EQ(found.has_value(), expected.has_value()) << whole.to_string();
  if (!found) return;
  EXPECT_EQ(found->element, expected->element);
  EXPECT_EQ(found->holders, expected->holders);
}

// Cuts a slice in two, again and again, along dimensions or as flat ranges.
void cut_at_random(const Piece& piece, uint64_t seed, uint64_t& next, int depth, std::vector<Piece>& pieces) {
  const uint64_t dice = random_bits({.seed = seed}, next++);
  const auto pick = [&](int64_t size) { return static_cast<int64_t>((dice >> 8) % static_cast<uint64_t>(size)); };
  if (depth == 0 || piece.size() < 2) return pieces.push_back(piece);
  Piece first = piece, second = piece;
  const bool is_slice = piece.size() == piece.slice.shape.num_elements();
  const int d = static_cast<int>(dice % static_cast<uint64_t>(piece.slice.shape.rank()));
  if (const int64_t size = piece.slice.shape[d]; is_slice && dice % 8 < 6 && size > 1) {
    const int64_t at = 1 + pick(size - 1);
    Slice low = piece.slice, high = piece.slice;
    low.shape = low.shape.with(d, at);
    high.begin[static_cast<size_t>(d)] += at;
    high.shape = high.shape.with(d, size - at);
    first = whole_piece(low);
    second = whole_piece(high);
  } else {
    first.end = second.begin = piece.begin + 1 + pick(piece.size() - 1);
  }
  cut_at_random(first, seed, next, depth - 1, pieces);
  cut_at_random(second, seed, next, depth - 1, pieces);
}

TEST(Coverage, SaysWhatCountingSays) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const Shape shapes[] = {Shape{30}, Shape{6, 5}, Shape{4, 3, 5}, Shape{2, 3, 2, 4}};
    const Shape whole = shapes[seed % 4];
    uint64_t next = 0;
    std::vector<Piece> pieces;
    cut_at_random(whole_piece(whole), seed, next, 4, pieces);
    ASSERT_FALSE(find_coverage_fault(whole, pieces).has_value()) << seed;
    expect_counted(whole, pieces);
    // Each left out, twice there, a little longer, a little shorter.
    for (size_t i = 0; i < pieces.size(); ++i) {
      std::vector<Piece> wrong = pieces;
      wrong.erase(wrong.begin() + static_cast<std::ptrdiff_t>(i));
      ASSERT_TRUE(find_coverage_fault(whole, wrong).has_value());
      expect_counted(whole, wrong);
      wrong = pieces;
      wrong.push_back(pieces[i]);
      ASSERT_TRUE(find_coverage_fault(whole, wrong).has_value());
      expect_counted(whole, wrong);
      for (const int64_t change : {-1, 1}) {
        wrong = pieces;
        wrong[i].end += change;
        if (!check_piece(whole, wrong[i]).ok()) continue;
        ASSERT_TRUE(find_coverage_fault(whole, wrong).has_value());
        expect_counted(whole, wrong);
      }
    }
  }
}

TEST(Coverage, ScalarsAndNothing) {
  const Piece scalar = whole_piece(Shape{});
  EXPECT_FALSE(find_coverage_fault(Shape{}, std::vector{scalar}).has_value());
  EXPECT_THAT(find_coverage_fault(Shape{}, {})->holders, IsEmpty());
  EXPECT_THAT(find_coverage_fault(Shape{}, std::vector{scalar, scalar})->holders, ElementsAre(0, 1));
  EXPECT_FALSE(find_coverage_fault(Shape{3, 0, 2}, {}).has_value());
  EXPECT_THAT(find_coverage_fault(Shape{3, 2}, {})->element, ElementsAre(0, 0));
}

// Sizes cost nothing: a tensor of 2^60 elements in 4096 flat ranges.
TEST(Coverage, OfAHugeTensorInManyPieces) {
  const Shape whole{int64_t{1} << 30, int64_t{1} << 30};
  const int64_t n = 4096, total = whole.num_elements(), step = total / n - 12345;
  std::vector<Piece> pieces;
  for (int64_t i = 0; i < n; ++i)
    pieces.push_back({Slice{.shape = whole}, i * step, i == n - 1 ? total : (i + 1) * step});
  EXPECT_FALSE(find_coverage_fault(whole, pieces).has_value());
  ++pieces[77].begin;
  const auto fault = find_coverage_fault(whole, pieces);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->element[0] * whole[1] + fault->element[1], 77 * step);
  EXPECT_THAT(fault->holders, IsEmpty());
}

TEST(Coverage, ShapesAndPiecesOutOfRange) {
  constexpr int64_t kHuge = int64_t{1} << 40;
  EXPECT_TRUE(check_shape(Shape{}).ok());
  EXPECT_TRUE(check_shape(Shape{0, 5}).ok());
  EXPECT_TRUE(check_shape(Shape{int64_t{1} << 59}).ok());
  EXPECT_FALSE(check_shape(Shape{int64_t{1} << 60}).ok());
  EXPECT_FALSE(check_shape(Shape{0, kHuge, kHuge}).ok());
  EXPECT_FALSE(check_shape(Shape{3, -1}).ok());

  const Shape whole{4, 6};
  EXPECT_TRUE(check_piece(whole, whole_piece(box({1, 2}, {3, 4}))).ok());
  EXPECT_TRUE(check_piece(whole, {box({1, 2}, {3, 4}), 12, 12}).ok());
  EXPECT_THAT(check_piece(whole, whole_piece(box({1, 3}, {3, 4}))).message(), HasSubstr("[3, 4] at [1, 3]"));
  EXPECT_FALSE(check_piece(whole, whole_piece(box({-1, 2}, {3, 4}))).ok());
  EXPECT_FALSE(check_piece(whole, whole_piece(box({INT64_MAX, 2}, {3, 4}))).ok());
  EXPECT_FALSE(check_piece(whole, {box({0, 0}, {-3, -4}), 0, 12}).ok());
  EXPECT_FALSE(check_piece(whole, whole_piece(box({1}, {3}))).ok());
  EXPECT_FALSE(check_piece(whole, {box({1, 2}, {3, 4}), 0, 13}).ok());
  EXPECT_FALSE(check_piece(whole, {box({1, 2}, {3, 4}), -1, 3}).ok());
  EXPECT_FALSE(check_piece(whole, {box({1, 2}, {3, 4}), 4, 3}).ok());
}

}  // namespace
}  // namespace colossus
