#include "train/recovery/run_records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace colossus {
namespace {

TEST(RunRecords, AReportIsReadAsItIsWritten) {
  const MachineReport report{
      .incarnation = "node-1.7.8",
      .beat = 40,
      .stop_requested = true,
      .ranks = {{.process = 3,
                 .heartbeat = {.beat = 9, .generation = 4, .step = 17, .progress = 900, .waits_in = "all_gather"},
                 .broken_in = 4,
                 .words = "lost rank 1:  closed",
                 .wrong_ranks = {1, 17}},
                {.process = 2,
                 .heartbeat = {},
                 .finished_in = 4,
                 .ended = true,
                 .code = 0,
                 .signal = 9,
                 .words = {},
                 .wrong_ranks = {}},
                {.heartbeat = {}, .words = {}, .wrong_ranks = {}}}};
  const MachineReport read = parse_report(print_report(report)).value();
  EXPECT_EQ(read.incarnation, "node-1.7.8");
  EXPECT_EQ(read.beat, 40);
  EXPECT_TRUE(read.stop_requested);
  EXPECT_TRUE(read.ranks == report.ranks);
  for (const char* wrong :
       {"", "machine a", "machine a 1 0\nrank 1 2", "machine a 1 0\nwords x", "machine a 1 0\nwrong 1", "else\n"})
    EXPECT_EQ(parse_report(wrong).status().code(), ErrorCode::kCorrupt) << wrong;
}

TEST(RunRecords, AnAssignmentThatContradictsItselfIsRefused) {
  Assignment a{.term = 3,
               .generation = 5,
               .phase = RunPhase::kGivenUp,
               .reason = "rank 1 (my node) failed",
               .shape = {.ranks_per_machine = 2, .ranks_per_data_rank = 1, .data_ranks = 4, .num_spares = 1},
               .data = 1,
               .shard = 4,
               .machine_of_slot = {2, -1},
               .machines = {{"a", "a.1", MachineState::kOutOfOrder, 2},
                            {"b c", "", MachineState::kSpare, 0},
                            {"d", "d.1", MachineState::kInRun, 0}},
               .processes = {},
               .restarts = {{1, {3.5, 2}}},
               .replaced = {{0, 7}},
               .num_fruitless = 1,
               .best_step = 12};
  a.processes = RangeMap<int64_t>(4, 0);
  a.processes.assign(1, 2, 5);
  const std::string text = print_assignment(a);
  const Assignment read = parse_assignment(text).value();
  EXPECT_EQ(print_assignment(read), text);
  EXPECT_EQ(read.reason, a.reason);
  EXPECT_EQ(read.machines[1].name, "b c");
  EXPECT_EQ(read.processes.at(1), 5);
  EXPECT_EQ(read.restarts.at(1).size(), 2u);
  EXPECT_EQ(read.membership(), std::nullopt) << "a slot is vacant";
  const auto without = [&](const std::string& from, const std::string& to) {
    std::string other = text;
    other.replace(other.find(from), from.size(), to);
    return parse_assignment(other).status();
  };
  EXPECT_FALSE(without("slots 2 -1", "slots 3 -1").ok());
  EXPECT_FALSE(without("slots 2 -1", "slots 2").ok());
  EXPECT_FALSE(without("processes 1 2 5\n", "").ok());
  EXPECT_FALSE(without("machine 1", "machine 7").ok());
  EXPECT_FALSE(without("given_up", "given").ok());
  EXPECT_FALSE(without("generation 3", "generation 0").ok());
}

TEST(RunRecords, APartOfAStoreIsApart) {
  const auto store = make_memory_store();
  const auto one = part_of_store(*store, "one"), two = part_of_store(*store, "two");
  ASSERT_TRUE(one->set("key", "1").ok());
  EXPECT_EQ(two->get("key").value(), std::nullopt);
  EXPECT_TRUE(two->compare_and_set("key", std::nullopt, "2").value());
  EXPECT_EQ(store->get("one/key").value(), "1");
  ASSERT_TRUE(one->remove("key").ok());
  EXPECT_EQ(two->get("key").value(), "2");
}

}  // namespace
}  // namespace colossus
