#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace colossus {
namespace {

constexpr double kWindowSeconds = 15;
constexpr size_t kMaxSamples = 64;
constexpr double kRedrawSeconds = 0.1;
constexpr int kMinBarColumns = 10, kMaxBarColumns = 30;

double share_done(const ProgressState& state) {
  return state.total > 0 ? std::clamp(state.done / state.total, 0.0, 1.0) : 0.0;
}

std::string count_text(const ProgressState& state) {
  if (state.unit == "bytes") {
    return state.total > 0 ? format_quantity(state.done, "bytes") + "/" + format_quantity(state.total, "bytes")
                           : format_quantity(state.done, "bytes");
  }
  // Counts of steps are read digit by digit, counts of tokens are not.
  constexpr double kExact = 1e6;
  const auto number = [&](double value) {
    return std::max(state.done, state.total) < kExact ? fmt::format("{:.0f}", value) : format_quantity(value);
  };
  return fmt::format("{}{} {}", number(state.done), state.total > 0 ? "/" + number(state.total) : "", state.unit);
}

std::string left_text(const ProgressState& state) {
  if (state.total <= 0 || state.per_second <= 0) return "";
  return "left " + format_duration((state.total - state.done) / state.per_second);
}

std::string field_text(const ProgressField& field) {
  return field.name.empty() ? field.value : field.name + " " + field.value;
}

std::string bar_text(double share, int columns, bool unicode) {
  const int filled = static_cast<int>(std::floor(share * columns));
  std::string bar;
  for (int i = 0; i < columns; ++i) bar += unicode ? (i < filled ? "━" : "╌") : (i < filled ? "#" : ".");
  return bar;
}

// A write that a signal cut short goes on; any other failure to print progress is no reason to stop working.
void write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(descriptor, text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return;
    text.remove_prefix(static_cast<size_t>(put));
  }
}

}  // namespace

void RateMeter::add(double seconds, double done) {
  // Going backwards is a new beginning (the next phase of the same bar).
  if (!samples_.empty() && done < samples_.back().second) samples_.clear();
  // Close samples replace each other: the window keeps its length at any call rate.
  if (samples_.size() >= 2 && seconds - samples_[samples_.size() - 2].first < kWindowSeconds / kMaxSamples) {
    samples_.back() = {seconds, done};
  } else {
    samples_.emplace_back(seconds, done);
  }
  while (samples_.size() > 2 && seconds - samples_.front().first > kWindowSeconds) samples_.pop_front();
}

double RateMeter::per_second() const {
  if (samples_.size() < 2) return 0;
  const double seconds = samples_.back().first - samples_.front().first;
  return seconds > 0 ? (samples_.back().second - samples_.front().second) / seconds : 0;
}

std::string progress_bar_line(const ProgressState& state, const Terminal& terminal) {
  const int room = std::max(terminal.columns - 1, 1);
  const std::string percent = state.total > 0 ? fmt::format(" {:3.0f}% ", std::floor(share_done(state) * 100)) : " ";
  const std::string counts = percent + count_text(state);
  std::vector<std::string> parts;
  // Time left matters more than the rate, and both more than the last fields.
  if (const std::string left = left_text(state); !left.empty()) parts.push_back(left);
  if (state.per_second > 0)
    parts.push_back(format_quantity(state.per_second, state.unit == "bytes" ? "bytes" : "") + "/s");
  for (const ProgressField& field : state.fields) parts.push_back(field_text(field));

  const int fixed = display_width(state.label) + display_width(counts);
  const bool has_bar = state.total > 0 && fixed + 1 + kMinBarColumns <= room;
  int used = fixed + (has_bar ? 1 + kMinBarColumns : 0);
  std::string tail;
  for (const std::string& part : parts) {
    const int width = 2 + display_width(part);
    if (used + width > room) break;
    tail += "  " + part;
    used += width;
  }
  std::string line = state.label;
  if (has_bar) {
    const int columns = std::min(kMaxBarColumns, kMinBarColumns + room - used);
    line += " " + bar_text(share_done(state), columns, terminal.unicode);
  }
  line += counts + tail;
  return std::string(fit_to_columns(line, room));
}

std::string progress_plain_line(const ProgressState& state) {
  std::string line = fmt::format("[{}] {} {}", format_duration(state.elapsed_seconds), state.label, count_text(state));
  if (state.total > 0) line += fmt::format(" ({:.0f}%)", std::floor(share_done(state) * 100));
  if (state.per_second > 0) line += fmt::format(", {}/s", format_quantity(state.per_second, state.unit));
  if (const std::string left = left_text(state); !left.empty()) line += ", " + left;
  for (const ProgressField& field : state.fields) line += ", " + field_text(field);
  return line;
}

bool plain_line_due(double elapsed_seconds, double seconds_since_last) {
  constexpr double kFirst = 2, kShortest = 5, kLongest = 60;
  if (elapsed_seconds == seconds_since_last) return elapsed_seconds >= kFirst;
  return seconds_since_last >= std::clamp(elapsed_seconds / 10, kShortest, kLongest);
}

Progress::Progress(ProgressOptions options) : options_(std::move(options)) {
  const int descriptor = options_.descriptor;
  if (!options_.print) options_.print = [descriptor](std::string_view text) { write_all(descriptor, text); };
  if (!options_.terminal) options_.terminal = [descriptor] { return query_terminal(descriptor); };
  if (!options_.clock) options_.clock = monotonic_seconds;
  state_.label = options_.label;
  state_.unit = options_.unit;
  state_.total = options_.total;
  start_seconds_ = last_print_seconds_ = options_.clock();
}

void Progress::update(double done, std::span<const ProgressField> fields) {
  const double now = options_.clock();
  rate_.add(now, done);
  state_.done = done;
  state_.fields.assign(fields.begin(), fields.end());
  state_.elapsed_seconds = now - start_seconds_;
  state_.per_second = rate_.per_second();
  updated_ = true;
  if (bar_on_screen_ && now - last_print_seconds_ < kRedrawSeconds) return;
  const Terminal terminal = options_.terminal();
  if (terminal.interactive || plain_line_due(now - start_seconds_, now - last_print_seconds_)) draw(terminal, now);
}

void Progress::draw(const Terminal& terminal, double now) {
  if (terminal.interactive) {
    options_.print("\r" + progress_bar_line(state_, terminal) + "\x1b[K");
    bar_on_screen_ = true;
  } else {
    options_.print(progress_plain_line(state_) + "\n");
    plain_printed_ = true;
  }
  last_print_seconds_ = now;
}

void Progress::note(std::string_view line) {
  options_.print((bar_on_screen_ ? "\r\x1b[K" : "") + std::string(line) + "\n");
  if (bar_on_screen_) draw(options_.terminal(), options_.clock());
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  if (!updated_) return;
  const double now = options_.clock();
  state_.elapsed_seconds = now - start_seconds_;
  const Terminal terminal = options_.terminal();
  if (terminal.interactive) {
    draw(terminal, now);
    options_.print("\n");
  } else if (plain_printed_ || state_.elapsed_seconds >= 2) {
    draw(terminal, now);
  }
}

}  // namespace colossus
