#include "plan/validation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "io/config.h"
#include "plan/basis.h"
#include "plan/ready_files.h"

namespace colossus {
namespace {

struct Played {
  std::vector<PlayedRun> fitted, checked;
};
const Played& all_runs() {
  static const Played played = [] {
    FileSystem& files = local_and_ready_files();
    const Calibration calibration = *load_config<Calibration>(files, "configs/calibration.toml");
    const std::string path = "configs/validation/training_runs.csv";
    const CsvTable table = *CsvTable::parse(*read_file(files, path), path);
    Played result;
    for (size_t row = 0; row < table.num_rows(); ++row) {
      const PlayedRun run = RunToPlay::create(table, row, calibration, files, "configs/clusters").play(calibration);
      if (run.refused.empty()) (run.used_to_fit ? result.fitted : result.checked).push_back(run);
    }
    return result;
  }();
  return played;
}

// What docs/accuracy.md says, with a little room: whoever changes the simulator sees here what it does to it.
TEST(Validation, PublishedRunsAreMetAsWellAsIsSaid) {
  const ValidationSummary fitted = summarize(all_runs().fitted), checked = summarize(all_runs().checked);
  EXPECT_GT(fitted.rows, 200u);
  EXPECT_GT(checked.rows, 200u);
  EXPECT_LT(fitted.mean_error, 0.05);
  EXPECT_LT(checked.mean_error, 0.07);
}

// The error bars of `colossus plan` come from this table. After a change of the simulator or of its calibration:
//   colossus plan --validate --csv configs/validation/training_errors.csv
TEST(Validation, TheTableOfErrorsIsOfThisSimulator) {
  const auto table = load_checked_runs(local_and_ready_files());
  ASSERT_TRUE(table.ok()) << table.status().message();
  std::map<std::string, CheckedRun> by_name;
  for (const CheckedRun& run : *table) by_name[run.name] = run;
  size_t runs = 0;
  for (const auto* played : {&all_runs().fitted, &all_runs().checked})
    for (const PlayedRun& run : *played) {
      SCOPED_TRACE(run.name);
      ++runs;
      const auto found = by_name.find(run.name);
      ASSERT_NE(found, by_name.end());
      EXPECT_NEAR(found->second.error, run.error(), 2e-3);
      EXPECT_EQ(found->second.gpu, run.gpu);
      EXPECT_EQ(found->second.used_to_fit, run.used_to_fit);
      EXPECT_EQ(found->second.num_gpus, run.run.num_gpus);
      EXPECT_EQ(found->second.tokens, run.run.layout.tokens);
      EXPECT_EQ(found->second.experts, run.run.model.num_experts > 0);
    }
  EXPECT_EQ(table->size(), runs);
}

// Our own programs on the cores of one machine (bench/own_runs.py), one to eight ranks.
TEST(Validation, OurOwnRunsAreMetAsWellAsIsSaid) {
  FileSystem& files = local_and_ready_files();
  const Calibration calibration = *load_config<Calibration>(files, "configs/calibration.toml");
  const std::string path = "configs/validation/own_runs.csv";
  const CsvTable table = *CsvTable::parse(*read_file(files, path), path);
  std::vector<PlayedRun> fitted, checked;
  for (size_t row = 0; row < table.num_rows(); ++row) {
    const PlayedRun run = RunToPlay::create(table, row, calibration, files, "configs/clusters").play(calibration);
    EXPECT_EQ(run.refused, "") << run.name;
    EXPECT_EQ(run.stack, "colossus");
    EXPECT_EQ(run.used_to_fit, table.at(row, "fit") == "yes");
    (run.used_to_fit ? fitted : checked).push_back(run);
  }
  EXPECT_GE(checked.size(), 3 * fitted.size());
  EXPECT_LT(summarize(checked).mean_error, 0.13);
}

TEST(Validation, HalfOfTheRowsAreUsedToFit) {
  size_t fitted = 0;
  for (int i = 0; i < 1000; ++i) fitted += is_used_to_fit("source-" + std::to_string(i));
  EXPECT_NEAR(static_cast<double>(fitted), 500, 60);
}

TEST(Validation, TheNinthOfTenErrorsIsTheWorstDecile) {
  std::vector<PlayedRun> runs(11);
  for (size_t i = 0; i < 10; ++i) {
    runs[i].run.step_seconds = 1;
    runs[i].time.seconds = 1 + 0.01 * static_cast<double>(i + 1) * (i % 2 == 0 ? 1 : -1);
  }
  runs[10].refused = "why";
  const ValidationSummary summary = summarize(runs);
  EXPECT_EQ(summary.rows, 11u);
  EXPECT_EQ(summary.refused, 1u);
  EXPECT_NEAR(summary.mean_error, 0.055, 1e-12);
  EXPECT_NEAR(summary.worst_decile, 0.09, 1e-12);
}

}  // namespace
}  // namespace colossus
