#include "cli/plan_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/quantity.h"

namespace colossus {
namespace {

double tokens_of(const Layout& layout) {
  return static_cast<double>(layout.batch) * static_cast<double>(layout.tokens);
}

double tokens_per_gpu(const JudgedLayout& judged) {
  return judged.tokens_per_second / static_cast<double>(judged.num_gpus);
}

// "12.3 (10.5 to 14.4)".
std::string with_range(double value, double low, double high) {
  const int decimals = value >= 99.95 ? 0 : value >= 9.995 ? 1 : value >= 0.9995 ? 2 : 4;
  return fmt::format("{:.{}f} ({:.{}f} to {:.{}f})", value, decimals, low, decimals, high, decimals);
}
std::string quantity_with_range(double value, const Basis& basis) {
  return fmt::format("{} ({} to {})", format_quantity(value), format_quantity(basis.low(value)),
                     format_quantity(basis.high(value)));
}
std::string step_with_range(const JudgedLayout& judged, const Basis& basis) {
  const double seconds = judged.time.seconds;
  return with_range(seconds, basis.low(seconds), basis.high(seconds));
}

std::vector<std::string> layout_columns() {
  std::vector<std::string> columns = {"tensor",
                                      "context",
                                      "pipeline",
                                      "chunks",
                                      "schedule",
                                      "data",
                                      "zero_stage",
                                      "expert",
                                      "expert_tensor",
                                      "microbatch",
                                      "recompute",
                                      "gpus",
                                      "batch_tokens",
                                      "seq",
                                      "step_seconds",
                                      "step_low",
                                      "step_high",
                                      "tokens_per_second",
                                      "tokens_per_second_per_gpu",
                                      "mfu"};
  for (const StepPart& part : step_parts()) {
    std::string name = std::string(part.short_name) + "_seconds";
    std::ranges::replace(name, ' ', '_');
    columns.push_back(std::move(name));
  }
  columns.emplace_back("memory_gb");
  return columns;
}

std::string schedule_name(PipelineScheduleKind schedule) {
  for (const auto& choice : field_choices(schedule))
    if (choice.value == schedule) return choice.name;
  return "";
}

std::vector<std::string> layout_fields(const JudgedLayout& judged, const Basis& basis) {
  const MeshConfig& mesh = judged.layout.mesh;
  const double seconds = judged.time.seconds;
  std::vector<std::string> fields;
  for (const int64_t number : {mesh.tensor, mesh.context, mesh.pipeline, mesh.chunks})
    fields.push_back(std::to_string(number));
  fields.push_back(mesh.pipeline > 1 ? schedule_name(mesh.schedule) : "");
  for (const int64_t number :
       {mesh.data * mesh.shard, mesh.zero_stage, mesh.expert, mesh.expert_tensor, judged.layout.microbatch})
    fields.push_back(std::to_string(number));
  fields.emplace_back(recompute_name(judged.layout.recompute));
  fields.push_back(std::to_string(judged.num_gpus));
  fields.push_back(fmt::format("{:.0f}", tokens_of(judged.layout)));
  fields.push_back(std::to_string(judged.layout.tokens));
  for (const double number : {seconds, basis.low(seconds), basis.high(seconds), judged.tokens_per_second,
                              tokens_per_gpu(judged), judged.utilization})
    fields.push_back(fmt::format("{:.6g}", number));
  for (const StepPart& part : step_parts()) fields.push_back(fmt::format("{:.6g}", judged.time.*part.of));
  fields.push_back(fmt::format("{:.4g}", judged.memory.total() * 1e-9));
  return fields;
}

void append(std::vector<std::string>& to, const std::vector<std::string>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

std::string optional_quantity(const std::optional<double>& value) { return value ? format_quantity(*value) : "-"; }
std::string optional_number(const std::optional<double>& value) { return value ? fmt::format("{:.6g}", *value) : ""; }

}  // namespace

std::string step_text(const JudgedLayout& judged, const Basis& basis) {
  const StepTime& time = judged.time;
  std::string text =
      fmt::format("\na step: {} s of {} tokens on {} GPUs, {:.1f} % of the bf16 peak (MFU), {} tokens/s\n",
                  step_with_range(judged, basis), format_quantity(tokens_of(judged.layout)), judged.num_gpus,
                  100 * judged.utilization, format_quantity(judged.tokens_per_second));
  for (const std::string& sentence : basis_sentences(basis)) text += "  " + sentence + "\n";
  for (const StepPart& part : step_parts())
    text +=
        fmt::format("  {:<40} {:8.3f} s  {:5.1f} %\n", part.name, time.*part.of, 100 * (time.*part.of) / time.seconds);
  if (time.waiting_for_cores > 0)
    text += fmt::format("  {:<40} {:8.3f} s  {:5.1f} %\n", "waiting for cores that ranks share", time.waiting_for_cores,
                        100 * time.waiting_for_cores / time.seconds);
  return text;
}

std::string memory_text(const JudgedLayout& judged, const GpuSpec& gpu) {
  std::string text = fmt::format("\nmemory of the fullest rank, GB          (a GPU has {:.0f})\n", gpu.memory_gb);
  for (const MemoryPart& part : memory_parts())
    text += fmt::format("  {:<40} {:8.2f}\n", part.name, judged.memory.*part.of * 1e-9);
  text += fmt::format("  {:<40} {:8.2f}\n", "all", judged.memory.total() * 1e-9);
  const std::string fault = memory_fault(judged.memory, gpu);
  return fault.empty() ? text : text + "  " + fault + "\n";
}

std::string run_text(const JudgedLayout& judged, const Basis& basis, const PlanQuestion& question, double tokens) {
  const RunCost cost = cost_of_tokens(question, judged, tokens);
  std::string text =
      fmt::format("\n{} tokens, while nothing fails: {} days, {} GPU-hours, {:.0f} MWh", format_quantity(tokens),
                  with_range(cost.days, basis.low(cost.days), basis.high(cost.days)), format_quantity(cost.gpu_hours),
                  cost.megawatt_hours);
  if (cost.usd_rent)
    text += fmt::format(", {} dollars at {:.2f} a GPU-hour", format_quantity(*cost.usd_rent),
                        *question.gpu_pool().usd_per_gpu_hour);
  if (cost.usd_owned) text += fmt::format(", {} where the machines are owned", format_quantity(*cost.usd_owned));
  return text + "\n";
}

std::string runners_up_text(const std::vector<JudgedLayout>& best) {
  if (best.size() < 2) return "";
  std::string text = "\nnext, by tokens/s, and what of a step is longer:\n";
  for (size_t i = 1; i < best.size(); ++i)
    text += fmt::format("  {:5.1f} %  {:<82} {:5.1f} GB  {}\n",
                        100 * (best[i].tokens_per_second / best.front().tokens_per_second), layout_text(best[i].layout),
                        best[i].memory.total() * 1e-9, why_slower(best[i], best.front()));
  return text;
}

TextTable layout_table(const std::vector<JudgedLayout>& judged, const std::vector<Basis>& bases) {
  TextTable table{.header = layout_columns(), .rows = {}};
  for (size_t i = 0; i < judged.size(); ++i) table.rows.push_back(layout_fields(judged[i], bases[i]));
  return table;
}

TextTable compare_table(const std::vector<ComparedLayout>& rows, bool all) {
  TextTable table;
  if (all) {
    table.header = {"machine", "gpu", "refused"};
    append(table.header, layout_columns());
    append(table.header, {"days", "megawatt_hours", "usd_rent", "usd_owned"});
  } else {
    table.header = {"machine",
                    "GPUs",
                    "step, s",
                    "tokens/s a GPU",
                    "MFU, %",
                    "GB",
                    "days",
                    "MWh",
                    "dollars, rent",
                    "owned",
                    "times the first's tokens/s a GPU"};
  }
  const ComparedLayout* first = nullptr;
  for (const ComparedLayout& row : rows) {
    if (!first && row.best) first = &row;
    std::vector<std::string>& fields = table.rows.emplace_back();
    if (all) {
      fields = {row.name, row.gpu, row.refused};
      if (row.best) {
        append(fields, layout_fields(*row.best, row.basis));
        append(fields, {fmt::format("{:.6g}", row.cost.days), fmt::format("{:.6g}", row.cost.megawatt_hours),
                        optional_number(row.cost.usd_rent), optional_number(row.cost.usd_owned)});
      }
    } else if (row.best) {
      const RunCost& cost = row.cost;
      const double rate = tokens_per_gpu(*row.best), ratio = rate / tokens_per_gpu(*first->best);
      const bool itself = &row == first;
      // Both may be off, as if each by itself: what they have in common would make the ratio better known.
      const double both = std::exp(std::hypot(std::log(row.basis.factor), std::log(first->basis.factor)));
      fields = {row.name,
                std::to_string(row.best->num_gpus),
                step_with_range(*row.best, row.basis),
                quantity_with_range(rate, row.basis),
                fmt::format("{:.1f}", 100 * row.best->utilization),
                fmt::format("{:.1f}", row.best->memory.total() * 1e-9),
                with_range(cost.days, row.basis.low(cost.days), row.basis.high(cost.days)),
                format_quantity(cost.megawatt_hours),
                optional_quantity(cost.usd_rent),
                optional_quantity(cost.usd_owned),
                itself ? "1" : with_range(ratio, ratio / both, ratio * both)};
    } else {
      fields = {row.name};
    }
    fields.resize(table.header.size(), all ? "" : "-");
  }
  return table;
}

std::string compare_notes(const std::vector<ComparedLayout>& rows) {
  std::string text;
  for (const ComparedLayout& row : rows) {
    text += fmt::format("\n{} ({}): {}\n", row.name, row.gpu, row.best ? layout_text(row.best->layout) : row.refused);
    if (!row.best) continue;
    for (const std::string& sentence : basis_sentences(row.basis)) text += "  " + sentence + "\n";
  }
  return text;
}

TextTable sweep_table(const std::vector<SweepAxis>& axes, const std::vector<SweepPoint>& points, bool all) {
  TextTable table;
  for (const SweepAxis& axis : axes) table.header.push_back((all ? "sweep:" : "") + axis.name);
  if (all) {
    table.header.emplace_back("refused");
    append(table.header, layout_columns());
  } else {
    append(table.header, {"GPUs", "step, s", "tokens/s a GPU", "MFU, %", "GB", "layout, or why there is none"});
  }
  for (const SweepPoint& point : points) {
    std::vector<std::string>& fields = table.rows.emplace_back(point.values);
    if (all) fields.push_back(point.refused);
    if (point.judged && (all || point.refused.empty())) {
      if (all)
        append(fields, layout_fields(*point.judged, point.basis));
      else
        append(fields, {std::to_string(point.judged->num_gpus), step_with_range(*point.judged, point.basis),
                        fmt::format("{:.1f}", tokens_per_gpu(*point.judged)),
                        fmt::format("{:.1f}", 100 * point.judged->utilization),
                        fmt::format("{:.1f}", point.judged->memory.total() * 1e-9), layout_text(point.judged->layout)});
    } else if (!all) {
      append(fields, {"", "", "", "", "", point.refused});
    }
    fields.resize(table.header.size());
  }
  return table;
}

}  // namespace colossus
