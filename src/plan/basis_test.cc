#include "plan/basis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "io/config.h"
#include "plan/ready_files.h"

namespace colossus {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Nine runs and nine more, off by 1 to 9 % and, of other kinds of models, by 11 to 19 %.
std::vector<CheckedRun> some_runs() {
  std::vector<CheckedRun> runs;
  for (int i = 1; i <= 9; ++i)
    for (const bool experts : {false, true})
      runs.push_back({.name = "run",
                      .stack = "colossus",
                      .gpu = "H100-SXM",
                      .num_gpus = 1000 + i,
                      .experts = experts,
                      .tokens = 4096,
                      .error = std::expm1((experts ? 0.1 : 0) + 0.01 * i)});
  return runs;
}

PlanQuestion question() {
  PlanQuestion question;
  question.cluster = *load_config<ClusterConfig>(local_and_ready_files(), "configs/clusters/dgx-h100-pod.toml");
  question.model.num_experts = 0;
  return question;
}
Layout layout_on(int64_t gpus) { return {.mesh = {.shard = gpus}, .tokens = 4096}; }

double log_factor(const Basis& basis) { return std::log(basis.factor); }

TEST(Basis, WithinWhatWasCheckedItIsTheNinthOfTenErrors) {
  PlanQuestion asked = question();
  const Basis dense = basis_of(asked, layout_on(1024), some_runs());
  EXPECT_THAT(dense.extrapolates, IsEmpty());
  EXPECT_EQ(dense.num_checked, 9u);
  EXPECT_EQ(dense.like, "of dense models on H100-SXM in bf16");
  EXPECT_NEAR(log_factor(dense), 0.09, 1e-9) << "the ninth of nine";
  EXPECT_NEAR(dense.low(10) * dense.high(10), 100, 1e-9);
  asked.model.num_experts = 8;
  EXPECT_NEAR(log_factor(basis_of(asked, layout_on(1024), some_runs())), 0.19, 1e-9);
}

TEST(Basis, RunsUsedToFitSayNothing) {
  std::vector<CheckedRun> runs = some_runs();
  for (int i = 0; i < 100; ++i) {
    CheckedRun fitted = runs.front();
    fitted.used_to_fit = true;
    fitted.error = 0.0001;
    runs.push_back(fitted);
  }
  const Basis basis = basis_of(question(), layout_on(1024), runs);
  EXPECT_EQ(basis.num_checked, 9u);
  EXPECT_NEAR(log_factor(basis), 0.09, 1e-9);
}

TEST(Basis, OutsideEveryRespectWidensTheRange) {
  const std::vector<CheckedRun> runs = some_runs();
  const PlanQuestion asked = question();
  double before = log_factor(basis_of(asked, layout_on(1024), runs));
  // Of all 18 the 18th smallest, 0.19.
  const double step = std::pow(std::log1p(kTableLeftOut), 2) - 0.19 * 0.19;
  const auto widens = [&](const PlanQuestion& other, const Layout& layout, size_t respects, const char* says) {
    const Basis basis = basis_of(other, layout, runs);
    ASSERT_EQ(basis.extrapolates.size(), respects) << says;
    EXPECT_THAT(basis.extrapolates.back(), HasSubstr(says));
    EXPECT_NEAR(log_factor(basis), std::sqrt(0.0081 + static_cast<double>(respects) * step), 1e-9) << says;
    EXPECT_GT(log_factor(basis), before);
  };
  widens(asked, layout_on(4096), 1, "to 4,096 GPUs: the largest run checked had 1,009");
  Layout longer = layout_on(4096);
  longer.tokens = 16384;
  widens(asked, longer, 2, "to 16,384 tokens a sequence: the longest checked had 4,096");
  PlanQuestion other = asked;
  other.stack.name = "theirs";
  widens(other, longer, 3, "to theirs: all runs checked were of other software");
  EXPECT_THAT(basis_of(asked, layout_on(2000), runs).extrapolates, IsEmpty()) << "less than twice the largest";
}

TEST(Basis, WhatWasNeverCheckedTakesTheFiguresOfAWiderClass) {
  std::vector<CheckedRun> runs = some_runs();
  PlanQuestion asked = question();
  Layout layout = layout_on(1024);
  layout.products = ProductType::kFp8;
  const Basis fp8 = basis_of(asked, layout, runs);
  EXPECT_THAT(fp8.extrapolates, ElementsAre(HasSubstr("to fp8 for dense models on H100-SXM")));
  EXPECT_EQ(fp8.like, "of dense models on H100-SXM");
  asked.cluster.pools[0].gpu.name = "H800-SXM";
  const Basis gpu = basis_of(asked, layout_on(1024), runs);
  EXPECT_THAT(gpu.extrapolates, ElementsAre(HasSubstr("to H800-SXM: no run checked was on this GPU")));
  EXPECT_EQ(gpu.like, "of dense models on all GPUs");
  const Basis nothing = basis_of(asked, layout_on(1024), {});
  EXPECT_EQ(nothing.num_checked, 0u);
  EXPECT_GE(nothing.factor, 1 + kTableLeftOut);
  EXPECT_THAT(basis_sentences(nothing).front(), HasSubstr("no published run"));
}

TEST(Basis, TheClusterSaysWhatWasNeverPublished) {
  PlanQuestion asked = question();
  EXPECT_THAT(basis_of(asked, layout_on(8), some_runs()).notes, IsEmpty());
  asked.cluster = *load_config<ClusterConfig>(local_and_ready_files(), "configs/clusters/colossus-growth.toml");
  EXPECT_THAT(basis_sentences(basis_of(asked, layout_on(8), some_runs())).back(),
              HasSubstr("No step time, efficiency or reliability of a run on Colossus has been published"));
}

TEST(Basis, TheTableOfRunsIsReadBack) {
  PlayedRun played;
  played.name = "a, b";
  played.stack = "x";
  played.gpu = "B200";
  played.run.num_gpus = 64;
  played.run.model.num_experts = 8;
  played.run.layout.tokens = 8192;
  played.run.layout.products = ProductType::kFp8;
  played.run.step_seconds = 10;
  played.time.seconds = 12.5;
  played.run.filled = "microbatch 1; ";
  PlayedRun refused;
  refused.name = "c";
  refused.refused = "why";
  const std::string text =
      csv_record(played_run_columns()) + csv_record(played_run_fields(played)) + csv_record(played_run_fields(refused));
  const auto runs = read_checked_runs(*CsvTable::parse(text, "t.csv"));
  ASSERT_TRUE(runs.ok()) << runs.status().message();
  ASSERT_EQ(runs->size(), 1u);
  const CheckedRun& run = runs->front();
  EXPECT_EQ(run.name, "a, b");
  EXPECT_EQ(run.gpu, "B200");
  EXPECT_EQ(run.num_gpus, 64);
  EXPECT_TRUE(run.experts);
  EXPECT_EQ(run.products, ProductType::kFp8);
  EXPECT_NEAR(run.error, 0.25, 1e-6);
  EXPECT_THAT(read_checked_runs(*CsvTable::parse("name\nx\n", "t.csv")).status().message(),
              HasSubstr("no column stack"));
  std::vector<std::string> fields = played_run_fields(played);
  fields[3] = "many";
  EXPECT_THAT(read_checked_runs(*CsvTable::parse(csv_record(played_run_columns()) + csv_record(fields), "t.csv"))
                  .status()
                  .message(),
              HasSubstr("gpus = \"many\""));
}

}  // namespace
}  // namespace colossus
