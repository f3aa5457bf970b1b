#include "plan/report/assumption_effects.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan/small_question.h"

namespace colossus {
namespace {

// A pod of H100 with one assumption of each sort.
PlanQuestion question_with(const std::vector<Assumption>& assumptions) {
  PlanQuestion question = small_question(Family::kLlama);
  question.cluster = without_assumptions(question.cluster);  // those of its parts are out of the way
  question.cluster.evidence.assumptions = assumptions;
  // Two machines in 60 days: something is to happen to them.
  for (FailureComponent& component : question.cluster.failures.components) component.per_1000_node_days *= 200;
  return question;
}

struct Played {
  JudgedLayout judged;
  AssumptionEffects effects;
};
Played play(const PlanQuestion& question) {
  Layout layout = *read_layout(question, "x", std::vector<std::string>{"tensor=4", "shard=4"});
  Played played{.judged = *judge(question, ready_calibration(), layout), .effects = {}};
  const RunPlan plan = *run_plan_of(question, ready_calibration(), played.judged, 60, 8);
  ThreadPool threads(2, false);
  auto result = play_assumption_effects(question, ready_calibration(), played.judged, plan, 1e12, threads);
  EXPECT_TRUE(result.ok()) << result.status().message();
  if (result.ok()) played.effects = std::move(*result);
  return played;
}

TEST(AssumptionEffects, EveryAssumptionMovesWhatItShould) {
  const Played played = play(question_with({{"network.domain_gb_per_second", 100, 900, "x"},
                                            {"recovery.start_seconds", 10, 3600, "x"},
                                            {"prices.usd_per_kwh", 0.04, 0.4, "x"},
                                            {"racks.gpus_per_rack", 16, 64, "x"}}));
  const AssumptionEffects& effects = played.effects;
  const RunFigures& base = effects.as_assumed;
  EXPECT_EQ(base.step_seconds, played.judged.time.seconds);
  EXPECT_NEAR(base.days, 1e12 / played.judged.tokens_per_second / 86400 / base.useful, 1e-6 * base.days);
  ASSERT_EQ(effects.rows.size(), 3u);
  const AssumptionEffect& network = effects.rows[0];
  EXPECT_GT(network.at[0]->step_seconds, base.step_seconds * 1.01);
  EXPECT_LT(network.at[1]->step_seconds, base.step_seconds);
  EXPECT_EQ(network.at[0]->useful, base.useful);
  const AssumptionEffect& start = effects.rows[1];
  EXPECT_GT(start.at[0]->useful, start.at[1]->useful);
  EXPECT_EQ(start.at[0]->step_seconds, base.step_seconds);
  EXPECT_GT(*start.at[1]->usd, *base.usd);
  const AssumptionEffect& price = effects.rows[2];
  EXPECT_LT(*price.at[0]->usd, *price.at[1]->usd);
  EXPECT_EQ(price.at[1]->useful, base.useful);
  ASSERT_EQ(effects.no_effect.size(), 1u);
  EXPECT_EQ(effects.no_effect[0].path, "racks.gpus_per_rack");
}

TEST(AssumptionEffects, AnEndThatIsRefusedSaysWhy) {
  // A power's load is a share.
  const Played played = play(question_with({{"power.load", 0.5, 7, "x"}}));
  ASSERT_EQ(played.effects.rows.size(), 1u);
  EXPECT_TRUE(played.effects.rows[0].at[0]);
  EXPECT_FALSE(played.effects.rows[0].at[1]);
  EXPECT_NE(played.effects.rows[0].refused[1], "");
}

TEST(Sources, OfAllTablesAreGathered) {
  const auto notes =
      sources_of(*load_config<ClusterConfig>(local_and_ready_files(), "configs/clusters/colossus-200k.toml"));
  const auto has = [&](const std::string& table, const std::string& of) {
    return std::ranges::any_of(notes, [&](const SourceVisitor::Note& note) {
      return note.table == table && note.note.of == of && !note.note.text.empty();
    });
  };
  EXPECT_TRUE(has("", "step time"));
  EXPECT_TRUE(has("racks", "gpus_per_rack, racks_per_array"));
  EXPECT_TRUE(std::ranges::any_of(notes, [](const auto& note) { return note.table.starts_with("pools"); }));
  for (size_t i = 0; i < notes.size(); ++i)
    for (size_t j = 0; j < i; ++j) EXPECT_FALSE(notes[i].table == notes[j].table && notes[i].note == notes[j].note);
}

}  // namespace
}  // namespace colossus
