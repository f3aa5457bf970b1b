// Random histories: whatever happens, no rank has two owners (checked by FleetWorld), the data axis keeps its minimum,
// the same arguments give the same decision, and once faults stop the run goes on.
#include <gtest/gtest.h>

#include "base/rng.h"
#include "train/recovery/testing.h"

namespace colossus {
namespace {

class History {
 public:
  explicit History(uint64_t seed) : key_{.seed = seed}, shape_(draw_shape()), world_(shape_, draw_policy()) {}

  void play() {
    const double until = 50 + draw(300);
    const int rarely = 5 + draw(40);
    while (world_.now() < until && !testing::Test::HasFailure()) {
      if (draw(rarely) == 0) fault();
      step();
    }
    recover();
  }

  bool stopped() const { return !world_.fleet.stopped.empty(); }
  const std::string& why() const { return world_.fleet.stopped; }
  const FleetShape& shape() const { return shape_; }

 private:
  int draw(int below) { return static_cast<int>(random_bits(key_, drawn_++) % static_cast<uint32_t>(below)); }

  FleetShape draw_shape() {
    for (;;) {
      const FleetShape shape{.ranks_per_machine = 1 << draw(4),
                             .ranks_per_data_rank = 1 << draw(5),
                             .data_ranks = 1 + draw(32),
                             .num_spares = draw(4)};
      const int num_ranks = shape.data_ranks * shape.ranks_per_data_rank;
      if (check(shape).ok() && num_ranks >= 2 && num_ranks <= 64) return shape;
    }
  }

  RecoveryPolicy draw_policy() { return {.start_within_seconds = 60, .min_data_ranks = 1 + draw(shape_.data_ranks)}; }

  // Decides twice from one state: the copy must say the same.
  void step() {
    Fleet before = world_.fleet;
    const Decision decision = world_.tick();
    EXPECT_GE(world_.data_ranks(), world_.policy.min_data_ranks);
    if (print(decision) != "continue") last_ = print(decision) + ": " + decision.actions.front().reason;
    // Nothing was observed in between when the whole tick is repeated from the world's state after it.
    Fleet one = world_.fleet, other = world_.fleet;
    const double later = world_.now() + draw(100);
    const Decision a = decide(world_.policy, one, world_.lease, later),
                   b = decide(world_.policy, other, world_.lease, later);
    EXPECT_EQ(print(a), print(b));
    for (size_t i = 0; i < a.actions.size(); ++i) EXPECT_EQ(a.actions[i].reason, b.actions[i].reason);
    EXPECT_EQ(one.machine_of_slot, other.machine_of_slot);
    EXPECT_EQ(one.generation, other.generation);
  }

  void fault() {
    const int rank = draw(world_.num_ranks()), machine = draw(world_.num_machines());
    switch (draw(10)) {
      case 0:
      case 1: world_.silence(machine); break;
      case 2: world_.hear_again(machine); break;
      case 3: world_.repair(machine); break;
      case 4: world_.end_process(rank, 0, 9); break;
      case 5: world_.end_process(rank, draw(2) == 0 ? 1 : 6, 0); break;
      case 6: world_.hang(rank); break;
      case 7: world_.freeze(rank); break;
      case 8: world_.tell_last_exit_again(); break;
      default: world_.slow_down(machine, 1 + 0.1f * static_cast<float>(draw(4)));
    }
  }

  // Every machine is mended; then there must be new steps, or a stop for a reason that holds without new faults.
  void recover() {
    for (int machine = 0; machine < world_.num_machines(); ++machine) world_.repair(machine);
    const double until = world_.now() + 500;
    int64_t steps = 0;
    for (int64_t before = world_.step(); world_.now() < until && !testing::Test::HasFailure(); before = world_.step()) {
      step();
      // Repairs go on: of machines that ranks were moved away from meanwhile.
      for (int machine = 0; machine < world_.num_machines(); ++machine) {
        const bool out = world_.fleet.machines[static_cast<size_t>(machine)].state == MachineState::kOutOfOrder;
        if (out && world_.now() < until - 200) world_.repair(machine);
      }
      steps = world_.step() > before ? steps + 1 : 0;
    }
    if (!stopped()) {
      EXPECT_GT(steps, 30) << "no progress; last " << last_ << "; now " << world_.tick().actions.front().reason;
      EXPECT_EQ(world_.data_ranks(), shape_.data_ranks) << "it did not grow again";
    }
  }

  const RngKey key_;
  uint64_t drawn_ = 0;
  const FleetShape shape_;
  FleetWorld world_;
  std::string last_;
};

TEST(DecisionProperties, HoldInRandomHistories) {
  constexpr int kHistories = 400;
  int num_stopped = 0;
  for (uint64_t seed = 0; seed < kHistories; ++seed) {
    History history(seed);
    history.play();
    num_stopped += history.stopped() ? 1 : 0;
    ASSERT_FALSE(HasFailure()) << "seed " << seed << ": " << history.shape().ranks_per_machine << " ranks a machine, "
                               << history.shape().ranks_per_data_rank << " a data rank, " << history.shape().data_ranks
                               << " data ranks, " << history.shape().num_spares << " spares";
  }
  // Stopping is right after storms, and no way out otherwise.
  EXPECT_LT(num_stopped, kHistories / 4);
}

}  // namespace
}  // namespace colossus
