#include "plan/assumption.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace colossus {
namespace {

constexpr double kLargest = 1e15;

}  // namespace

void SourceNote::visit_fields(FieldVisitor& v) {
  v.field("of", of, "what it is the source of: a field, several, or a topic");
  v.field("text", text, "who says so, and where");
}

void SourceNote::check_fields(FieldChecker& c) const {
  c.require(!of.empty(), "of", "must say what this is the source of");
  c.require(!text.empty(), "text", "must name who says so");
}

void Assumption::visit_fields(FieldVisitor& v) {
  v.field("field", field, "the number it is about, relative to the table it stands in");
  v.field("low", low, "the least it may be");
  v.field("high", high, "the most it may be");
  v.field("why", why, "why this value, and why this range");
}

void Assumption::check_fields(FieldChecker& c) const {
  c.require(!field.empty(), "field", "must name a number of this table");
  c.require(std::isfinite(low) && std::isfinite(high), "low", "and high must be finite");
  c.require(low < high, "low", fmt::format("must be below high = {}; a figure without a range is no assumption", high));
  c.require(!why.empty(), "why", "must say why: what is not published needs a reason");
}

void Evidence::visit_fields(FieldVisitor& v) {
  v.list("sources", sources, "where figures come from");
  v.list("assumptions", assumptions, "figures that are not published, with the ranges they may lie in");
}

std::vector<AssumedNumber> NumberVisitor::assumed() const {
  std::vector<AssumedNumber> all;
  for (const auto& [prefix, assumption] : assumptions_) {
    const std::string path = prefix + assumption.field;
    const auto number = std::ranges::find_if(numbers_, [&](const ConfigNumber& candidate) {
      return candidate.path == path || candidate.index_path == path;
    });
    if (number == numbers_.end()) continue;  // refused by check_evidence
    all.push_back({number->path, number->value, assumption.low, assumption.high, assumption.why});
  }
  return all;
}

std::string NumberVisitor::fault() const {
  if (found_) return needed_;
  std::vector<std::string> paths;
  for (const ConfigNumber& number : numbers_) paths.push_back(number.path);
  const std::string nearest = nearest_name(*target_, paths);
  return "is no number here" + (nearest.empty() ? "" : "; did you mean " + nearest + "?");
}

void NumberVisitor::visit(const FieldSpec& spec, FieldAccess& access) {
  const std::optional<ConfigNode> value = access.write();
  if (!value) return;
  Prefix& prefix = prefixes_.back();
  if (!lists_.empty() && lists_.back().of_assumptions) return visit_assumption(spec, *value);
  // The name comes first in every item that has one.
  if (std::string_view(spec.name) == "name" && prefix.path.ends_with("].") && value->text() != nullptr) {
    prefix.path.replace(prefix.path.rfind('['), std::string::npos, "[" + *value->text() + "].");
  }
  const auto* integer = std::get_if<int64_t>(&value->value);
  const auto* real = std::get_if<double>(&value->value);
  if (integer == nullptr && real == nullptr) return;
  ConfigNumber number = {prefix.path + spec.name, prefix.index_path + spec.name,
                         integer != nullptr ? static_cast<double>(*integer) : *real};
  if (target_ && (*target_ == number.path || *target_ == number.index_path)) {
    found_ = true;
    needed_ = access.read({integer != nullptr ? std::round(target_value_) : target_value_, {}, ""});
  }
  numbers_.push_back(std::move(number));
}

void NumberVisitor::visit_assumption(const FieldSpec& spec, const ConfigNode& value) {
  Assumption& assumption = assumptions_.back().second;
  const std::string_view name = spec.name;
  const auto* real = std::get_if<double>(&value.value);
  if (name == "field") assumption.field = *value.text();
  if (name == "why") assumption.why = *value.text();
  if (name == "low") assumption.low = *real;
  if (name == "high") assumption.high = *real;
}

void NumberVisitor::begin_group(const FieldSpec& spec) {
  const Prefix& prefix = prefixes_.back();
  prefixes_.push_back({prefix.path + spec.name + ".", prefix.index_path + spec.name + "."});
}

std::optional<size_t> NumberVisitor::begin_list(const FieldSpec& spec, size_t) {
  const Prefix& prefix = prefixes_.back();
  if (std::string_view(spec.name) == "assumptions") {
    lists_.push_back({prefix, true});
  } else {
    lists_.push_back({{prefix.path + spec.name, prefix.index_path + spec.name}});
  }
  return std::nullopt;
}

bool NumberVisitor::begin_item(size_t index) {
  const auto& [list, of_assumptions] = lists_.back();
  if (of_assumptions) {
    assumptions_.emplace_back(list.path, Assumption{});
    prefixes_.push_back(list);
  } else {
    prefixes_.push_back({fmt::format("{}[{}].", list.path, index), fmt::format("{}[{}].", list.index_path, index)});
  }
  return true;
}

// Lists other than that of the sources are tables like groups; of items the index is of no use to a reader.
std::optional<size_t> SourceVisitor::begin_list(const FieldSpec& spec, size_t) {
  tables_.emplace_back(spec.name);
  return std::nullopt;
}

bool SourceVisitor::begin_item(size_t) {
  if (tables_.back() != "sources") return true;
  std::string table;
  for (size_t i = 0; i + 1 < tables_.size(); ++i) table += (i > 0 ? "." : "") + tables_[i];
  notes_.push_back({std::move(table), {}});
  return true;
}

void SourceVisitor::end_item() {
  if (tables_.back() != "sources") return;
  const Note note = notes_.back();
  const auto equal = [&](const Note& other) { return other.table == note.table && other.note == note.note; };
  if (std::count_if(notes_.begin(), notes_.end(), equal) > 1) notes_.pop_back();
}

void SourceVisitor::visit(const FieldSpec& spec, FieldAccess& access) {
  if (tables_.empty() || tables_.back() != "sources") return;
  const std::optional<ConfigNode> value = access.write();
  if (!value || value->text() == nullptr) return;
  SourceNote& note = notes_.back().note;
  (std::string_view(spec.name) == "of" ? note.of : note.text) = *value->text();
}

std::string fault_of(const Assumption& assumption, std::span<const ConfigNumber> numbers) {
  const auto number = std::ranges::find_if(numbers, [&](const ConfigNumber& candidate) {
    return candidate.path == assumption.field || candidate.index_path == assumption.field;
  });
  if (number == numbers.end()) {
    std::vector<std::string> paths;
    for (const ConfigNumber& candidate : numbers) paths.push_back(candidate.path);
    const std::string nearest = nearest_name(assumption.field, paths);
    return fmt::format("is about {}, which is no number of this table{}", assumption.field,
                       nearest.empty() ? "" : "; did you mean " + nearest + "?");
  }
  if (number->value >= assumption.low && number->value <= assumption.high) return "";
  return fmt::format("says that {} lies between {} and {}, but it is {}; widen the range or change the value",
                     assumption.field, assumption.low, assumption.high, number->value);
}

std::string fault_of(const ConfigNumber& number) {
  if (std::isnan(number.value)) return "must be a number";
  if (std::abs(number.value) <= kLargest) return "";
  return fmt::format("({}) is more than any machine has; mind the unit", number.value);
}

}  // namespace colossus
