#include "cli/plan_command.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <optional>

#include "cli/build_out_text.h"
#include "cli/plan_question.h"
#include "cli/plan_text.h"
#include "cli/plan_validate.h"
#include "cli/terminal.h"
#include "io/config.h"
#include "plan/ready_files.h"
#include "plan/report/report.h"

namespace colossus {
namespace {

constexpr const char* kNotGiven = "none";  // an option whose value may be left out

struct PlanArguments {
  QuestionArguments question;
  std::string tokens = "1T";
  int64_t top = 8;
  bool memory = false;
  std::string validate = kNotGiven;
  std::vector<std::string> compare, sweep;
  std::string csv = kNotGiven;
  std::string html;
  BuildOutArguments build_out;

  bool has_csv() const { return csv != kNotGiven; }
};

// What every answer is found with.
struct PlanGround {
  PlanQuestion question;
  double tokens = 0;  // of the whole run
  Calibration calibration;
  std::vector<CheckedRun> checked;

  std::vector<Basis> bases_of(const std::vector<JudgedLayout>& layouts) const {
    std::vector<Basis> bases;
    for (const JudgedLayout& judged : layouts) bases.push_back(basis_of(question, judged.layout, checked));
    return bases;
  }
};

Result<PlanGround> read_ground(const PlanArguments& arguments) {
  PlanGround ground;
  FileSystem& files = local_and_ready_files();
  ASSIGN_OR_RETURN(ground.question, read_question(arguments.question));
  ASSIGN_OR_RETURN(ground.tokens, read_quantity("--tokens", arguments.tokens));
  ASSIGN_OR_RETURN(ground.calibration, load_config<Calibration>(files, kCalibration));
  ASSIGN_OR_RETURN(ground.checked, load_checked_runs(files));
  return ground;
}

Status write_html(const PlanArguments& arguments, const PlanGround& ground, const SearchResult& found) {
  ASSIGN_OR_RETURN(const PlanReport report, make_report({.question = ground.question,
                                                         .model_file = arguments.question.model,
                                                         .tokens = ground.tokens,
                                                         .calibration = ground.calibration,
                                                         .checked = ground.checked},
                                                        found));
  RETURN_IF_ERROR(write_file_atomically(local_files(), arguments.html, html_report(report)));
  return arguments.has_csv() && arguments.csv.empty() ? ok_status()
                                                      : print("\n" + arguments.html + ": open it in a browser\n");
}

std::string found_text(const PlanGround& ground, const SearchResult& found, double seconds) {
  return fmt::format("{} legal layouts on up to {} {}, {} of them too large{}; {:.1f} s\n", found.legal,
                     ground.question.gpus_to_use(), ground.question.gpu().name, found.too_large,
                     found.too_slow > 0 ? fmt::format(", {} that do not fit with ZeRO 1 too slow", found.too_slow) : "",
                     seconds);
}

Status nothing_fits(const PlanGround& ground, const SearchResult& found) {
  if (!found.smallest)
    return invalid("[plan] no layout is legal: heads, layers and batch leave none; change --batch-tokens or --gpus");
  return invalid(fmt::format(
      "[plan] nothing fits: the smallest layout ({}) needs {:.0f} GB of {:.0f} on a GPU; use more GPUs, or a part with "
      "more memory",
      layout_text(found.smallest->layout), found.smallest->memory.total() * 1e-9, ground.question.gpu().memory_gb));
}

Status judge_given(const PlanArguments& arguments, const PlanGround& ground) {
  Layout layout;
  RETURN_IF_ERROR(read_layout(arguments.question, ground.question, layout));
  SearchResult found;
  ASSIGN_OR_RETURN(JudgedLayout judged, judge(ground.question, ground.calibration, layout));
  found.best.push_back(std::move(judged));
  const JudgedLayout& only = found.best.front();
  const Basis basis = basis_of(ground.question, only.layout, ground.checked);
  if (arguments.has_csv()) {
    RETURN_IF_ERROR(write_csv(layout_table(found.best, {basis}), arguments.csv));
  } else {
    std::string text = layout_text(only.layout) + "\n";
    if (!arguments.memory) text += step_text(only, basis);
    text += memory_text(only, ground.question.gpu());
    if (!arguments.memory) text += run_text(only, basis, ground.question, ground.tokens);
    RETURN_IF_ERROR(print(text));
  }
  return arguments.html.empty() ? ok_status() : write_html(arguments, ground, found);
}

Status search(const PlanArguments& arguments, const PlanGround& ground) {
  const auto started = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(const SearchResult found,
                   search_layouts(ground.question, ground.calibration, {.keep = static_cast<size_t>(arguments.top)}));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  if (found.best.empty()) return nothing_fits(ground, found);
  const std::vector<Basis> bases = ground.bases_of(found.best);
  if (arguments.has_csv()) {
    RETURN_IF_ERROR(write_csv(layout_table(found.best, bases), arguments.csv));
  } else {
    const JudgedLayout& best = found.best.front();
    RETURN_IF_ERROR(print(found_text(ground, found, seconds) + "\nbest: " + layout_text(best.layout) + "\n" +
                          step_text(best, bases.front()) + memory_text(best, ground.question.gpu()) +
                          run_text(best, bases.front(), ground.question, ground.tokens) + runners_up_text(found.best)));
  }
  return arguments.html.empty() ? ok_status() : write_html(arguments, ground, found);
}

Status compare(const PlanArguments& arguments, const PlanGround& ground) {
  std::vector<ComparedMachine> machines;
  for (const std::string& name : arguments.compare) {
    ASSIGN_OR_RETURN(ComparedMachine machine,
                     compared_machine(ground.question, name, ground.calibration, local_and_ready_files()));
    machines.push_back(std::move(machine));
  }
  const std::vector<ComparedLayout> rows =
      compare_machines(machines, ground.calibration, ground.checked, ground.tokens);
  if (arguments.has_csv()) return write_csv(compare_table(rows, true), arguments.csv);
  return print(fmt::format("{} tokens, while nothing fails\n\n", format_quantity(ground.tokens)) +
               aligned_text(compare_table(rows, false)) + compare_notes(rows));
}

Status sweep(const PlanArguments& arguments, const PlanGround& ground) {
  SweepQuestion asked{.question = ground.question, .layout = arguments.question.layout, .axes = {}};
  for (const std::string& text : arguments.sweep) {
    ASSIGN_OR_RETURN(SweepAxis axis, read_sweep_axis(text));
    asked.axes.push_back(std::move(axis));
  }
  ASSIGN_OR_RETURN(const std::vector<SweepPoint> points, play_sweep(asked, ground.calibration, ground.checked));
  if (arguments.has_csv()) return write_csv(sweep_table(asked.axes, points, true), arguments.csv);
  return print(aligned_text(sweep_table(asked.axes, points, false)));
}

Status plan(const PlanArguments& arguments) {
  if (!arguments.build_out.cluster.empty())
    return print_build_out(arguments.build_out, arguments.question.cluster_overrides, arguments.question.gpus);
  const bool one_answer = arguments.compare.empty() && arguments.sweep.empty();
  if (arguments.validate != kNotGiven)
    return validate_plan(arguments.validate, arguments.has_csv() ? std::optional(arguments.csv) : std::nullopt);
  if (!arguments.compare.empty() && !arguments.sweep.empty())
    return invalid("[plan] --compare and --sweep are two questions; give one of them");
  if (!arguments.compare.empty() && !arguments.question.layout.empty())
    return invalid("[--compare] each machine has its own best layout; leave --layout out, or use --sweep");
  if (!arguments.html.empty() && !one_answer)
    return invalid("[--html] a report is of one machine and its best layout; leave --compare and --sweep out");
  ASSIGN_OR_RETURN(const PlanGround ground, read_ground(arguments));
  if (!arguments.compare.empty()) return compare(arguments, ground);
  if (!arguments.sweep.empty()) return sweep(arguments, ground);
  return arguments.question.layout.empty() ? search(arguments, ground) : judge_given(arguments, ground);
}

}  // namespace

void add_plan_command(Command root) {
  auto arguments = std::make_shared<PlanArguments>();
  Command command = root.add_command("plan", "How a model trains on a cluster: the best layouts, memory, time, cost");
  add_question_options(command, arguments->question);
  command.option("--tokens", arguments->tokens, "of the whole run, such as 6T");
  command.option("--top", arguments->top, "how many layouts to print", {.min = 1, .max = 1000});
  command.flag("--memory", arguments->memory, "with --layout: the memory alone");
  command.option(
      "--compare", arguments->compare,
      "machines side by side, each with its best layout: clusters by file or name, or GPUs such as h100 h200 "
      "b200, then put into the given cluster",
      {.many_values = true});
  command.option("--sweep", arguments->sweep,
                 "axis=1,2,4: all combinations of values of a layout's axes, batch_tokens, seq, gpus, dtype, or the "
                 "cluster's numbers by their path; repeatable");
  command.option("--csv", arguments->csv, "the answer as a table: to this file, or to the standard output without one",
                 {.show_default = false, .value_optional = true});
  command.option("--html", arguments->html,
                 "write a report of the best layout (or of --layout) here: one page that needs no network");
  command.option("--validate", arguments->validate,
                 "play the published runs of this table (configs/validation/training_runs.csv without one), and "
                 "compare",
                 {.show_default = false, .value_optional = true});
  add_build_out_options(command, arguments->build_out);
  command.run([arguments] { return plan(*arguments); });
}

}  // namespace colossus
