#include "plan/basis.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>

#include "base/quantity.h"

namespace colossus {
namespace {

constexpr const char* kCheckedRuns = "configs/validation/training_errors.csv";
constexpr size_t kLeastRuns = 9;  // with fewer no error is the ninth of ten
constexpr double kFarther = 2;    // times the largest that was checked: layouts go by powers of two

// By which nine of ten new runs like these are off, as a logarithm.
double ninth_of_ten(const std::vector<const CheckedRun*>& runs) {
  std::vector<double> errors;
  for (const CheckedRun* run : runs) errors.push_back(std::abs(std::log1p(run->error)));
  std::ranges::sort(errors);
  const auto at = static_cast<size_t>(std::ceil(0.9 * static_cast<double>(errors.size() + 1)));
  return errors[std::min(at, errors.size()) - 1];
}

using Likeness = std::function<bool(const CheckedRun&)>;

std::vector<const CheckedRun*> runs_like(const std::vector<CheckedRun>& runs, const Likeness& like) {
  std::vector<const CheckedRun*> found;
  for (const CheckedRun& run : runs)
    if (like(run)) found.push_back(&run);
  return found;
}

std::string model_kind(bool experts) { return experts ? "models with experts" : "dense models"; }

// The likeness that a question has, and which of its respects no run shares.
class Respects {
 public:
  Respects(const PlanQuestion& question, const Layout& layout, const std::vector<CheckedRun>& runs)
      : question_(question), layout_(layout), runs_(runs), experts_(question.model.num_experts > 0) {}

  // From the closest on.
  std::vector<std::pair<std::string, Likeness>> likenesses() const {
    const std::string gpu = question_.gpu().name, kind = model_kind(experts_);
    const auto same_gpu = [gpu](const CheckedRun& run) { return run.gpu == gpu; };
    const auto same_kind = [experts = experts_](const CheckedRun& run) { return run.experts == experts; };
    const auto same_width = [products = layout_.products](const CheckedRun& run) { return run.products == products; };
    return {
        {fmt::format("of {} on {} in {}", kind, gpu, product_name(layout_.products)),
         [=](const CheckedRun& run) { return same_gpu(run) && same_kind(run) && same_width(run); }},
        {fmt::format("of {} on {}", kind, gpu), [=](const CheckedRun& run) { return same_gpu(run) && same_kind(run); }},
        {fmt::format("of {} on all GPUs", kind), same_kind},
        {"of all kinds", [](const CheckedRun&) { return true; }}};
  }

  std::vector<std::string> outside() const {
    std::vector<std::string> found;
    const std::string& gpu = question_.gpu().name;
    const auto on_gpu = runs_like(runs_, [&](const CheckedRun& run) { return run.gpu == gpu; });
    const auto of_kind = filter(on_gpu, [&](const CheckedRun& run) { return run.experts == experts_; });
    const auto in_width = filter(of_kind, [&](const CheckedRun& run) { return run.products == layout_.products; });
    if (on_gpu.empty())
      found.push_back(fmt::format("to {}: no run checked was on this GPU", gpu));
    else if (of_kind.empty())
      found.push_back(fmt::format("to {} on {}: no run checked was of both", model_kind(experts_), gpu));
    else if (in_width.empty())
      found.push_back(
          fmt::format("to {} for {} on {}: no run checked", product_name(layout_.products), model_kind(experts_), gpu));
    const auto near = on_gpu.empty() ? runs_like(runs_, [](const CheckedRun&) { return true; }) : on_gpu;
    add_farther(found, near, layout_.mesh.num_ranks(), &CheckedRun::num_gpus, "GPUs", "the largest run checked had");
    add_farther(found, near, layout_.tokens, &CheckedRun::tokens, "tokens a sequence", "the longest checked had");
    const auto same_stack = [&](const CheckedRun& run) { return run.stack == question_.stack.name; };
    if (std::ranges::none_of(runs_, same_stack))
      found.push_back(fmt::format("to {}: all runs checked were of other software", question_.stack.name));
    return found;
  }

 private:
  static std::vector<const CheckedRun*> filter(const std::vector<const CheckedRun*>& runs, const Likeness& like) {
    std::vector<const CheckedRun*> found;
    for (const CheckedRun* run : runs)
      if (like(*run)) found.push_back(run);
    return found;
  }
  static void add_farther(std::vector<std::string>& found, const std::vector<const CheckedRun*>& runs, int64_t number,
                          int64_t CheckedRun::*of, const char* unit, const char* largest_is) {
    int64_t largest = 0;
    for (const CheckedRun* run : runs) largest = std::max(largest, run->*of);
    if (static_cast<double>(number) > kFarther * static_cast<double>(largest))
      found.push_back(
          fmt::format("to {} {}: {} {}", with_separators(number), unit, largest_is, with_separators(largest)));
  }

