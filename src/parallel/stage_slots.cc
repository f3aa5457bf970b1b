#include "parallel/stage_slots.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <tuple>

#include "base/check.h"

namespace colossus {
namespace {

using Steps = std::vector<PipelineStep>;

constexpr double kNever = -1;

bool is_forward(PipelineWork work) { return work == PipelineWork::kForward; }
bool is_backward(PipelineWork work) { return work == PipelineWork::kBackward || work == PipelineWork::kBackwardInput; }
double duration(PipelineWork work) { return work == PipelineWork::kBackward ? 2 : 1; }

std::string text(const PipelineStep& step) {
  return fmt::format("{} of chunk {}, microbatch {}", pipeline_work_name(step.work), step.chunk, step.microbatch);
}

// The pieces of a model as their stages see them.
struct Pieces {
  explicit Pieces(const PipelineShape& shape)
      : num_stages(shape.num_stages), last(int64_t{shape.num_stages} * shape.num_chunks - 1) {}

  int64_t at(size_t stage, const PipelineStep& step) const {
    return step.chunk * num_stages + static_cast<int64_t>(stage);
  }
  bool receives(size_t stage, const PipelineStep& step) const {
    return (is_forward(step.work) && at(stage, step) > 0) || (is_backward(step.work) && at(stage, step) < last);
  }
  bool sends(size_t stage, const PipelineStep& step) const {
    return (is_forward(step.work) && at(stage, step) < last) || (is_backward(step.work) && at(stage, step) > 0);
  }

  int64_t num_stages, last;
};

Status check_adding_order(const std::vector<Steps>& stages) {
  for (size_t s = 0; s < stages.size(); ++s) {
    std::map<std::pair<PipelineWork, int>, int64_t> next;  // microbatch
    for (const PipelineStep& step : stages[s])
      if (!is_forward(step.work) && step.microbatch != next[{step.work, step.chunk}]++)
        return invalid(fmt::format("[stage {}] {} comes out of order: gradients are added microbatch by microbatch", s,
                                   text(step)));
  }
  return ok_status();
}

// From which work on, and to which, a kind is kept; of an inbox the first is the step that receives.
struct Stretch {
  bool inbox = false;
  bool from_forward = false, from_backward = false;
  bool to_backward = false, to_weight = false;  // neither: to the end of the first step
};

Stretch stretch_of(StashKind kind) {
  switch (kind) {
    case StashKind::kForwardBackward: return {.from_forward = true, .to_backward = true};
    case StashKind::kForwardWeight: return {.from_forward = true, .to_weight = true};
    case StashKind::kBackwardWeight: return {.from_backward = true, .to_weight = true};
    case StashKind::kOutbox: return {};
    case StashKind::kInbox: return {.inbox = true, .from_forward = true, .from_backward = true};
    case StashKind::kInboxForwardBackward: return {.inbox = true, .from_forward = true, .to_backward = true};
    case StashKind::kInboxForwardWeight: return {.inbox = true, .from_forward = true, .to_weight = true};
    case StashKind::kInboxBackwardWeight: return {.inbox = true, .from_backward = true, .to_weight = true};
  }
  return {};
}

// The slots of one kind on one stage.
class SlotAssignment {
 public:
  SlotAssignment(StashKind kind, const Pieces& pieces, size_t stage, const Steps& steps)
      : stretch_(stretch_of(kind)), pieces_(pieces), stage_(stage), steps_(steps) {}

  SlotUse run() {
    // Without weights of their own nothing waits for them.
    if (std::ranges::none_of(steps_, [&](const PipelineStep& step) { return ends(step); })) {
      use_.of_step.assign(steps_.size(), -1);
      return use_;
    }
    if (stretch_.inbox && !steps_.empty()) take(steps_.front());
    for (size_t i = 0; i < steps_.size(); ++i) {
      const PipelineStep& step = steps_[i];
      if (!stretch_.inbox)
        take(step);
      else if (i + 1 < steps_.size())
        take(steps_[i + 1]);
      const auto own = held_.find(key(step));
      use_.of_step.push_back(own == held_.end() ? -1 : own->second);
      if (own == held_.end() || !ends(step)) continue;
      free_.insert(own->second);
      held_.erase(own);
    }
    return use_;
  }

