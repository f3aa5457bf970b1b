// What a figure in a configuration file rests on. Published figures have a source; the others are assumptions, each
// with the range it may lie in and the reason, so that a report can walk the ranges and say what hangs on which:
//
//   [power]
//   pue = 1.25
//   [[power.sources]]
//   of = "pue"
//   text = "Uptime Institute, Global Data Center Survey 2024"
//   [[power.assumptions]]
//   field = "pue"              # relative to the table it stands in: "node.host_watts", "components[gpu].rate" also do
//   low = 1.1
//   high = 1.35
//   why = "liquid cooling, air for the rest; not published"
//
// Any struct may have both, by `evidence.visit_fields(v)` at the end of its visit_fields and `check_evidence(*this, c)`
// in its check_fields. So a part that many files extend brings its own.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "io/config.h"
#include "io/fields.h"

namespace colossus {

struct SourceNote {
  std::string of;  // a field's path, several, or a topic
  std::string text;
  void visit_fields(FieldVisitor& v);
  void check_fields(FieldChecker& c) const;
  friend bool operator==(const SourceNote&, const SourceNote&) = default;
};

struct Assumption {
  std::string field;  // path of a number, relative to the table the assumption stands in
  double low = 0, high = 0;
  std::string why;
  void visit_fields(FieldVisitor& v);
  void check_fields(FieldChecker& c) const;
  friend bool operator==(const Assumption&, const Assumption&) = default;
};

struct Evidence {
  std::vector<SourceNote> sources;
  std::vector<Assumption> assumptions;
  void visit_fields(FieldVisitor& v);
  friend bool operator==(const Evidence&, const Evidence&) = default;
};

// A number of a configuration struct.
struct ConfigNumber {
  std::string path;        // items of lists by their name where they have one: "pools[h100].nodes"
  std::string index_path;  // and always by their index: "pools[0].nodes"
  double value = 0;
};

// An assumption with its place in the whole.
struct AssumedNumber {
  std::string path;
  double value = 0, low = 0, high = 0;
  std::string why;
};

// Walks a struct: gathers its numbers and the assumptions beside them, or sets one number.
class NumberVisitor final : public FieldVisitor {
 public:
  NumberVisitor() = default;
  NumberVisitor(std::string target, double value) : target_(std::move(target)), target_value_(value) {}

  const std::vector<ConfigNumber>& numbers() const { return numbers_; }
  std::vector<AssumedNumber> assumed() const;
  // Of setting: "" when it was done, or what was needed.
  std::string fault() const;

 private:
  struct Prefix {
    std::string path, index_path;
  };
  struct List {
    Prefix prefix;
    bool of_assumptions = false;  // prefix is then that of what they stand beside
  };
  void visit(const FieldSpec& spec, FieldAccess& access) override;
  void begin_group(const FieldSpec& spec) override;
  void end_group() override { prefixes_.pop_back(); }
  std::optional<size_t> begin_list(const FieldSpec& spec, size_t size) override;
  bool begin_item(size_t index) override;
  void end_item() override { prefixes_.pop_back(); }
  void end_list() override { lists_.pop_back(); }
  void visit_assumption(const FieldSpec& spec, const ConfigNode& value);

  std::optional<std::string> target_;
  double target_value_ = 0;
  bool found_ = false;
  std::string needed_;
  std::vector<ConfigNumber> numbers_;
  std::vector<std::pair<std::string, Assumption>> assumptions_;  // and where they stand
  std::vector<Prefix> prefixes_ = {{"", ""}};
  std::vector<List> lists_;
};

// Gathers the source notes of a struct and of all within it, with the table that each stands in ("network", "" for the
// struct itself).
class SourceVisitor final : public FieldVisitor {
 public:
  struct Note {
    std::string table;
    SourceNote note;
  };
  const std::vector<Note>& notes() const { return notes_; }

 private:
  void visit(const FieldSpec& spec, FieldAccess& access) override;
  void begin_group(const FieldSpec& spec) override { tables_.push_back(spec.name); }
  void end_group() override { tables_.pop_back(); }
  std::optional<size_t> begin_list(const FieldSpec& spec, size_t size) override;
  bool begin_item(size_t index) override;
  void end_item() override;
  void end_list() override { tables_.pop_back(); }

  std::vector<std::string> tables_;
  std::vector<Note> notes_;
};

// Empties every list of assumptions.
class AssumptionDropper final : public FieldVisitor {
 private:
  void visit(const FieldSpec&, FieldAccess&) override {}
  void begin_group(const FieldSpec&) override {}
  void end_group() override {}
  std::optional<size_t> begin_list(const FieldSpec& spec, size_t) override {
    return std::string_view(spec.name) == "assumptions" ? std::optional<size_t>(0) : std::nullopt;
  }
  bool begin_item(size_t) override { return true; }
  void end_item() override {}
  void end_list() override {}
};

// "" when `assumption`, standing beside `numbers`, names one of them and its range holds the number's value.
std::string fault_of(const Assumption& assumption, std::span<const ConfigNumber> numbers);

// "" or what is wrong with a number whatever it means: it is no number, or so large that sums of it overflow.
std::string fault_of(const ConfigNumber& number);

// In check_fields of a struct with `evidence`.
template <class C>
void check_evidence(const C& config, FieldChecker& c) {
  NumberVisitor visitor;
  C copy = config;
  visitor.visit_struct(copy);
  for (const ConfigNumber& number : visitor.numbers()) {
    const std::string fault = fault_of(number);
    c.require(fault.empty(), number.index_path.c_str(), fault);
  }
  const std::vector<Assumption>& assumptions = config.evidence.assumptions;
  for (size_t i = 0; i < assumptions.size(); ++i) {
    const std::string fault = fault_of(assumptions[i], visitor.numbers());
    c.require(fault.empty(), ("assumptions[" + std::to_string(i) + "]").c_str(), fault);
  }
}

// Every assumption of a struct and of all within it.
template <class C>
std::vector<AssumedNumber> assumptions_of(C config) {
  NumberVisitor visitor;
  visitor.visit_struct(config);
  return visitor.assumed();
}

// Every source note of a struct and of all within it, each once.
template <class C>
std::vector<SourceVisitor::Note> sources_of(C config) {
  SourceVisitor visitor;
  visitor.visit_struct(config);
  return visitor.notes();
}

// A copy in which nothing is assumed: whoever sets figures is bound by no range of the file's.
template <class C>
C without_assumptions(C config) {
  AssumptionDropper dropper;
  dropper.visit_struct(config);
  return config;
}

// A copy with another value of the number at `path`, checked as a file would be. Whole numbers are rounded to.
template <class C>
Result<C> with_number(C config, const std::string& path, double value) {
  NumberVisitor visitor(path, value);
  visitor.visit_struct(config);
  if (const std::string fault = visitor.fault(); !fault.empty()) return invalid(path + " " + fault);
  return parse_config<C>(print_config(config), "with another " + path);
}

}  // namespace colossus
