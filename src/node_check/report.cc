#include "node_check/report.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <cmath>
#include <cstdlib>

#include "io/checked_json.h"

namespace colossus {
namespace {

constexpr size_t kMaxLineBytes = size_t{1} << 20;
constexpr size_t kMaxResults = 10'000;
constexpr size_t kMaxTextBytes = 4096;
constexpr std::array<Verdict, 3> kVerdicts = {Verdict::kPass, Verdict::kSlow, Verdict::kBad};

std::optional<double> number_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return std::nullopt;
  const double value = found->get<double>();
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return "";
  std::string text = found->get_ref<const std::string&>().substr(0, kMaxTextBytes);
  for (char& c : text)
    if (std::iscntrl(static_cast<unsigned char>(c)) != 0) c = ' ';
  return text;
}

std::optional<Verdict> verdict_of(const Json& object) {
  const std::string text = text_of(object, "verdict");
  for (const Verdict verdict : kVerdicts)
    if (text == verdict_name(verdict)) return verdict;
  return std::nullopt;
}

bool is_result_name(std::string_view name) {
  if (name.empty() || name.size() > 64) return false;
  for (const char c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_' && c != '.' && c != '-') return false;
  return true;
}

Result<CheckResult> parse_result(const Json& object) {
  if (!object.is_object()) return invalid("a result is not an object");
  CheckResult result{.name = text_of(object, "name")};
  if (!is_result_name(result.name)) return invalid("a result has no proper name");
  const auto verdict = verdict_of(object);
  if (!verdict) return invalid(fmt::format("{} has no verdict: pass, slow or bad", result.name));
  result.verdict = *verdict;
  result.value = number_of(object, "value");
  result.unit = text_of(object, "unit");
  result.expected = number_of(object, "expected");
  result.expected_from = text_of(object, "expected_from");
  result.message = text_of(object, "message");
  return result;
}

}  // namespace

const char* verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::kPass: return "pass";
    case Verdict::kSlow: return "slow";
    case Verdict::kBad: return "bad";
  }
  return "bad";
}

void CheckResult::worsen(Verdict to, const std::string& why) {
  verdict = std::max(verdict, to);
  if (why.empty()) return;
  if (!message.empty()) message += "; ";
  message += why;
}

Verdict NodeReport::verdict() const {
  Verdict worst = Verdict::kPass;
  for (const CheckResult& result : results) worst = std::max(worst, result.verdict);
  return worst;
}

const CheckResult* NodeReport::find(std::string_view name) const {
  for (const CheckResult& result : results)
    if (result.name == name) return &result;
  return nullptr;
}

std::string this_host() {
  if (const char* name = std::getenv("SLURMD_NODENAME"); name != nullptr && is_host_name(name)) return name;
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0 || !is_host_name(name.data())) return "localhost";
  return name.data();
}

bool is_host_name(std::string_view name) {
  if (name.empty() || name.size() > 255 || std::isalnum(static_cast<unsigned char>(name[0])) == 0) return false;
  for (const char c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.' && c != '-' && c != '_') return false;
  return true;
}

std::string to_json_line(const NodeReport& report) {
  Json results = Json::array();
  for (const CheckResult& result : report.results) {
    Json object = {{"name", result.name}, {"verdict", verdict_name(result.verdict)}};
    if (result.value) object["value"] = *result.value;
    if (!result.unit.empty()) object["unit"] = result.unit;
    if (result.expected) object["expected"] = *result.expected;
    if (!result.expected_from.empty()) object["expected_from"] = result.expected_from;
    if (!result.message.empty()) object["message"] = result.message.substr(0, kMaxTextBytes);
    results.push_back(std::move(object));
  }
  const Json line = {{"host", report.host},
                     {"verdict", verdict_name(report.verdict())},
                     {"seconds", report.seconds},
                     {"results", std::move(results)}};
  // A kernel log may hold any bytes.
  return line.dump(-1, ' ', true, Json::error_handler_t::replace);
}

Result<NodeReport> parse_node_report(std::string_view line) {
  if (line.size() > kMaxLineBytes) return invalid(fmt::format("a report of {} bytes is too long", line.size()));
  ASSIGN_OR_RETURN(const Json object, parse_checked_json(line));
  if (!object.is_object()) return invalid("not a JSON object");
  NodeReport report{.host = text_of(object, "host"), .seconds = number_of(object, "seconds").value_or(0)};
  if (!is_host_name(report.host)) return invalid("no proper host name");
  const auto results = object.find("results");
  if (results == object.end() || !results->is_array() || results->size() > kMaxResults)
    return invalid(fmt::format("{}: no list of results", report.host));
  for (const Json& one : *results) {
    auto result = parse_result(one);
    if (!result.ok()) return invalid(fmt::format("{}: {}", report.host, result.status().message()));
    report.results.push_back(std::move(*result));
  }
  // What the line says of itself counts only if it is worse than its parts.
  const auto claimed = verdict_of(object);
  if (!claimed) return invalid(fmt::format("{}: no verdict", report.host));
  if (*claimed > report.verdict())
    report.results.push_back({.name = "report", .verdict = *claimed, .message = "the node says so of itself"});
  return report;
}

}  // namespace colossus