  const PlanQuestion& question_;
  const Layout& layout_;
  const std::vector<CheckedRun>& runs_;
  const bool experts_;
};

Result<double> number_of(const CsvTable& table, size_t row, const char* column) {
  const std::string& text = table.at(row, column);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size()) return value;
  return invalid(fmt::format("[{}:{}] {} = \"{}\"; needed a number: `colossus plan --validate --csv` writes the table",
                             kCheckedRuns, table.line(row), column, text));
}

}  // namespace

std::vector<std::string> played_run_columns() {
  return {"name",
          "stack",
          "gpu",
          "gpus",
          "experts",
          "dtype",
          "seq",
          "used_to_fit",
          "published_seconds",
          "predicted_seconds",
          "error",
          "filled",
          "refused"};
}

std::vector<std::string> played_run_fields(const PlayedRun& run) {
  if (!run.refused.empty()) return {run.name, "", "", "", "", "", "", "", "", "", "", "", run.refused};
  std::string filled = run.run.filled;
  if (filled.ends_with("; ")) filled.resize(filled.size() - 2);
  return {run.name,
          run.stack,
          run.gpu,
          std::to_string(run.run.num_gpus),
          std::to_string(run.run.model.num_experts),
          product_name(run.run.layout.products),
          std::to_string(run.run.layout.tokens),
          run.used_to_fit ? "yes" : "no",
          fmt::format("{:.5g}", run.run.step_seconds),
          fmt::format("{:.5g}", run.time.seconds),
          fmt::format("{:.4f}", run.error()),
          filled,
          ""};
}

Result<std::vector<CheckedRun>> read_checked_runs(const CsvTable& table) {
  for (const std::string& column : played_run_columns())
    if (!table.has_column(column)) return invalid(fmt::format("[{}:1] no column {}", kCheckedRuns, column));
  std::vector<CheckedRun> runs;
  for (size_t row = 0; row < table.num_rows(); ++row) {
    if (!table.at(row, "refused").empty()) continue;
    CheckedRun run{.name = table.at(row, "name"), .stack = table.at(row, "stack"), .gpu = table.at(row, "gpu")};
    ASSIGN_OR_RETURN(const double gpus, number_of(table, row, "gpus"));
    ASSIGN_OR_RETURN(const double experts, number_of(table, row, "experts"));
    ASSIGN_OR_RETURN(const double tokens, number_of(table, row, "seq"));
    ASSIGN_OR_RETURN(run.error, number_of(table, row, "error"));
    run.num_gpus = static_cast<int64_t>(gpus);
    run.experts = experts > 0;
    run.tokens = static_cast<int64_t>(tokens);
    run.used_to_fit = table.at(row, "used_to_fit") == "yes";
    for (const auto& choice : field_choices(ProductType{}))
      if (table.at(row, "dtype") == choice.name) run.products = choice.value;
    if (!(run.error > -1))
      return invalid(fmt::format("[{}:{}] error = {}; needed more than -1", kCheckedRuns, table.line(row), run.error));
    runs.push_back(std::move(run));
  }
  return runs;
}

Result<std::vector<CheckedRun>> load_checked_runs(FileSystem& files) {
  ASSIGN_OR_RETURN(const std::string text, read_file(files, kCheckedRuns, int64_t{64} << 20));
  ASSIGN_OR_RETURN(const CsvTable table, CsvTable::parse(text, kCheckedRuns));
  return read_checked_runs(table);
}

Basis basis_of(const PlanQuestion& question, const Layout& layout, const std::vector<CheckedRun>& runs) {
  Basis basis;
  const Respects respects(question, layout, runs);
  basis.extrapolates = respects.outside();
  double spread = std::log1p(kTableLeftOut);
  for (const auto& [like, holds] : respects.likenesses()) {
    const auto found = runs_like(runs, [&](const CheckedRun& run) { return !run.used_to_fit && holds(run); });
    if (found.size() < kLeastRuns) continue;
    spread = ninth_of_ten(found);
    basis.num_checked = found.size();
    basis.like = like;
    break;
  }
  basis.ninth_of_ten = std::expm1(spread);
  const auto all = runs_like(runs, [](const CheckedRun& run) { return !run.used_to_fit; });
  const double of_rows = all.size() < kLeastRuns ? 0 : ninth_of_ten(all);
  const double step = std::max(0.0, std::pow(std::log1p(kTableLeftOut), 2) - std::pow(of_rows, 2));
  basis.factor = std::exp(std::sqrt(spread * spread + static_cast<double>(basis.extrapolates.size()) * step));
  for (const SourceNote& source : question.cluster.evidence.sources)
    if (source.of == "step time") basis.notes.push_back(source.text);
  return basis;
}

std::vector<std::string> basis_sentences(const Basis& basis) {
  std::vector<std::string> sentences;
  if (basis.num_checked > 0)
    sentences.push_back(fmt::format("checked on {} published runs {}, not used to fit: nine in ten within {:.0f} %",
                                    basis.num_checked, basis.like, 100 * basis.ninth_of_ten));
  else
    sentences.emplace_back("checked on no published run");
  for (const std::string& respect : basis.extrapolates) sentences.push_back("extrapolates " + respect);
  for (const std::string& note : basis.notes) sentences.push_back(note);
  return sentences;
}

}  // namespace colossus
