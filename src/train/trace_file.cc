#include "train/trace_file.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "base/clock.h"
#include "base/platform.h"
#include "comm/agreement.h"
#include "comm/texts.h"

namespace colossus {
namespace {

constexpr int64_t kMostBytes = int64_t{4} << 30;

std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

// Of this rank, right behind a barrier.
Result<double> seconds_to_first(Communicator* ranks) {
  if (num_ranks_of(ranks) == 1) return 0.0;
  RETURN_IF_ERROR(ranks->barrier());
  const ClockReading own{.boot = boot_id(), .seconds = monotonic_seconds()};
  ASSIGN_OR_RETURN(const auto texts, share_texts(*ranks, fmt::format("{}\n{}", own.seconds, own.boot)));
  const std::string& first = texts.front();
  return seconds_to_first({.boot = first.substr(std::min(first.find('\n') + 1, first.size())),
                           .seconds = std::strtod(first.c_str(), nullptr)},
                          own);
}

}  // namespace

double seconds_to_first(const ClockReading& first, const ClockReading& own) {
  return !own.boot.empty() && own.boot == first.boot ? 0 : first.seconds - own.seconds;
}

Result<std::pair<int64_t, int64_t>> parse_trace_steps(const std::string& text) {
  const size_t colon = std::min(text.find(':'), text.size());
  const auto first = number(std::string_view(text).substr(0, colon));
  const auto last = colon == text.size() ? first : number(std::string_view(text).substr(colon + 1));
  if (!first || !last || *first < 0 || *last < *first)
    return invalid(fmt::format("--trace-steps {}: needs the first and the last step, such as 3:6", text));
  return std::pair(*first, *last);
}

Status write_trace_events(FileSystem& files, const std::string& path, const std::vector<std::string>& events) {
  ASSIGN_OR_RETURN(const auto file, files.create(path));
  std::string_view before = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  for (const std::string& text : events) {
    RETURN_IF_ERROR(file->append(std::as_bytes(std::span(before))));
    RETURN_IF_ERROR(file->append(std::as_bytes(std::span(text))));
    before = ",\n";
  }
  RETURN_IF_ERROR(file->append(std::as_bytes(std::span(std::string_view("\n]}\n")))));
  return file->close();
}

Status write_trace(FileSystem& files, const Trace& trace, Communicator* ranks) {
  ASSIGN_OR_RETURN(const double seconds, seconds_to_first(ranks));
  const int rank = rank_of(ranks);
  ASSIGN_OR_RETURN(const auto texts,
                   gather_texts(ranks, trace.events(rank, fmt::format("rank {}", rank), seconds), kMostBytes));
  return agree(ranks, rank == 0 ? write_trace_events(files, trace.options().path, texts) : ok_status());
}

}  // namespace colossus