 private:
  // A microbatch on a chunk; what is kept for one step alone may be there twice.
  using Key = std::tuple<PipelineWork, int, int64_t>;

  bool ends_at_once() const { return !stretch_.to_backward && !stretch_.to_weight; }
  Key key(const PipelineStep& step) const {
    return {ends_at_once() ? step.work : PipelineWork::kForward, step.chunk, step.microbatch};
  }
  bool begins(const PipelineStep& step) const {
    if (stretch_.inbox && !pieces_.receives(stage_, step)) return false;
    // Between two parts of a backward pass nothing is kept of one in one part.
    const bool backward = stretch_.to_weight ? step.work == PipelineWork::kBackwardInput : is_backward(step.work);
    return (stretch_.from_forward && is_forward(step.work)) || (stretch_.from_backward && backward);
  }
  bool ends(const PipelineStep& step) const {
    if (ends_at_once()) return begins(step);
    return stretch_.to_backward ? is_backward(step.work) : step.work == PipelineWork::kBackwardWeight;
  }
  void take(const PipelineStep& step) {
    if (!begins(step)) return;
    if (free_.empty()) free_.insert(use_.count++);
    held_[key(step)] = free_.extract(free_.begin()).value();
  }

  const Stretch stretch_;
  const Pieces& pieces_;
  const size_t stage_;
  const Steps& steps_;
  SlotUse use_;
  std::set<int64_t> free_;
  std::map<Key, int64_t> held_;
};

SlotUse assign_outboxes(const Pieces& pieces, size_t stage, const Steps& steps, int64_t count) {
  SlotUse use{.count = count, .of_step = {}};
  int64_t next = 0;
  for (const PipelineStep& step : steps) use.of_step.push_back(pieces.sends(stage, step) ? next++ % count : -1);
  return use;
}

// Plays the lists with sends that are done when the neighbour starts the step that receives them. It asks for them a
// step earlier, so none is done later than that.
class Rendezvous {
 public:
  Rendezvous(const Pieces& pieces, const std::vector<Steps>& stages, int64_t num_outboxes)
      : pieces_(pieces), stages_(stages), to_next_(stages.size()), to_previous_(stages.size()) {
    for (size_t s = 0; s < stages.size(); ++s) {
      State& state = states_.emplace_back();
      state.outbox = assign_outboxes(pieces, s, stages[s], num_outboxes).of_step;
      state.free_at.assign(static_cast<size_t>(num_outboxes), 0);
    }
  }

  // When the last stage is done; kNever if stages wait for each other in a circle.
  Result<double> play() {
    for (bool moved = true; moved;) {
      moved = false;
      for (size_t s = 0; s < stages_.size(); ++s)
        for (bool more = true; more && states_[s].position < stages_[s].size(); moved |= more) {
          ASSIGN_OR_RETURN(more, advance(s));
        }
    }
    double end = 0;
    for (size_t s = 0; s < stages_.size(); ++s) {
      if (states_[s].position < stages_[s].size()) return kNever;
      end = std::max(end, states_[s].clock);
    }
    return end;
  }

 private:
  struct Message {
    int64_t piece;  // that takes it
    int64_t microbatch;
    size_t outbox;
    double sent_at;
  };
  struct State {
    size_t position = 0;
    bool started = false;
    double clock = 0;
    std::vector<int64_t> outbox;  // by step
    std::vector<double> free_at;  // by outbox; kNever: nobody has come for it yet
  };

  std::deque<Message>& link_from(size_t stage, bool forward) { return (forward ? to_next_ : to_previous_)[stage]; }

