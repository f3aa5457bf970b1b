// What a predicted step time rests on: the published runs that were played for comparison (docs/accuracy.md), how well
// the like of the question were met, and in which respects the question lies outside all of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/csv.h"
#include "io/file_system.h"
#include "plan/question.h"
#include "plan/validation.h"

namespace colossus {

// A published run beside what was predicted of it: a row of configs/validation/training_errors.csv.
struct CheckedRun {
  std::string name, stack;
  std::string gpu;  // the GpuSpec it was played on
  int64_t num_gpus = 0;
  bool experts = false;
  ProductType products = ProductType::kBF16;
  int64_t tokens = 0;  // of a sequence
  bool used_to_fit = false;
  double error = 0;  // predicted / published - 1
};

// The table that `colossus plan --validate --csv` writes, refused rows included: one record for each run.
std::vector<std::string> played_run_columns();
std::vector<std::string> played_run_fields(const PlayedRun& run);
// Refused rows are left out.
Result<std::vector<CheckedRun>> read_checked_runs(const CsvTable& table);
// That of the program: its figures belong to its own calibration (a test plays the runs and compares).
Result<std::vector<CheckedRun>> load_checked_runs(FileSystem& files);

struct Basis {
  // Nine of ten times lie between seconds / factor and seconds * factor.
  double factor = 1;
  size_t num_checked = 0;                 // runs like it that were not used to fit
  std::string like;                       // what they have in common: "of H100-SXM with experts, in bf16"
  double ninth_of_ten = 0;                // of these runs' |error|, as a share
  std::vector<std::string> extrapolates;  // "to 100,000 GPUs: the largest run checked had 11,264"
  std::vector<std::string> notes;         // what the cluster's own sources say of step times

  double low(double seconds) const { return seconds / factor; }
  double high(double seconds) const { return seconds * factor; }
};

// The factor is found in two steps, both in logarithms, so that twice as long is as far off as half:
//  - Of the n runs like the question that were not used to fit, the (0.9 (n + 1))-th smallest error e: a new run like
//    them lies within it in nine of ten cases, whatever the errors' law (split conformal prediction, Papadopoulos et
//    al. 2002). The runs are those of the same GPU, kind of model and width of products; where these are fewer than
//    nine, those of the same GPU and kind of model, then of the same kind of model, then all.
//  - When whole tables were left out of the fit, nine of ten errors lay within kTableLeftOut instead of the e_all of
//  rows
//    left out. So a step outside of what was checked adds a spread x with x^2 = kTableLeftOut^2 - e_all^2; k respects
//    that are independent of each other add it k times: factor = exp(sqrt(e^2 + k x^2)).
// A question lies outside where no run checked had its GPU; none on that GPU had its kind of model; none of that kind
// its width of products; where it has more than twice the GPUs or the tokens of a sequence of every run on that GPU;
// and where no run checked was of its software.
inline constexpr double kTableLeftOut = 0.34;  // |error|; docs/accuracy.md

Basis basis_of(const PlanQuestion& question, const Layout& layout, const std::vector<CheckedRun>& runs);

// "checked on 41 published runs of H100-SXM with experts, in bf16 (nine in ten within 17 %)", then what it extrapolates
// and the notes: one sentence each.
std::vector<std::string> basis_sentences(const Basis& basis);

}  // namespace colossus
