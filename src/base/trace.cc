#include "base/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/check.h"
#include "base/clock.h"

namespace colossus {
namespace {

bool needs_escapes(std::string_view text) {
  return std::ranges::any_of(text, [](char c) { return c == '"' || c == '\\' || static_cast<unsigned char>(c) < ' '; });
}

// "M" events name processes and threads and say in which order they are shown.
std::string metadata(const char* what, int64_t process, size_t thread, const std::string& value) {
  return fmt::format(R"({{"ph":"M","name":"{}","pid":{},"tid":{},"args":{{{}}}}})", what, process, thread, value);
}

std::string event(const TraceSpan& span, const TraceLabel& label, int64_t process, size_t thread, double seconds) {
  // Microseconds, to the nanosecond.
  std::string text = fmt::format(
      R"({{"ph":"X","name":"{}","cat":"{}","pid":{},"tid":{},"ts":{:.3f},"dur":{:.3f},"args":{{"step":{})", label.name,
      label.category, process, thread, (span.begin + seconds) * 1e6, (span.end - span.begin) * 1e6, span.step);
  if (!label.scope.empty()) text += fmt::format(R"(,"scope":"{}")", label.scope);
  if (label.sent_bytes > 0) text += fmt::format(R"(,"sent_bytes":{})", label.sent_bytes);
  return text + "}}";
}

}  // namespace

void TraceLane::add(const TraceSpan& span) {
  const std::lock_guard lock(mutex_);
  if (num_added_ < max_spans_)
    ring_.push_back(span);
  else
    ring_[static_cast<size_t>(num_added_ % max_spans_)] = span;
  ++num_added_;
}

std::vector<TraceSpan> TraceLane::spans() const {
  const std::lock_guard lock(mutex_);
  std::vector<TraceSpan> spans = ring_;
  if (num_added_ > max_spans_) std::ranges::rotate(spans, spans.begin() + num_added_ % max_spans_);
  return spans;
}

void Trace::begin_step(int64_t step) {
  step_ = step;
  recording_ = options_.first_step <= step && step <= options_.last_step;
}

TraceLane& Trace::lane(const std::string& name) {
  CHECK(!needs_escapes(name));
  const std::lock_guard lock(mutex_);
  for (const auto& lane : lanes_)
    if (lane->name() == name) return *lane;
  return *lanes_.emplace_back(std::make_unique<TraceLane>(name, options_.max_spans));
}

int32_t Trace::label(const TraceLabel& label) {
  CHECK(!needs_escapes(label.name) && !needs_escapes(label.category) && !needs_escapes(label.scope));
  const std::lock_guard lock(mutex_);
  return labels_.try_emplace(label, static_cast<int32_t>(labels_.size())).first->second;
}

std::string Trace::events(int64_t process, const std::string& process_name, double seconds) const {
  const std::lock_guard lock(mutex_);
  std::vector<const TraceLabel*> labels(labels_.size());
  for (const auto& [label, number] : labels_) labels[static_cast<size_t>(number)] = &label;
  std::string text = metadata("process_name", process, 0, fmt::format(R"("name":"{}")", process_name)) + ",\n" +
                     metadata("process_sort_index", process, 0, fmt::format(R"("sort_index":{})", process));
  for (size_t thread = 0; thread < lanes_.size(); ++thread) {
    text += ",\n" + metadata("thread_name", process, thread, fmt::format(R"("name":"{}")", lanes_[thread]->name()));
    text += ",\n" + metadata("thread_sort_index", process, thread, fmt::format(R"("sort_index":{})", thread));
    for (const TraceSpan& span : lanes_[thread]->spans())
      text += ",\n" + event(span, *labels[static_cast<size_t>(span.label)], process, thread, seconds);
  }
  return text;
}

void Traced::begin(const Trace& trace, TraceLane& lane, int32_t label) {
  lane_ = &lane;
  span_ = {.begin = monotonic_seconds(), .step = trace.step(), .label = label};
}

void Traced::end() {
  span_.end = monotonic_seconds();
  lane_->add(span_);
}

}  // namespace colossus