  Result<bool> start(size_t s, const PipelineStep& step) {
    State& state = states_[s];
    if (pieces_.receives(s, step)) {
      const size_t count = stages_.size(), peer = (is_forward(step.work) ? s + count - 1 : s + 1) % count;
      std::deque<Message>& link = link_from(peer, is_forward(step.work));
      if (link.empty()) return false;
      const Message& message = link.front();
      if (message.piece != pieces_.at(s, step) || message.microbatch != step.microbatch)
        return invalid(fmt::format("[stage {}] {} is not what stage {} sends next", s, text(step), peer));
      state.clock = std::max(state.clock, message.sent_at);
      states_[peer].free_at[message.outbox] = state.clock;
      link.pop_front();
    }
    state.clock += duration(step.work);
    state.started = true;
    return true;
  }

  Result<bool> advance(size_t s) {
    State& state = states_[s];
    const PipelineStep& step = stages_[s][state.position];
    if (!state.started) {
      ASSIGN_OR_RETURN(const bool started, start(s, step));
      if (!started) return false;
    }
    if (pieces_.sends(s, step)) {
      const auto outbox = static_cast<size_t>(state.outbox[state.position]);
      if (state.free_at[outbox] == kNever) return false;
      state.clock = std::max(state.clock, state.free_at[outbox]);
      state.free_at[outbox] = kNever;
      const bool forward = is_forward(step.work);
      link_from(s, forward).push_back({pieces_.at(s, step) + (forward ? 1 : -1), step.microbatch, outbox, state.clock});
    }
    state.started = false;
    ++state.position;
    return true;
  }

  const Pieces& pieces_;
  const std::vector<Steps>& stages_;
  std::vector<State> states_;
  std::vector<std::deque<Message>> to_next_, to_previous_;  // by sender
};

}  // namespace

std::string_view stash_kind_name(StashKind kind) {
  switch (kind) {
    case StashKind::kForwardBackward: return "stash.forward_backward";
    case StashKind::kForwardWeight: return "stash.forward_weight";
    case StashKind::kBackwardWeight: return "stash.backward_weight";
    case StashKind::kOutbox: return "outbox";
    case StashKind::kInbox: return "inbox";
    case StashKind::kInboxForwardBackward: return "inbox.forward_backward";
    case StashKind::kInboxForwardWeight: return "inbox.forward_weight";
    case StashKind::kInboxBackwardWeight: return "inbox.backward_weight";
  }
  return "?";
}

StashKind inbox_like(StashKind stash) {
  switch (stash) {
    case StashKind::kForwardBackward: return StashKind::kInboxForwardBackward;
    case StashKind::kForwardWeight: return StashKind::kInboxForwardWeight;
    case StashKind::kBackwardWeight: return StashKind::kInboxBackwardWeight;
    default: CHECK(false, "an inbox is as a stash"); return stash;
  }
}

Result<std::vector<StageSlots>> assign_stage_slots(const PipelineShape& shape, const std::vector<Steps>& stages) {
  RETURN_IF_ERROR(play_pipeline_schedule(shape, stages).status());
  RETURN_IF_ERROR(check_adding_order(stages));
  const Pieces pieces(shape);
  size_t most = 1;
  for (const Steps& steps : stages) most = std::max(most, steps.size());
  ASSIGN_OR_RETURN(const double fastest, Rendezvous(pieces, stages, static_cast<int64_t>(most)).play());
  if (fastest == kNever) return invalid("[pipeline] the stages' lists wait for each other in a circle");
  int64_t num_outboxes = 1;
  for (double end = kNever; end != fastest;) {
    ASSIGN_OR_RETURN(end, Rendezvous(pieces, stages, ++num_outboxes).play());
  }
  std::vector<StageSlots> slots(stages.size());
  for (size_t s = 0; s < stages.size(); ++s)
    for (const StashKind kind : kStashKinds)
      slots[s][kind] = kind == StashKind::kOutbox ? assign_outboxes(pieces, s, stages[s], num_outboxes)
                                                  : SlotAssignment(kind, pieces, s, stages[s]).run();
  return slots;
}

}  // namespace colossus
