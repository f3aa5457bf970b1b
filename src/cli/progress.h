// Progress of what takes longer than two seconds: one line that rewrites itself on a terminal, plain lines now and then
// in a pipe. What a line says is decided by functions of (state, time); Progress only prints.
#pragma once

#include <deque>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "cli/terminal.h"

namespace colossus {

// Rate over the last seconds, so that a slow start (or what a resumed run did before) does not bend the time left.
class RateMeter {
 public:
  void add(double seconds, double done);
  double per_second() const;  // 0 until two moments are known

 private:
  std::deque<std::pair<double, double>> samples_;  // (seconds, done), at most kWindowSeconds and kMaxSamples
};

struct ProgressField {
  std::string name;   // "loss"; may be ""
  std::string value;  // "2.314"
};

struct ProgressState {
  std::string label;  // "train"
  std::string unit;   // "steps", "bytes"
  double done = 0;
  double total = 0;       // 0: not known
  double per_second = 0;  // 0: not known yet
  double elapsed_seconds = 0;
  std::vector<ProgressField> fields;  // the most important first: in a narrow window the last go
};

// At most terminal.columns - 1 wide: a full line would wrap and could not be rewritten.
//   train ━━━━━━━━━━          42% 840/2000 steps  3.2/s  left 6:03  loss 2.31  65% of peak
std::string progress_bar_line(const ProgressState& state, const Terminal& terminal);
// [0:42] train 840/2000 steps (42%), 3.2 steps/s, left 6:03, loss 2.31, 65% of peak
std::string progress_plain_line(const ProgressState& state);
// After 2 s, then every 5 s at first and every minute in the end: a day's log stays readable.
bool plain_line_due(double elapsed_seconds, double seconds_since_last);

struct ProgressOptions {
  std::string label;
  std::string unit;
  double total = 0;
  int descriptor = 2;  // stderr: results on stdout can be piped
  // For tests; by default the descriptor, its terminal and the clock.
  std::function<void(std::string_view)> print;
  std::function<Terminal()> terminal;
  std::function<double()> clock;
};

// One thread. The cursor is never hidden, so a process killed at any moment leaves a terminal that works.
class Progress {
 public:
  explicit Progress(ProgressOptions options);
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Cheap enough for every step: prints ten times a second at most.
  void update(double done, std::span<const ProgressField> fields = {});
  void set_total(double total) { state_.total = total; }
  void set_label(std::string label) { state_.label = std::move(label); }
  // A line that stays, above the bar.
  void note(std::string_view line);
  // The last line stays. What took under two seconds leaves nothing in a pipe. Again: nothing.
  void finish();

 private:
  void draw(const Terminal& terminal, double now);

  ProgressOptions options_;
  ProgressState state_;
  RateMeter rate_;
  double start_seconds_ = 0;
  double last_print_seconds_ = 0;
  bool bar_on_screen_ = false;
  bool updated_ = false;
  bool plain_printed_ = false;
  bool finished_ = false;
};

}  // namespace colossus
