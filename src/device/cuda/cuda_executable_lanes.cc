// How a program's operations that talk to other ranks run beside the others.
#include <algorithm>
#include <functional>

#include "device/cuda/cuda_executable.h"
#include "device/cuda/device_kernels.h"

namespace colossus {
namespace {

template <class T>
concept ReadsOnHost = requires {
  T::kReadsOnHost;
};

bool reads_on_host(const Op& op) {
  return std::visit([]<class T>(const T&) { return ReadsOnHost<T>; }, op);
}

}  // namespace

Status CudaExecutable::open_lanes() {
  // A stash is bound anew before each run, and may be what an earlier run still sends or receives.
  for (const Tensor& tensor : program_.tensors) is_graph_ = is_graph_ && tensor.role != Role::kStash;
  ASSIGN_OR_RETURN(end_, gpu::make_event());
  if (talks()) {
    order_ = order_lanes(program_);
    ASSIGN_OR_RETURN(issue_, gpu::make_event());
    first_number_ = resources_.lanes.name_operations(program_);
  }
  std::map<RankGroup, int> last;
  for (size_t at = 0; at < program_.operations.size(); ++at) {
    const Op& op = program_.operations[at].op;
    const RankGroup* group = group_of(op);
    if (!group) {
      // Twice: for other lanes, then for transfers.
      if (calls_[at].has_stash || (talks() && !order_.waits[at].empty())) {
        calls_[at].wait_place = static_cast<int64_t>(wait_links_.size());
        wait_links_.insert(wait_links_.end(), {Link::kNone, Link::kNone});
      }
      continue;
    }
    ASSIGN_OR_RETURN(calls_[at].lane, resources_.lanes.open(*group));
    is_graph_ = is_graph_ && !reads_on_host(op);
    if (order_.outlives_run[at]) continue;
    ASSIGN_OR_RETURN(calls_[at].done, gpu::make_event());
    last[*group] = static_cast<int>(at);
  }
  for (const auto& [group, at] : last) last_of_lanes_.push_back(at);
  std::ranges::sort(last_of_lanes_, std::greater());  // the newest first, as where one waits in between
  wait_links_.push_back(Link::kNone);
  return wait_times_.grow(static_cast<int64_t>(2 * wait_links_.size() * sizeof(int64_t)));
}

void CudaExecutable::close_lanes() {
  if (first_number_ > 0) resources_.lanes.forget_operations(first_number_);
  for (const Call& call : calls_)
    if (call.done) gpu::destroy(call.done);
  for (const gpu::Event event : {issue_, end_})
    if (event) gpu::destroy(event);
}

Status CudaExecutable::begin_talk() {
  for (const Operation& operation : program_.operations)
    if (const RankGroup* group = group_of(operation.op)) {
      const Communicator* end = groups_->find(*group);
      CHECK(end, "the program talks to ranks that are not here");
      RETURN_IF_ERROR(end->failure());
    }
  resources_.look_at_transfers();
  return resources_.lanes.meet(*groups_);
}

Status CudaExecutable::communicate(size_t at) {
  const Call& call = calls_[at];
  const Operation& operation = program_.operations[at];
  CudaLane& lane = *call.lane;
  gpu::record(resources_.stream, issue_);
  gpu::wait(lane.stream, issue_);
  for (const int other : order_.waits[at]) gpu::wait(lane.stream, calls_[static_cast<size_t>(other)].done);
  if (timed_) gpu::record(lane.stream, events_[2 * at]);
  lane.begin_operation(first_number_ + static_cast<int64_t>(at));
  CudaCollectives ranks(resources_.lanes, lane, *groups_, *group_of(operation.op));
  const RankCall rank_call{.inputs = {views_.data() + call.first_input, call.num_inputs},
                           .outputs = {views_.data() + call.first_output, call.num_outputs},
                           .workspace = call.workspace};
  Status status = std::visit(
      [&]<class T>(const T& op) {
        if constexpr (Communicates<T>)
          return colossus::communicate(op, rank_call, ranks);
        else
          return ok_status();
      },
      operation.op);
  lane.end_operation(first_number_ + static_cast<int64_t>(at));
  if (timed_) gpu::record(lane.stream, events_[2 * at + 1]);
  if (call.done)
    gpu::record(lane.stream, call.done);
  else if (status.ok())
    status = note_transfer(at);
  return status;
}

Status CudaExecutable::note_transfer(size_t at) {
  ASSIGN_OR_RETURN(const gpu::Event event, gpu::make_event());
  gpu::record(calls_[at].lane->stream, event);
  const Operation& operation = program_.operations[at];
  const bool receives = operation.inputs.empty();
  const TensorId root = program_.root(receives ? operation.outputs.front() : operation.inputs.front());
  resources_.transfers.push_back({.owner = this,
                                  .bytes = bytes_of(views_[calls_[at].first_input]),
                                  .writes = receives,
                                  .in = bound_[static_cast<size_t>(root.index)],
                                  .event = event,
                                  .link = group_of(operation.op)->link,
                                  .groups = groups_});
  return ok_status();
}

void CudaExecutable::wait_for_transfers(size_t at) {
  const Call& call = calls_[at];
  std::vector<gpu::Event> events;
  Link link = Link::kNone;
  for (size_t i = 0; i < call.num_inputs + call.num_outputs; ++i) {
    const bool writes = i >= call.num_inputs;
    const TensorId id =
        writes ? program_.operations[at].outputs[i - call.num_inputs] : program_.operations[at].inputs[i];
    if (!id || program_.tensor(id).role != Role::kStash) continue;
    const ConstByteSpan used = bytes_of(views_[call.first_input + i]);
    for (const CudaTransfer& transfer : resources_.transfers) {
      const bool meet = transfer.bytes.data() < used.data() + used.size() &&
                        used.data() < transfer.bytes.data() + transfer.bytes.size();
      if (!meet || !(writes || transfer.writes)) continue;
      events.push_back(transfer.event);
      link = transfer.link;
      waited_for_groups_ = transfer.groups;
    }
  }
  if (events.empty()) return;
  if (!call.lane) return wait_timed(events, call.wait_place + 1, link);
  for (const gpu::Event event : events) gpu::wait(call.lane->stream, event);
}

void CudaExecutable::wait_for_lanes(const std::vector<int>& operations, int64_t place) {
  std::vector<gpu::Event> events;
  Link link = Link::kNone;
  for (size_t i = 0; i < operations.size(); ++i) {
    const auto other = static_cast<size_t>(operations[i]);
    events.push_back(calls_[other].done);
    if (i == 0) link = group_of(program_.operations[other].op)->link;
  }
  wait_timed(events, place, link);
}

void CudaExecutable::wait_timed(const std::vector<gpu::Event>& events, int64_t place, Link link) {
  wait_links_[static_cast<size_t>(place)] = link;
  wait_places_.push_back(place);
  write_time(resources_.stream, wait_times_.numbers() + 2 * place);
  for (const gpu::Event event : events) gpu::wait(resources_.stream, event);
  write_time(resources_.stream, wait_times_.numbers() + 2 * place + 1);
}

Status CudaExecutable::finish_talk(RankGroups& groups) {
  gpu::record(resources_.stream, end_);
  RETURN_IF_ERROR(resources_.lanes.wait(end_, groups));
  for (const int64_t place : wait_places_) {
    const int64_t* times = wait_times_.numbers() + 2 * place;
    waited_[static_cast<size_t>(wait_links_[static_cast<size_t>(place)])] +=
        static_cast<double>(times[1] - times[0]) * 1e-9;
  }
  return ok_status();
}

// What others wait for will not come.
Status CudaExecutable::abort_talk(RankGroups& groups, const Status& error) {
  resources_.lanes.abort(groups, error.message());
  return error;
}

}  // namespace colossus
