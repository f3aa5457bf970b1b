// How a program's operations that talk to other ranks run beside the others.
#include <algorithm>

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
  order_ = order_lanes(program_);
  std::map<RankGroup, int> last;
  Link last_link = Link::kNone;
  for (size_t at = 0; at < program_.operations.size(); ++at) {
    const Op& op = program_.operations[at].op;
    const std::vector<int>& waits = order_.waits[at];
    const RankGroup* group = group_of(op);
    if (!group) {
      if (waits.empty()) continue;
      calls_[at].wait_place = static_cast<int64_t>(wait_links_.size());
      wait_links_.push_back(group_of(program_.operations[static_cast<size_t>(waits.front())].op)->link);
      continue;
    }
    ASSIGN_OR_RETURN(calls_[at].lane, resources_.lanes.open(*group));
    is_graph_ = is_graph_ && !reads_on_host(op);
    if (order_.outlives_run[at]) continue;
    ASSIGN_OR_RETURN(calls_[at].done, gpu::make_event());
    last[*group] = static_cast<int>(at);
    last_link = group->link;
  }
  // A stash is bound anew before each run, and may be what an earlier run still sends.
  for (const Tensor& tensor : program_.tensors) is_graph_ = is_graph_ && tensor.role != Role::kStash;
  for (const auto& [group, at] : last) last_of_lanes_.push_back(at);
  wait_links_.push_back(last_link);
  RETURN_IF_ERROR(wait_times_.grow(static_cast<int64_t>(2 * wait_links_.size() * sizeof(int64_t))));
  ASSIGN_OR_RETURN(issue_, gpu::make_event());
  ASSIGN_OR_RETURN(end_, gpu::make_event());
  first_number_ = resources_.lanes.name_operations(program_);
  return ok_status();
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
  resources_.look_at_sends();
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
    status = note_send(at);
  return status;
}

Status CudaExecutable::note_send(size_t at) {
  ASSIGN_OR_RETURN(const gpu::Event event, gpu::make_event());
  gpu::record(calls_[at].lane->stream, event);
  const TensorId root = program_.root(program_.operations[at].inputs.front());
  resources_.sends.push_back({.owner = this,
                              .bytes = bytes_of(views_[calls_[at].first_input]),
                              .in = bound_[static_cast<size_t>(root.index)],
                              .event = event,
                              .groups = groups_});
  return ok_status();
}

void CudaExecutable::wait_for_readers_of_stash(size_t at) {
  const Call& call = calls_[at];
  const gpu::Stream stream = call.lane ? call.lane->stream : resources_.stream;
  for (size_t i = 0; i < call.num_outputs; ++i) {
    const TensorId id = program_.operations[at].outputs[i];
    if (!id || program_.tensor(id).role != Role::kStash) continue;
    const ConstByteSpan written = bytes_of(views_[call.first_output + i]);
    for (const CudaSend& send : resources_.sends)
      if (send.bytes.data() < written.data() + written.size() && written.data() < send.bytes.data() + send.bytes.size())
        gpu::wait(stream, send.event);
  }
}

void CudaExecutable::wait_for_lanes(const std::vector<int>& operations, int64_t place) {
  write_time(resources_.stream, wait_times_.numbers() + 2 * place);
  for (const int other : operations) gpu::wait(resources_.stream, calls_[static_cast<size_t>(other)].done);
  write_time(resources_.stream, wait_times_.numbers() + 2 * place + 1);
}

Status CudaExecutable::finish_talk() {
  gpu::record(resources_.stream, end_);
  RETURN_IF_ERROR(resources_.lanes.wait(end_, *groups_));
  waited_ = {};
  for (size_t place = 0; place < wait_links_.size(); ++place) {
    const int64_t* times = wait_times_.numbers() + 2 * place;
    waited_[static_cast<size_t>(wait_links_[place])] += static_cast<double>(times[1] - times[0]) * 1e-9;
  }
  return ok_status();
}

// What others wait for will not come.
Status CudaExecutable::abort_talk(const Status& error) {
  resources_.lanes.abort(*groups_, error.message());
  return error;
}

}  // namespace colossus
