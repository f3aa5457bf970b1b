// What `colossus plan` prints.
#pragma once

#include <string>
#include <vector>

#include "cli/text_table.h"
#include "plan/compare.h"
#include "plan/explain.h"
#include "plan/sweep.h"

namespace colossus {

// A layout's step, where its time goes and what it rests on; the fullest rank's memory; a run on so many tokens.
std::string step_text(const JudgedLayout& judged, const Basis& basis);
std::string memory_text(const JudgedLayout& judged, const GpuSpec& gpu);
std::string run_text(const JudgedLayout& judged, const Basis& basis, const PlanQuestion& question, double tokens);
// The layouts behind the best one, and what of a step is longer.
std::string runners_up_text(const std::vector<JudgedLayout>& best);

// Every number of judged layouts: a column for each.
TextTable layout_table(const std::vector<JudgedLayout>& judged, const std::vector<Basis>& bases);

// For people few columns, for files all of them.
TextTable compare_table(const std::vector<ComparedLayout>& rows, bool all);
std::string compare_notes(const std::vector<ComparedLayout>& rows);
TextTable sweep_table(const std::vector<SweepAxis>& axes, const std::vector<SweepPoint>& points, bool all);

}  // namespace colossus
