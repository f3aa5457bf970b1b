// When the threads of a process did what: spans on lanes, kept in memory. A lane is a row of a timeline; one thread at
// a time adds to it, so that its spans do not overlap. train/trace_file.h writes the timelines of all ranks.
//
// Without a trace a span costs the test of a pointer. With one it costs two looks at the clock, a lock that nobody else
// wants, and 32 bytes of a memory that is bounded.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace colossus {

struct TraceOptions {
  int64_t first_step = 0, last_step = std::numeric_limits<int64_t>::max();  // both are recorded
  std::string path;                                                         // where the timelines are to be written
  int64_t max_spans = 1 << 16;  // of a lane: when there are more, the first ones are forgotten
};

// What many spans have in common. All texts are words of programs: they need no escapes in JSON.
struct TraceLabel {
  std::string name;      // what is done
  std::string category;  // words separated by commas, for filters
  std::string scope;     // what it is a part of; may be empty
  int64_t sent_bytes = 0;

  auto operator<=>(const TraceLabel&) const = default;
};

struct TraceSpan {
  double begin = 0, end = 0;  // monotonic_seconds()
  int64_t step = 0;
  int32_t label = 0;
};

class TraceLane {
 public:
  TraceLane(std::string name, int64_t max_spans) : name_(std::move(name)), max_spans_(max_spans) {}

  const std::string& name() const { return name_; }
  void add(const TraceSpan& span);
  std::vector<TraceSpan> spans() const;  // in the order in which they ended; any thread

 private:
  const std::string name_;
  const int64_t max_spans_;
  mutable std::mutex mutex_;
  std::vector<TraceSpan> ring_;
  int64_t num_added_ = 0;
};

// All of it is for any thread.
class Trace {
 public:
  explicit Trace(TraceOptions options = {}) : options_(std::move(options)), recording_(options_.first_step <= 0) {}
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  const TraceOptions& options() const { return options_; }
  // Spans belong to this step from now on.
  void begin_step(int64_t step);
  int64_t step() const { return step_.load(std::memory_order_relaxed); }
  bool recording() const { return recording_.load(std::memory_order_relaxed); }

  // Made when it is first asked for; lives as long as the trace.
  TraceLane& lane(const std::string& name);
  // The same label has the same number.
  int32_t label(const TraceLabel& label);

  // The events of the trace event format (Chrome; Perfetto opens it), one a line, with commas between them: this
  // process as `process`, its lanes as threads in the order in which they were made. `seconds` is added to all times.
  std::string events(int64_t process, const std::string& process_name, double seconds) const;

 private:
  const TraceOptions options_;
  std::atomic<int64_t> step_ = 0;
  std::atomic<bool> recording_;
  mutable std::mutex mutex_;  // of what follows
  std::vector<std::unique_ptr<TraceLane>> lanes_;
  std::map<TraceLabel, int32_t> labels_;
};

// The lane of the thread that runs programs, where its operations are.
inline constexpr const char* kComputeLane = "compute";

// A span from here to the end of the scope; none where there is no trace, or it does not record now.
class Traced {
 public:
  // For what happens rarely: looks lane and label up.
  Traced(Trace* trace, const char* lane, const char* name) {
    if (trace != nullptr && trace->recording()) begin(*trace, trace->lane(lane), trace->label({.name = name}));
  }
  Traced(Trace* trace, TraceLane* lane, int32_t label) {
    if (trace != nullptr && trace->recording()) begin(*trace, *lane, label);
  }
  ~Traced() {
    if (lane_ != nullptr) end();
  }
  Traced(const Traced&) = delete;
  Traced& operator=(const Traced&) = delete;

 private:
  void begin(const Trace& trace, TraceLane& lane, int32_t label);
  void end();

  TraceLane* lane_ = nullptr;  // null: nothing is recorded
  TraceSpan span_;
};

}  // namespace colossus
