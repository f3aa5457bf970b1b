#include "plan/sweep.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>

#include "base/quantity.h"
#include "io/config_tree.h"
#include "plan/explain.h"

namespace colossus {
namespace {

constexpr const char* kQuestionAxes[] = {"batch_tokens", "seq", "gpus", "dtype"};

bool is_question_axis(const std::string& name) {
  return std::ranges::find(kQuestionAxes, name) != std::end(kQuestionAxes);
}
bool is_layout_axis(const std::string& name) { return std::ranges::count(layout_axes(), name) > 0; }

std::vector<std::string> cluster_numbers(ClusterConfig cluster, bool by_index) {
  NumberVisitor visitor;
  visitor.visit_struct(cluster);
  std::vector<std::string> paths;
  for (const ConfigNumber& number : visitor.numbers()) {
    paths.push_back(number.path);
    if (by_index) paths.push_back(number.index_path);
  }
  return paths;
}

Status check_axis(const SweepAxis& axis, const ClusterConfig& cluster) {
  if (is_question_axis(axis.name) || is_layout_axis(axis.name)) return ok_status();
  if (std::ranges::count(cluster_numbers(cluster, true), axis.name) > 0) return ok_status();
  std::vector<std::string> names = layout_axes();
  names.insert(names.end(), std::begin(kQuestionAxes), std::end(kQuestionAxes));
  const std::vector<std::string> numbers = cluster_numbers(cluster, false);
  names.insert(names.end(), numbers.begin(), numbers.end());
  const std::string nearest = nearest_name(axis.name, names);
  return invalid(fmt::format(
      "[--sweep] {} is no axis: axes are {}, batch_tokens, seq, gpus, dtype and the cluster's numbers, such as "
      "network.nic_gb_per_second{}",
      axis.name, fmt::join(layout_axes(), ", "), nearest.empty() ? "" : "; did you mean " + nearest + "?"));
}

Result<double> number_of(const std::string& name, const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    return invalid(fmt::format("{} = {}; needed a number", name, text));
  return value;
}

// A question with one combination of values in it.
class Point {
 public:
  explicit Point(const SweepQuestion& sweep) : question_(sweep.question), layout_(sweep.layout) {}

  Status set(const std::string& name, const std::string& value) {
    if (is_layout_axis(name)) {
      layout_.push_back(name + "=" + value);
    } else if (name == "batch_tokens") {
      ASSIGN_OR_RETURN(question_.batch_tokens, read_quantity(name, value));
    } else if (name == "seq" || name == "gpus") {
      ASSIGN_OR_RETURN(const double number, read_quantity(name, value));
      if (!(number >= 1 && number < 1e9)) return invalid(fmt::format("{} = {}; needed 1 to 1e9", name, value));
      (name == "seq" ? question_.tokens : question_.num_gpus) = std::llround(number);
      if (question_.num_gpus > question_.gpu_pool().num_gpus())
        return invalid(
            fmt::format("gpus = {}; {} has {}", value, question_.cluster.name, question_.gpu_pool().num_gpus()));
    } else if (name == "dtype") {
      for (const auto& choice : field_choices(ProductType{}))
        if (value == choice.name) {
          question_.products = choice.value;
          return ok_status();
        }
      return invalid(fmt::format("dtype = {}; needed f32, bf16, fp8 or fp4", value));
    } else {
      ASSIGN_OR_RETURN(const double number, number_of(name, value));
      ASSIGN_OR_RETURN(question_.cluster, with_number(without_assumptions(question_.cluster), name, number));
    }
    return ok_status();
  }

