#include "train/leaf_balance.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace colossus {
namespace {

constexpr double kSlower = 1.1;

double step_seconds(std::span<const LeafRange> leaves, std::span<const double> seconds) {
  double longest = 0;
  for (size_t i = 0; i < leaves.size(); ++i)
    longest = std::max(longest, static_cast<double>(leaves[i].size()) * seconds[i]);
  return longest;
}

// Of the others: of two ranks it is the other one.
double median_without(std::span<const double> seconds, size_t rank) {
  std::vector<double> others;
  for (size_t i = 0; i < seconds.size(); ++i)
    if (i != rank) others.push_back(seconds[i]);
  const auto middle = others.begin() + static_cast<std::ptrdiff_t>((others.size() - 1) / 2);
  std::nth_element(others.begin(), middle, others.end());
  return *middle;
}

}  // namespace

LeafBalance balance_leaves(int64_t num_leaves, std::span<const LeafRange> now, std::span<const double> seconds) {
  CHECK(now.size() == seconds.size());
  LeafBalance balance;
  if (now.size() < 2) return balance;
  std::vector<double> speeds;
  for (const double each : seconds) speeds.push_back(1 / each);
  std::vector<LeafRange> shares = share_leaves(num_leaves, speeds);
  const bool better = step_seconds(shares, seconds) * kSlower < step_seconds(now, seconds);
  for (size_t i = 0; i < seconds.size(); ++i) {
    const double ratio = seconds[i] / median_without(seconds, i);
    if (ratio <= kSlower) continue;
    balance.slow.push_back(i);
    const LeafRange& leaves = better ? shares[i] : now[i];
    balance.note +=
        fmt::format("{}data rank {} takes {:.2f} times as long for a microbatch as the others: it {} {} of {} leaves",
                    balance.note.empty() ? "" : "; ", i, ratio, better && shares[i] != now[i] ? "gets" : "keeps",
                    leaves.size(), num_leaves);
  }
  if (better && balance.note.empty()) balance.note = "data ranks are equally fast again, and share the leaves anew";
  if (better) balance.leaves = std::move(shares);
  return balance;
}

}  // namespace colossus
