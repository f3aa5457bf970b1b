#include "device/sim/collective_steps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "device/sim/network_testing.h"

namespace colossus {
namespace {

// Plays the steps: of every chunk at every endpoint, whose terms are in it. Counts what is sent and got.
class Play {
 public:
  explicit Play(int64_t num_chunks) : num_chunks_(num_chunks), held_(static_cast<size_t>(2 * kGpus * num_chunks)) {}

  void hold(int64_t at, int64_t chunk, uint64_t terms) { terms_of(at, chunk) = terms; }
  void run(const std::vector<CollectiveStep>& steps) {
    for (const CollectiveStep& step : steps) {
      const uint64_t from = terms_of(step.from, step.chunk);
      uint64_t& to = terms_of(step.to, step.chunk);
      ASSERT_NE(from, 0u) << step.from << " sends a chunk it does not have: " << step.chunk;
      ASSERT_TRUE(!step.add || (to & from) == 0) << "a term is added twice, at " << step.to;
      to = step.add ? to | from : from;
      sent_[step.from] += step.bytes;
      got_[step.to] += step.bytes;
    }
  }
  uint64_t terms(int64_t at, int64_t chunk) { return terms_of(at, chunk); }
  double sent(int64_t gpu) { return sent_[gpu]; }
  double got(int64_t gpu) { return got_[gpu]; }

 private:
  static constexpr int64_t kGpus = 64;
  uint64_t& terms_of(int64_t at, int64_t chunk) {
    const int64_t place = at >= 0 ? at : kGpus - 1 - at;
    return held_[static_cast<size_t>(place * num_chunks_ + chunk)];
  }

