#include "cli/plan_validate.h"

#include <fmt/format.h>

#include <cstdio>
#include <vector>

#include "cli/plan_question.h"
#include "cli/text_table.h"
#include "io/config.h"
#include "plan/basis.h"
#include "plan/ready_files.h"

namespace colossus {
namespace {

constexpr const char* kClusters = "configs/clusters";
constexpr const char* kPublishedRuns = "configs/validation/training_runs.csv";

void print_run(const PlayedRun& played, const std::string& path) {
  if (!played.refused.empty()) {
    std::printf("%-46s refused: [%s:%d] %s\n", played.name.c_str(), path.c_str(), played.line, played.refused.c_str());
    return;
  }
  const double tokens = static_cast<double>(played.run.layout.batch * played.run.layout.tokens);
  std::printf("%-46s %-22s %6lld %8.3f s %8.3f s %9.1f %9s %+7.1f %%%s\n", played.name.c_str(), played.stack.c_str(),
              static_cast<long long>(played.run.num_gpus), played.run.step_seconds, played.time.seconds,
              model_flops_of_step(played.run.model, played.run.layout) /
                  (played.time.seconds * static_cast<double>(played.run.num_gpus)) * 1e-12,
              format_quantity(tokens / played.time.seconds).c_str(), 100 * played.error(),
              played.run.filled.empty() ? "" : ("   filled: " + played.run.filled).c_str());
}

void print_summary(const char* what, const std::vector<PlayedRun>& runs) {
  const ValidationSummary s = summarize(runs);
  std::printf("%srows %zu, refused %zu, mean |error| %.1f %%, 90th percentile %.1f %%\n", what, s.rows, s.refused,
              100 * s.mean_error, 100 * s.worst_decile);
}

}  // namespace

Status validate_plan(const std::string& given, const std::optional<std::string>& csv) {
  FileSystem& files = local_and_ready_files();
  const std::string path = given.empty() ? kPublishedRuns : given;
  ASSIGN_OR_RETURN(const Calibration calibration, load_config<Calibration>(files, kCalibration));
  ASSIGN_OR_RETURN(const std::string text, read_file(files, path, int64_t{64} << 20));
  ASSIGN_OR_RETURN(const CsvTable table, CsvTable::parse(text, path));
  for (const char* column : {"name", "gpu", "count", "layers", "hidden", "global_batch", "seq"})
    if (!table.has_column(column))
      return invalid(
          fmt::format("[{}:1] no column {}; needed are those of configs/validation/training_runs.csv", path, column));
  if (!csv)
    std::printf("%-46s %-22s %6s %10s %10s %9s %9s %8s\n", "run", "stack", "GPUs", "published", "predicted", "TFLOP/s",
                "tokens/s", "error");
  std::vector<PlayedRun> all, fitted, checked;
  TextTable played_runs{.header = played_run_columns(), .rows = {}};
  for (size_t row = 0; row < table.num_rows(); ++row) {
    const PlayedRun played = RunToPlay::create(table, row, calibration, files, kClusters).play(calibration);
    played_runs.rows.push_back(played_run_fields(played));
    if (!csv) print_run(played, path);
    all.push_back(played);
    if (played.refused.empty()) (played.used_to_fit ? fitted : checked).push_back(played);
  }
  if (csv) return write_csv(played_runs, *csv);
  std::printf("\n");
  if (given.empty() || table.has_column("fit")) {
    print_summary("used to fit: ", fitted);
    print_summary("only checked: ", checked);
  }
  print_summary("", all);
  return ok_status();
}

}  // namespace colossus
