#include "plan/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "plan/report/figures.h"
#include "plan/report/html.h"
#include "plan/small_question.h"

namespace colossus {
namespace {

using testing::HasSubstr;
using testing::Not;

// Tags open and close in order: what a browser would silently repair.
std::string first_fault_of_tags(const std::string& html) {
  static const std::regex kTag("<(/?)([a-zA-Z][a-zA-Z0-9]*)([^<>]*)>");
  std::vector<std::string> open;
  const std::string body = std::regex_replace(html, std::regex("<(style|script)>[^]*?</\\1>"), "");
  for (auto at = std::sregex_iterator(body.begin(), body.end(), kTag); at != std::sregex_iterator(); ++at) {
    const std::string name = (*at)[2], rest = (*at)[3];
    if (name == "meta" || name == "br" || rest.ends_with("/")) continue;
    if ((*at)[1] == "") {
      open.push_back(name);
    } else {
      if (open.empty() || open.back() != name)
        return "</" + name + "> closes " + (open.empty() ? "nothing" : open.back());
      open.pop_back();
    }
  }
  return open.empty() ? "" : "<" + open.back() + "> stays open";
}

PlanReport small_report(Family family, const std::vector<std::string>& layout) {
  PlanQuestion question = small_question(family);
  question.cluster.pools[0].nodes = 40;
  question.cluster.description = "<script>alert(\"&\")</script>";
  const Layout given = *read_layout(question, "x", layout);
  SearchResult found;
  found.best.push_back(*judge(question, ready_calibration(), given));
  const std::vector<CheckedRun> checked = *load_checked_runs(local_and_ready_files());
  auto report = make_report({.question = question,
                             .model_file = "models/small<1>.toml",
                             .tokens = 1e12,
                             .calibration = ready_calibration(),
                             .checked = checked},
                            found);
  EXPECT_TRUE(report.ok()) << report.status().message();
  return std::move(*report);
}

TEST(Report, SaysAllOfIt) {
  const PlanReport report = small_report(Family::kGrok1, {"tensor=2", "pipeline=2", "shard=4", "expert=4"});
  const std::string html = html_report(report);
  EXPECT_EQ(first_fault_of_tags(html), "");
  for (const char* said : {"small&lt;1&gt; on dgx-h100-pod", "What the step&#39;s time rests on",
                           "all runs checked were of other software", "stage 1", "Memory of the fullest rank",
                           "Where a step&#39;s time goes", "With failures", "What it hangs on",
                           "Sources of the cluster", "interruptions a day", "experts&#39; rank 3"})
    EXPECT_THAT(html, HasSubstr(said));
  EXPECT_EQ(html_report(report), html) << "a function of the report";
}

// A file that somebody sends is text, and the page asks for nothing.
TEST(Report, EscapesAndNeedsNoNetwork) {
  const std::string html = html_report(small_report(Family::kLlama, {"tensor=4", "shard=4"}));
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;alert(&quot;&amp;&quot;)&lt;/script&gt;"));
  EXPECT_THAT(html, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(html, Not(HasSubstr("http://")));
  EXPECT_THAT(html, Not(HasSubstr("https://")));
  EXPECT_THAT(html, Not(HasSubstr("src=")));
  EXPECT_THAT(html, HasSubstr("default-src 'none'"));
  EXPECT_THAT(html, Not(testing::ContainsRegex("[^a-z](nan|inf)[^a-z]")));
  EXPECT_EQ(first_fault_of_tags(html), "");
}

TEST(Report, ARunThatCannotBePlayedIsSaidToBeNone) {
  PlanReport report = small_report(Family::kLlama, {"tensor=4", "shard=4"});
  report.history.reset();
  report.sensitivity.reset();
  report.no_history = "no room";
  const std::string html = html_report(report);
  EXPECT_THAT(html, HasSubstr("Not played: no room"));
  EXPECT_THAT(html, HasSubstr("while nothing fails"));
  EXPECT_EQ(first_fault_of_tags(html), "");
}

TEST(ReportFigures, LayoutsOfAllShapesHaveAPicture) {
  PlanQuestion question = small_question(Family::kGrok1);
  question.model.num_layers = 64;
  Layout layout;
  for (const int64_t pipeline : {1, 3, 64})
    for (const int64_t tensor : {1, 8, 32})
      for (const int64_t shard : {1, 2, 2048}) {
        layout.mesh = {.shard = shard, .tensor = tensor, .expert = tensor > 1 ? 4 : 1, .pipeline = pipeline};
        const std::string html = layout_figure(question, layout);
        EXPECT_EQ(first_fault_of_tags(html), "");
        EXPECT_THAT(html, HasSubstr(">stage " + std::to_string(pipeline - 1) + "<"));
        EXPECT_LT(html.size(), 400'000u) << "what repeats itself is left out";
      }
}

TEST(ReportFigures, ALaneOfManyPassesStaysSmall) {
  StageTimeline stage{.lanes = {{.name = "passes", .spans = {}}}};
  for (int i = 0; i < 20'000; ++i)
    stage.lanes[0].spans.push_back({.begin = i * 1e-3,
                                    .end = i * 1e-3 + 0.9e-3,
                                    .name = "forward",
                                    .work = i % 2 == 0 ? PipelineWork::kForward : PipelineWork::kBackward});
  const std::string html = timeline_figures({stage, stage}, {.seconds = 21, .exposed_data = 1});
  EXPECT_LT(html.size(), 400'000u);
  EXPECT_THAT(html, HasSubstr("21.0 s"));
  EXPECT_EQ(first_fault_of_tags(html), "");
}

TEST(ReportFigures, TheLargestEffectIsOnTopAndChanceIsLeftOut) {
  const auto row = [](const std::string& path, double low, double high, double useful) {
    SensitivityRow row{.assumed = {path, 1, 0.5, 2, "why"}, .at = {}, .refused = {}};
    row.at[0] = RunAnswer{.step_seconds = low, .useful = useful};
    row.at[1] = RunAnswer{.step_seconds = high, .useful = useful};
    return row;
  };
  const std::vector<SensitivityRow> rows = {row("small", 9.9, 10.1, 0.9), row("large", 8, 13, 0.9001),
                                            row("none", 10, 10, 0.5)};
  const Tornado of_step{.title = "t", .unit = "u", .base = 10, .of = &RunAnswer::step_seconds};
  const std::string html = tornado_figure(of_step, rows);
  EXPECT_LT(html.find(">large<"), html.find(">small<"));
  EXPECT_THAT(html, HasSubstr("+30.00"));
  EXPECT_THAT(html, HasSubstr("-20.00"));
  EXPECT_THAT(html, Not(HasSubstr(">none<")));
  const std::string useful = tornado_figure({.title = "t",
                                             .unit = "u",
                                             .base = 0.9,
                                             .noise = 0.01,
                                             .base_useful = 0.9,
                                             .relative = false,
                                             .of = &RunAnswer::useful},
                                            rows);
  EXPECT_THAT(useful, HasSubstr(">none<"));
  EXPECT_THAT(useful, Not(HasSubstr(">large<"))) << "within what plays differ by chance";
  EXPECT_EQ(tornado_figure(of_step, {}), "");
}

TEST(Html, TextIsSafe) {
  EXPECT_EQ(escape_html("a<b>&\"'\x01\n"), "a&lt;b&gt;&amp;&quot;&#39;\n");
  EXPECT_EQ(fit_text("short", 100), "short");
  EXPECT_THAT(fit_text("much longer than there is room for", 100), testing::EndsWith("..."));
  EXPECT_LE(text_width(fit_text("much longer than there is room for", 100)), 100);
}

}  // namespace
}  // namespace colossus