  int64_t num_chunks_;
  std::vector<uint64_t> held_;
  std::map<int64_t, double> sent_;
  std::map<int64_t, double> got_;
};

uint64_t all_terms(size_t n) { return n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1; }

// Groups on domains of eight: whole ones, one or three members in each, an uneven end, one domain.
std::vector<std::vector<int64_t>> groups() {
  std::vector<std::vector<int64_t>> out = {first_gpus(8), first_gpus(16), first_gpus(24), first_gpus(32),
                                           first_gpus(2)};
  out.push_back(MeshGroup{.first = 3, .axes = {{.size = 7, .stride = 8}}}.gpus());
  out.push_back(MeshGroup{.first = 1, .axes = {{.size = 5, .stride = 8}, {.size = 3, .stride = 1}}}.gpus());
  out.push_back(first_gpus(21));
  return out;
}

int64_t num_chunks(const std::vector<CollectiveStep>& steps) {
  int64_t chunks = 0;
  for (const CollectiveStep& step : steps) chunks = std::max(chunks, step.chunk + 1);
  return chunks;
}

TEST(CollectiveSteps, AllReduceGivesAllTheWholeSum) {
  for (const auto& gpus : groups()) {
    for (const auto& steps : {ring_steps(CollectiveKind::kAllReduce, gpus, 8, 1e6), tree_steps(gpus, 8, 1e6),
                              in_switch_steps(gpus, 8, 1e6)}) {
      Play play(num_chunks(steps));
      for (size_t i = 0; i < gpus.size(); ++i) {
        for (int64_t chunk = 0; chunk < num_chunks(steps); ++chunk) play.hold(gpus[i], chunk, uint64_t{1} << i);
      }
      // A switch adds into nothing, and a head takes its domain's sum instead of its own term.
      play.run(steps);
      for (const int64_t gpu : gpus) {
        for (int64_t chunk = 0; chunk < num_chunks(steps); ++chunk) {
          ASSERT_EQ(play.terms(gpu, chunk), all_terms(gpus.size())) << gpu << " of " << gpus.size();
        }
      }
    }
  }
}

TEST(CollectiveSteps, RingsGatherAndScatter) {
  for (const auto& gpus : groups()) {
    const auto gather = ring_steps(CollectiveKind::kAllGather, gpus, 8, 1e6);
    const int64_t channels = num_chunks(gather) / static_cast<int64_t>(gpus.size());
    Play gathered(num_chunks(gather));
    for (int64_t chunk = 0; chunk < num_chunks(gather); ++chunk) {
      gathered.hold(gpus[static_cast<size_t>(chunk / channels)], chunk, 1);
    }
    gathered.run(gather);
    for (const int64_t gpu : gpus) {
      for (int64_t chunk = 0; chunk < num_chunks(gather); ++chunk) ASSERT_EQ(gathered.terms(gpu, chunk), 1u);
    }
    const auto scatter = ring_steps(CollectiveKind::kReduceScatter, gpus, 8, 1e6);
    Play scattered(num_chunks(scatter));
    for (size_t i = 0; i < gpus.size(); ++i) {
      for (int64_t chunk = 0; chunk < num_chunks(scatter); ++chunk) scattered.hold(gpus[i], chunk, uint64_t{1} << i);
    }
    scattered.run(scatter);
    for (int64_t chunk = 0; chunk < num_chunks(scatter); ++chunk) {
      ASSERT_EQ(scattered.terms(gpus[static_cast<size_t>(chunk / channels)], chunk), all_terms(gpus.size()));
    }
    // What a rank sends is what the operation is defined to send, whatever the group, and what it gets.
    for (const int64_t gpu : gpus) {
      const auto n = static_cast<int64_t>(gpus.size());
      EXPECT_NEAR(gathered.sent(gpu), bytes_sent_of_size(CollectiveKind::kAllGather, 1e6, n), 1e-3);
      EXPECT_NEAR(gathered.got(gpu), gathered.sent(gpu), 1e-3);
      EXPECT_NEAR(scattered.sent(gpu), bytes_sent_of_size(CollectiveKind::kReduceScatter, 1e6, n), 1e-3);
      EXPECT_NEAR(scattered.got(gpu), scattered.sent(gpu), 1e-3);
    }
  }
}

TEST(CollectiveSteps, AllToAllBringsEverythingWhereItBelongs) {
  for (const bool rails : {false, true}) {
    NetworkSpec spec = h100_network();
    spec.rail_optimized = rails;
    for (const auto& gpus : groups()) {
      const auto n = static_cast<int64_t>(gpus.size());
      const auto steps = all_to_all_steps(spec, gpus, 1e6);
      Play play(n * n);
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < n; ++j) play.hold(gpus[static_cast<size_t>(i)], i * n + j, uint64_t{1} << i);
      }
      play.run(steps);
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          ASSERT_EQ(play.terms(gpus[static_cast<size_t>(j)], i * n + j), uint64_t{1} << i) << i << " to " << j;
        }
      }
      if (!rails) continue;
      for (const CollectiveStep& step : steps) {
        EXPECT_TRUE(step.from / 8 == step.to / 8 || step.from % 8 == step.to % 8) << "crosses rails in the network";
      }
    }
  }
}

// Who is within one tree is a leaf of the other: so no domain sends more than twice the sum, nor a third one's more.
TEST(CollectiveSteps, TreesShareTheWork) {
  for (const int64_t domains : {2, 3, 4, 5, 8, 16, 31, 32}) {
    const auto gpus = MeshGroup{.axes = {{.size = domains, .stride = 8}}}.gpus();
    std::map<int64_t, double> sent;
    for (const CollectiveStep& step : tree_steps(gpus, 8, 1.0)) sent[step.from] += step.bytes;
    double most = 0;
    for (const auto& [gpu, bytes] : sent) most = std::max(most, bytes);
    EXPECT_DOUBLE_EQ(most, domains == 2 ? 1 : domains == 3 ? 1.5 : 2) << domains;
  }
}

TEST(CollectiveSteps, FlowsAreAllThatIsSentBetweenTwo) {
  const auto steps = ring_steps(CollectiveKind::kAllReduce, first_gpus(16), 8, 1e6);
  double sum = 0;
  for (const CollectiveStep& step : steps) sum += step.bytes;
  double flowing = 0;
  for (const NetworkFlow& flow : flows_of(steps)) {
    EXPECT_NE(flow.from, flow.to);
    flowing += flow.bytes;
  }
  EXPECT_NEAR(flowing, sum, 1e-3);
  EXPECT_NEAR(sum, 16 * bytes_sent_of_size(CollectiveKind::kAllReduce, 1e6, 16), 1e-3);
}

}  // namespace
}  // namespace colossus
