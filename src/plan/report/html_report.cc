#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/function_ref.h"
#include "base/quantity.h"
#include "plan/report/figures.h"
#include "plan/report/html.h"
#include "plan/report/report.h"

namespace colossus {
namespace {

std::string section(const std::string& title, const std::string& body) {
  return fmt::format("<section><h2>{}</h2>\n{}</section>\n", escape_html(title), body);
}
std::string paragraph(const std::string& text, const char* css_class = "") {
  return fmt::format("<p class=\"{}\">{}</p>\n", css_class, escape_html(text));
}
std::string figure(const std::string& value, const std::string& what) {
  return fmt::format("<div><b>{}</b><span>{}</span></div>\n", escape_html(value), escape_html(what));
}
// A row of a table; columns named in `numbers` ("n") are flush right.
std::string row(const std::vector<std::string>& cells, const std::string& numbers, const char* tag = "td") {
  std::string html = "<tr>";
  for (size_t i = 0; i < cells.size(); ++i)
    html += fmt::format("<{}{}>{}</{}>", tag, i < numbers.size() && numbers[i] == 'n' ? " class=\"n\"" : "",
                        escape_html(cells[i]), tag);
  return html + "</tr>\n";
}

std::string range_text(const Basis& basis, double value, const std::string& unit) {
  return fmt::format("{} to {}{}", format_quantity(basis.low(value)), format_quantity(basis.high(value)), unit);
}

std::string dollars(double usd) { return "$" + format_quantity(usd); }

std::string head(const PlanReport& report) {
  const JudgedLayout& best = report.layouts.front();
  const Basis& basis = report.bases.front();
  const Layout& layout = best.layout;
  const double batch = static_cast<double>(layout.batch) * static_cast<double>(layout.tokens);
  std::string html =
      fmt::format("<h1>{} on {}</h1>\n", escape_html(report.model_name), escape_html(report.question.cluster.name));
  html += paragraph(report.question.cluster.description, "muted");
  html += paragraph(fmt::format("{} of {} {}, {} tokens a step in sequences of {}, {} products, {} tokens in all",
                                with_separators(best.num_gpus), with_separators(report.question.gpu_pool().num_gpus()),
                                report.question.gpu().name, format_quantity(batch), with_separators(layout.tokens),
                                product_name(layout.products), format_quantity(report.tokens)));
  html += "<div class=\"figures\">\n";
  html += figure(seconds_text(best.time.seconds),
                 fmt::format("a step ({} to {})", seconds_text(basis.low(best.time.seconds)),
                             seconds_text(basis.high(best.time.seconds))));
  html += figure(fmt::format("{:.1f} %", 100 * best.utilization), "of the bf16 peak (MFU)");
  html += figure(format_quantity(best.tokens_per_second),
                 "tokens a second (" + range_text(basis, best.tokens_per_second, ")"));
  const double useful = report.history ? report.history->useful.mean : 1;
  const double days = report.cost.days / useful;
  html += figure(fmt::format("{:.1f} days", days),
                 fmt::format("{} ({} to {})", report.history ? "with failures" : "while nothing fails",
                             fmt::format("{:.1f}", basis.low(days)), fmt::format("{:.1f}", basis.high(days))));
  if (report.history) html += figure(fmt::format("{:.1f} %", 100 * useful), "of the time is useful");
  html += figure(format_quantity(report.cost.megawatt_hours) + " MWh", "while nothing fails");
  const std::optional<double> usd = report.cost.usd_owned ? report.cost.usd_owned : report.cost.usd_rent;
  if (usd) html += figure(dollars(*usd), report.cost.usd_owned ? "machines owned, power included" : "machines rented");
  html += figure(fmt::format("{:.1f} GB", best.memory.total() * 1e-9),
                 fmt::format("of {:.0f} on the fullest GPU", report.question.gpu().memory_gb));
  return html + "</div>\n";
}

std::string basis_section(const PlanReport& report) {
  const Basis& basis = report.bases.front();
  std::string html = "<ul class=\"basis\">\n";
  for (const std::string& sentence : basis_sentences(basis)) html += "<li>" + escape_html(sentence) + "</li>\n";
  html += "</ul>\n";
  return section(
      "What the step's time rests on",
      html + paragraph(fmt::format("Nine of ten times lie within a factor of {:.2f} of the one that is given: "
                                   "what runs like it were missed by, widened for each respect in which it lies "
                                   "outside of all that was checked.",
                                   basis.factor),
                       "muted"));
}

std::string layout_section(const PlanReport& report) {
  const JudgedLayout& best = report.layouts.front();
  std::string html = paragraph(layout_text(best.layout), "layout");
  if (report.legal > 0)
    html += paragraph(fmt::format("The fastest of {} legal layouts, of which {} do not fit into the memory{}.",
                                  with_separators(report.legal), with_separators(report.too_large),
                                  report.too_slow > 0 ? fmt::format(", and {} need ZeRO 2 or 3 to fit, which makes "
                                                                    "them slower than all that are listed",
                                                                    with_separators(report.too_slow))
                                                      : ""),
                      "muted");
  return section("The layout", html + layout_figure(report.question, best.layout));
}

std::string memory_section(const PlanReport& report) {
  const JudgedLayout& best = report.layouts.front();
  const GpuSpec& gpu = report.question.gpu();
  Bar bar{.title = "memory of the fullest rank",
          .parts = {},
          .full = gpu.memory_gb,
          .mark = usable_bytes(gpu) * 1e-9,
          .mark_label = "usable"};
  const char colors[] = {'1', '2', '6', '3', '4'};
  for (size_t i = 0; i < memory_parts().size(); ++i) {
    const double gb = best.memory.*memory_parts()[i].of * 1e-9;
    bar.parts.push_back({memory_parts()[i].name, gb, colors[i], fmt::format("{:.1f} GB", gb)});
  }
  const std::string fault = memory_fault(best.memory, gpu);
  return section("Memory of the fullest rank", (fault.empty() ? "" : paragraph(fault, "warning")) + bar_figure(bar));
}

std::string step_section(const PlanReport& report) {
  const StepTime& time = report.layouts.front().time;
  Bar bar{.title = "where the time of a step goes", .parts = {}};
  const char colors[] = {'1', '3', '4', '5', '8', '6', '7', '2'};
  for (size_t i = 0; i < step_parts().size(); ++i) {
    const double seconds = time.*step_parts()[i].of;
    bar.parts.push_back({step_parts()[i].name, seconds, colors[i], seconds_text(seconds)});
  }
  return section(
      "Where a step's time goes",
      bar_figure(bar) +
          paragraph("On the stage that computes longest. Waiting is what does not run beside computation.", "muted"));
}

std::string runners_up_section(const PlanReport& report) {
  if (report.layouts.size() < 2) return "";
  const JudgedLayout& best = report.layouts.front();
  std::string html =
      "<table>" +
      row({"layout", "tokens/s", "MFU", "memory", "what of a step is longer", "what binds it"}, "-nnn--", "th");
  for (const JudgedLayout& judged : report.layouts)
    html += row(
        {layout_text(judged.layout), fmt::format("{:.1f} %", 100 * judged.tokens_per_second / best.tokens_per_second),
         fmt::format("{:.1f} %", 100 * judged.utilization), fmt::format("{:.1f} GB", judged.memory.total() * 1e-9),
         &judged == &best ? "" : why_slower(judged, best), what_binds(judged, report.question.gpu())},
        "-nnn--");
  return section("The best layouts", html + "</table>\n");
}

std::string history_section(const PlanReport& report) {
  if (!report.history) return section("With failures", paragraph("Not played: " + report.no_history));
  const RunHistory& history = *report.history;
  Bar bar{.title = "shares of the time", .parts = {}, .full = 1, .with_shares = false};
  const auto add = [&](const char* name, const Spread& share, char color) {
    bar.parts.push_back(
        {name, share.mean, color,
         fmt::format("{:.2f} % ({:.2f} to {:.2f})", 100 * share.mean, 100 * share.low, 100 * share.high)});
  };
  add("useful", history.useful, '1');
  add("starting again", history.starting, '3');
  add("lost steps, computed again", history.redone, '5');
  add("checkpoints", history.checkpoints, '6');
  add("finding that something failed", history.detecting, '4');
  add("waiting for machines", history.waiting, '2');
  add("slow machines", history.slow, '7');
  add("fewer ranks than on day 0", history.missing, '8');
  add("maintenance", history.maintenance, '2');
  add("stopped, until a person came", history.stopped, '8');
  std::erase_if(bar.parts, [](const BarPart& part) { return part.value < 5e-6; });
  std::string html = paragraph(fmt::format(
      "{:.0f} days, played {} times with faults drawn at random; the mean, and where nine of ten plays lie. {:.1f} "
      "interruptions a day, a checkpoint every {:.0f} s.",
      report.run_plan.days, report.run_plan.num_runs, history.interruptions_per_day.mean,
      history.checkpoint_every_seconds));
  html += bar_figure(bar);
  html += "<details><summary>interruptions a day, by cause</summary><table>";
  for (const auto& [cause, per_day] : history.interruptions_per_day_by_cause)
    html +=
        row({cause, fmt::format("{:.2f}", per_day.mean), fmt::format("{:.2f} to {:.2f}", per_day.low, per_day.high)},
            "-nn");
  return section("With failures", html + "</table></details>\n");
}

std::string change_text(double change) { return std::abs(change) < 5e-5 ? "0" : fmt::format("{:+.2f}", 100 * change); }

// What both ends of a range change: "-1.20, +3.40".
std::string changes_text(const SensitivityRow& line, FunctionRef<double(const RunAnswer&)> change_of) {
  std::string text;
  for (size_t end = 0; end < 2; ++end)
    text += (end > 0 ? ", " : "") + (line.at[end] ? change_text(change_of(*line.at[end])) : line.refused[end]);
  return text;
}

std::string assumptions_table(const Sensitivity& sensitivity) {
  std::string html =
      "<details><summary>all assumptions, and why these ranges</summary><table>" +
      row({"assumption", "as assumed", "low", "high", "step, %", "useful, points", "cost, %", "why"}, "-nnnnnn-", "th");
  const RunAnswer& base = sensitivity.base;
  const auto numbers = [](const AssumedNumber& assumed) {
    return std::vector<std::string>{assumed.path, fmt::format("{:.6g}", assumed.value),
                                    fmt::format("{:.6g}", assumed.low), fmt::format("{:.6g}", assumed.high)};
  };
  for (const SensitivityRow& line : sensitivity.rows) {
    std::vector<std::string> cells = numbers(line.assumed);
    cells.push_back(changes_text(line, [&](const RunAnswer& at) { return at.step_seconds / base.step_seconds - 1; }));
    cells.push_back(changes_text(line, [&](const RunAnswer& at) { return at.useful - base.useful; }));
    cells.push_back(changes_text(line, [&](const RunAnswer& at) {
      return at.usd_per_step && base.usd_per_step ? *at.usd_per_step / *base.usd_per_step - 1 : 0;
    }));
    cells.push_back(line.assumed.why);
    html += row(cells, "-nnnnnn-");
  }
  for (const AssumedNumber& assumed : sensitivity.no_matter) {
    std::vector<std::string> cells = numbers(assumed);
    cells.insert(cells.end(), {"0, 0", "0, 0", "0, 0", assumed.why});
    html += row(cells, "-nnnnnn-");
  }
  return html + "</table></details>\n";
}

std::string assumptions_section(const PlanReport& report) {
  if (!report.sensitivity) return "";
  const Sensitivity& sensitivity = *report.sensitivity;
  const RunAnswer& base = sensitivity.base;
  std::string html = paragraph(
      "Every figure of the cluster that is assumed and not published, set to both ends of its range with the layout as "
      "it is. The range of the step's time above comes on top.");
  const std::string of_step = tornado_figure({.title = "The time of a step",
                                              .unit = "percent of " + seconds_text(base.step_seconds),
                                              .base = base.step_seconds,
                                              .of = &RunAnswer::step_seconds},
                                             sensitivity.rows);
  html += of_step.empty() ? paragraph("The time of a step hangs on none of them.") : of_step;
  html += tornado_figure({.title = "The useful share of the time",
                          .unit = fmt::format("points of a hundred, from {:.1f}", 100 * base.useful),
                          .base = base.useful,
                          .noise = sensitivity.useful_noise,
                          .base_useful = base.useful,
                          .relative = false,
                          .of = &RunAnswer::useful},
                         sensitivity.rows);
  if (base.usd_per_step)
    html += tornado_figure({.title = "The cost of the run, with what failures lose",
                            .unit = "percent",
                            .base = *base.usd_per_step,
                            .noise = *base.usd_per_step * sensitivity.useful_noise / std::max(1e-6, base.useful),
                            .base_useful = base.useful},
                           sensitivity.rows);
  html += paragraph(
      fmt::format("Effects on the useful share below {:.2f} points are within what {} plays differ by chance; "
                  "{} more assumptions change none of the three.",
                  100 * sensitivity.useful_noise, kSensitivityRuns, sensitivity.no_matter.size()),
      "muted");
  return section("What it hangs on", html + assumptions_table(sensitivity));
}

std::string sources_section(const PlanReport& report) {
  std::string html = "<table>" + row({"table", "of", "who says so"}, "", "th");
  for (const SourceVisitor::Note& source : report.sources)
    html += row({source.table, source.note.of, source.note.text}, "");
  return section("Sources of the cluster's figures", html + "</table>\n");
}

}  // namespace

std::string html_report(const PlanReport& report) {
  std::string body = head(report);
  body += basis_section(report);
  body += layout_section(report);
  body += memory_section(report);
  body += step_section(report);
  body += section("A step", timeline_figures(report.timeline, report.layouts.front().time));
  body += runners_up_section(report);
  body += history_section(report);
  body += assumptions_section(report);
  body += sources_section(report);
  return html_page(report.model_name + " on " + report.question.cluster.name, body);
}

}  // namespace colossus