  Status judge_into(const Calibration& calibration, const std::vector<CheckedRun>& checked, SweepPoint& point) {
    RETURN_IF_ERROR(check_products(question_));
    if (layout_.empty()) {
      ASSIGN_OR_RETURN(const SearchResult found, search_layouts(question_, calibration, {.keep = 1}));
      if (found.best.empty() && !found.smallest)
        return invalid("no layout is legal: heads, layers and batch leave none");
      if (found.best.empty()) {
        ASSIGN_OR_RETURN(point.judged, judge(question_, calibration, found.smallest->layout));
      } else {
        point.judged = found.best.front();
      }
    } else {
      ASSIGN_OR_RETURN(const Layout layout, layout_with_shard());
      ASSIGN_OR_RETURN(point.judged, judge(question_, calibration, layout));
    }
    point.basis = basis_of(question_, point.judged->layout, checked);
    const std::string fault = memory_fault(point.judged->memory, question_.gpu());
    if (!fault.empty()) return invalid(fault);
    return ok_status();
  }

 private:
  Result<Layout> layout_with_shard() {
    const auto gives = [&](std::string_view name) {
      return std::ranges::any_of(layout_, [&](const std::string& text) { return text.starts_with(name); });
    };
    ASSIGN_OR_RETURN(const Layout given, read_layout(question_, "--sweep", layout_));
    if (gives("shard=") || gives("data=")) return given;
    const int64_t room = question_.gpus_to_use() / given.mesh.num_ranks();
    if (room < 1)
      return invalid(fmt::format("{} ranks; {} GPUs are there", given.mesh.num_ranks(), question_.gpus_to_use()));
    std::vector<std::string> whole = layout_;
    whole.push_back(fmt::format("shard={}", std::bit_floor(static_cast<uint64_t>(room))));
    return read_layout(question_, "--sweep", whole);
  }

  PlanQuestion question_;
  std::vector<std::string> layout_;
};

}  // namespace

Result<SweepAxis> read_sweep_axis(const std::string& text) {
  const size_t at = text.find('=');
  if (at == std::string::npos || at == 0)
    return invalid(fmt::format("[--sweep] {}; give an axis and its values, such as tensor=1,2,4,8", text));
  SweepAxis axis{.name = text.substr(0, at), .values = {}};
  for (size_t begin = at + 1; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string value = text.substr(begin, end - begin);
    if (value.empty()) return invalid(fmt::format("[--sweep] {}; {} has an empty value", text, axis.name));
    if (std::ranges::count(axis.values, value) > 0)
      return invalid(fmt::format("[--sweep] {}; {} is there twice", text, value));
    axis.values.push_back(value);
    begin = end + 1;
  }
  if (axis.values.empty()) return invalid(fmt::format("[--sweep] {}; {} has no values", text, axis.name));
  return axis;
}

Result<std::vector<SweepPoint>> play_sweep(const SweepQuestion& sweep, const Calibration& calibration,
                                           const std::vector<CheckedRun>& checked) {
  size_t count = 1;
  for (size_t i = 0; i < sweep.axes.size(); ++i) {
    const SweepAxis& axis = sweep.axes[i];
    RETURN_IF_ERROR(check_axis(axis, sweep.question.cluster));
    for (size_t before = 0; before < i; ++before)
      if (sweep.axes[before].name == axis.name) return invalid(fmt::format("[--sweep] {} is there twice", axis.name));
    if (axis.values.empty()) return invalid(fmt::format("[--sweep] {} has no values", axis.name));
    if (axis.values.size() > kMostSweepPoints / count)
      return invalid(fmt::format("[--sweep] more than {} combinations; sweep in parts", kMostSweepPoints));
    count *= axis.values.size();
  }
  std::vector<SweepPoint> points(count);
  for (size_t i = 0; i < count; ++i) {
    SweepPoint& point = points[i];
    size_t rest = i;
    for (auto axis = sweep.axes.rbegin(); axis != sweep.axes.rend(); ++axis) {
      point.values.insert(point.values.begin(), axis->values[rest % axis->values.size()]);
      rest /= axis->values.size();
    }
    Point asked(sweep);
    Status status;
    for (size_t axis = 0; axis < sweep.axes.size() && status.ok(); ++axis)
      status = asked.set(sweep.axes[axis].name, point.values[axis]);
    if (status.ok()) status = asked.judge_into(calibration, checked, point);
    if (!status.ok()) point.refused = status.message();
  }
  return points;
}

}  // namespace colossus
