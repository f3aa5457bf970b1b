#include "device/cpu/cpu_executable.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/clock.h"
#include "base/milestone.h"
#include "device/cpu/cpu_collectives.h"
#include "device/cpu/cpu_prepare.h"

namespace colossus {

namespace {

template <class T>
void keep_each_once(std::vector<T>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

}  // namespace

CpuPrepare prepare_operation(const Program& program, const Operation& operation, int num_threads, bool reference) {
  CpuPrepare prepare(program.shapes(operation), num_threads);
  std::visit(
      [&]<class T>(const T& op) {
        if constexpr (Communicates<T>)
          prepare.workspace_bytes = ranks_workspace_bytes(op, prepare.shapes);
        else if (!reference)
          prepare_cpu(op, prepare);
      },
      operation.op);
  return prepare;
}

Result<std::unique_ptr<CpuExecutable>> CpuExecutable::make(Program program, CpuResources& resources, bool reference,
                                                           const CompileOptions& options) {
  RETURN_IF_ERROR(verify(program));
  for (const Operation& operation : program.operations)
    if (const RankGroup* group = group_of(operation.op))
      CHECK(options.groups && options.groups->find(*group), "the program talks to ranks that are not here");
  std::unique_ptr<CpuExecutable> executable(
      new CpuExecutable(std::move(program), resources, reference, options.groups));
  executable->prepare_kernels();
  executable->plan_ = plan_memory(executable->program_,
                                  [&](int at) { return executable->calls_[static_cast<size_t>(at)].workspace_bytes; });
  if (SharedArena& arena = resources.arena; arena.memory.num_bytes() < executable->plan_.arena_bytes) {
    ASSIGN_OR_RETURN(arena.memory, Buffer::allocate(executable->plan_.arena_bytes));
    ++arena.generation;
  }
  executable->bound_.resize(executable->program_.tensors.size());
  executable->bound_offset_.resize(executable->program_.tensors.size());
  if (resources.trace) executable->prepare_trace();
  if (options.profile) executable->times_.resize(executable->program_.operations.size());
  return executable;
}

void CpuExecutable::prepare_kernels() {
  for (const Operation& operation : program_.operations) {
    CpuPrepare prepare = prepare_operation(program_, operation, pool_.num_threads(), reference_);
    Call call{};
    call.first_input = views_.size();
    call.num_inputs = operation.inputs.size();
    call.first_output = call.first_input + call.num_inputs;
    call.num_outputs = operation.outputs.size();
    call.first_packed = packed_data_.size();
    call.workspace_bytes = prepare.workspace_bytes;
    for (const auto* operands : {&operation.inputs, &operation.outputs})
      for (const TensorId id : *operands) call.has_stash |= id && program_.tensor(id).role == Role::kStash;
    views_.resize(call.first_output + call.num_outputs);
    packed_data_.resize(call.first_packed + prepare.packings.size());
    packings_.push_back(std::move(prepare.packings));
    calls_.push_back(call);
  }
}

void CpuExecutable::prepare_trace() {
  Trace& trace = *resources_.trace;
  trace.lane(kComputeLane);  // the first one shown
  for (const Operation& operation : program_.operations) {
    const RankGroup* group = group_of(operation.op);
    std::string lane = group ? group->name() : kComputeLane;
    if (lane.empty()) lane = "world";
    trace_places_.push_back(
        {&trace.lane(lane),
         trace.label({.name = std::string(op_name(operation.op)),
                      .category = fmt::format("{},{}", program_.name, phase_name(operation.phase)),
                      .scope = operation.scope,
                      .sent_bytes = static_cast<int64_t>(cost_of(program_, operation).bytes_sent)})});
  }
}

Traced CpuExecutable::traced(size_t at) const {
  if (trace_places_.empty()) return {nullptr, nullptr, 0};
  return {resources_.trace, trace_places_[at].lane, trace_places_[at].label};
}

void CpuExecutable::bind(TensorId id, std::shared_ptr<DeviceMemory> memory, int64_t offset_bytes) {
  CHECK(!in_arena(program_.tensor(id).role), "activations live in the arena");
  CHECK(!program_.tensor(id).base, "a view lies in its base's memory");
  CHECK(memory && offset_bytes >= 0 && memory->num_bytes() - offset_bytes >= program_.tensor(id).type.num_bytes(),
        "the memory is smaller than the tensor");
  CHECK(offset_bytes % kTensorAlignment == 0);
  bound_offset_[static_cast<size_t>(id.index)] = offset_bytes;
  bound_[static_cast<size_t>(id.index)] = std::static_pointer_cast<CpuMemory>(std::move(memory));
  // A stash moves before every run, and nothing else with it.
  resolved_ = resolved_ && program_.tensor(id).role == Role::kStash;
  if (!resolved_) return;
  for (const StashView& stash : stash_views_)
    if (program_.root(stash.tensor) == id) views_[stash.view] = view_of(stash.tensor);
}

View CpuExecutable::view_of(TensorId id) const {
  if (!id) return {};
  const Tensor& tensor = program_.tensor(id);
  const auto at = static_cast<size_t>(id.index);
  if (in_arena(tensor.role))
    return resources_.arena.memory.view(tensor.type.dtype, tensor.type.shape, plan_.tensor_offset[at]);
  const auto root = static_cast<size_t>(program_.root(id).index);
  CHECK(bound_[root] != nullptr, tensor.name.c_str());
  return bound_[root]->buffer.view(tensor.type.dtype, tensor.type.shape,
                                   bound_offset_[root] + tensor.offset * dtype_bytes(tensor.type.dtype));
}

bool CpuExecutable::reads_packed_only(size_t at, size_t i) const {
  return program_.tensor(program_.operations[at].inputs[i]).role == Role::kParameter &&
         std::ranges::any_of(packings_[at], [&](const WeightPacking& p) { return p.input == static_cast<int>(i); });
}

void CpuExecutable::resolve() {
  packed_.clear();
  mutated_.clear();
  stored_.clear();
  stash_views_.clear();
  const auto resolve_view = [&](size_t view, TensorId id) {
    views_[view] = view_of(id);
    if (id && program_.tensor(id).role == Role::kStash) stash_views_.push_back({view, id});
  };
  for (size_t at = 0; at < program_.operations.size(); ++at) {
    const Operation& operation = program_.operations[at];
    Call& call = calls_[at];
    for (size_t i = 0; i < operation.inputs.size(); ++i) {
      const TensorId id = operation.inputs[i];
      resolve_view(call.first_input + i, id);
      if (!id || in_arena(program_.tensor(id).role)) continue;
      CpuMemory* memory = bound_[static_cast<size_t>(program_.root(id).index)].get();
      if (input_operand(operation.op, i).mutated()) mutated_.push_back(memory);
      if (memory->is_stored() && !reads_packed_only(at, i)) stored_.push_back(memory);
    }
    for (size_t i = 0; i < operation.outputs.size(); ++i) resolve_view(call.first_output + i, operation.outputs[i]);
    call.workspace = call.workspace_bytes > 0 ? resources_.arena.memory.data() + plan_.workspace_offset[at] : nullptr;
    for (size_t slot = 0; slot < packings_[at].size(); ++slot) {
      const WeightPacking& packing = packings_[at][slot];
      const TensorId id = operation.inputs[static_cast<size_t>(packing.input)];
      packed_data_[call.first_packed + slot] = nullptr;
      if (!id || program_.tensor(id).role != Role::kParameter) continue;
      auto packed =
          resources_.packed_weights.get(bound_[static_cast<size_t>(program_.root(id).index)], view_of(id), packing);
      CHECK(packed.ok(), packed.status().message().c_str());
      packed_data_[call.first_packed + slot] = (*packed)->data();
      packed_.push_back(*packed);
    }
  }
  keep_each_once(packed_);
  keep_each_once(mutated_);
  keep_each_once(stored_);
  for (const CpuMemory* memory : mutated_) CHECK(!memory->is_stored(), "what is stored elsewhere is only read");
  resolved_ = true;
  arena_generation_ = resources_.arena.generation;
}

Status CpuExecutable::load() {
  if (!resolved_ || arena_generation_ != resources_.arena.generation) resolve();
  for (CpuMemory* memory : stored_) RETURN_IF_ERROR(memory->fill(pool_));
  return renew(packed_, pool_);
}

Status CpuExecutable::run() {
  RETURN_IF_ERROR(resources_.transfers.take_failure());
  RETURN_IF_ERROR(load());
  done_.assign(program_.operations.size(), 0);
  error_ = ok_status();
  waits_.begin_run();
  last_done_ = -1;
  for (size_t at = 0; at < program_.operations.size(); ++at) {
    // A microbatch of a large model can take longer than a process may be silent.
    milestone("operation");
    if (calls_[at].has_stash && !wait_for_transfers(at)) break;
    if (order_.outlives_run[at]) {
      if (!stand_still_for(order_.waits[at])) break;
      post_beyond_run(at);
      continue;
    }
    if (group_of(program_.operations[at].op)) {
      post(at);
      continue;
    }
    if (!stand_still_for(order_.waits[at])) break;
    const Traced span = traced(at);
    if (times_.empty()) {
      compute(at);
      continue;
    }
    const double start = monotonic_seconds();
    compute(at);
    times_[at].seconds += monotonic_seconds() - start;
    ++times_[at].num_runs;
  }
  Status status = wait_for_lanes();
  for (CpuMemory* memory : mutated_) ++memory->version;
  return status;
}

CpuCall CpuExecutable::call_of(size_t at) {
  const Call& call = calls_[at];
  return CpuCall(pool_, views_.data() + call.first_input, static_cast<int>(call.num_inputs),
                 views_.data() + call.first_output, static_cast<int>(call.num_outputs), call.workspace,
                 packed_data_.data() + call.first_packed);
}

void CpuExecutable::compute(size_t at) {
  const CpuCall call = call_of(at);
  std::visit(
      [&]<class T>(const T& op) {
        if constexpr (!Communicates<T>) {
          if (reference_)
            run_reference(op, call);
          else
            run_cpu(op, call);
        }
      },
      program_.operations[at].op);
}

void CpuExecutable::post(size_t at) {
  {
    const std::lock_guard lock(mutex_);
    ++num_under_way_;
  }
  const RankGroup group = *group_of(program_.operations[at].op);
  if (is_waited_for_at_once(at)) {
    const double start = monotonic_seconds();
    if (resources_.comm_lanes.run_here(group, [&] { communicate_in_order(at); })) {
      const int itself = static_cast<int>(at);
      waits_.stood_still_for({&itself, 1}, start, monotonic_seconds());
      return;
    }
  }
  resources_.comm_lanes.post(group, [this, at] { communicate_in_order(at); });
}

// By the compute lane, before it issues anything else.
bool CpuExecutable::is_waited_for_at_once(size_t at) const {
  if (at + 1 == program_.operations.size()) return true;
  return !group_of(program_.operations[at + 1].op) &&
         std::ranges::find(order_.waits[at + 1], static_cast<int>(at)) != order_.waits[at + 1].end();
}

// What it sends or receives is looked up now: when its turn comes the next run may have begun, with another stash. It
// is not timed: how long the peer lets it wait is not this program's time.
void CpuExecutable::post_beyond_run(size_t at) {
  const Operation& operation = program_.operations[at];
  const bool receives = operation.inputs.empty();
  const TensorId id = receives ? operation.outputs.front() : operation.inputs.front();
  const View view = views_[receives ? calls_[at].first_output : calls_[at].first_input];
  const RankGroup& group = *group_of(operation.op);
  const int64_t transfer = resources_.transfers.begin({.owner = this,
                                                       .bytes = {view.data, static_cast<size_t>(view.num_bytes())},
                                                       .writes = receives,
                                                       .link = group.link});
  if (!times_.empty()) ++times_[at].num_runs;
  const auto memory = bound_[static_cast<size_t>(program_.root(id).index)];
  resources_.comm_lanes.post(group, [this, at, view, receives, transfer, memory] {
    const std::span operand(&view, 1), none(&view, 0);
    Status status = talk(at, {.inputs = receives ? none : operand, .outputs = receives ? operand : none});
    if (!status.ok()) groups_->abort(status.message());
    resources_.transfers.end(transfer, std::move(status));
  });
}

bool CpuExecutable::wait_for_transfers(size_t at) {
  TransfersUnderWay& transfers = resources_.transfers;
  const Operation& operation = program_.operations[at];
  const auto wait = [&](TensorId id, const View& view, bool writes) {
    if (!id || program_.tensor(id).role != Role::kStash) return;
    const std::span<const std::byte> bytes(view.data, static_cast<size_t>(view.num_bytes()));
    const double start = monotonic_seconds();
    if (const auto link = writes ? transfers.wait_to_write(bytes) : transfers.wait_to_read(bytes))
      waits_.waited_for(*link, monotonic_seconds() - start);
  };
  for (size_t i = 0; i < operation.inputs.size(); ++i)
    wait(operation.inputs[i], views_[calls_[at].first_input + i], false);
  for (size_t i = 0; i < operation.outputs.size(); ++i)
    wait(operation.outputs[i], views_[calls_[at].first_output + i], true);
  Status failure = transfers.take_failure();
  if (failure.ok()) return true;
  fail(std::move(failure));
  return false;
}

Status CpuExecutable::talk(size_t at, const RankCall& call) {
  CpuCollectives ranks(*groups_->find(*group_of(program_.operations[at].op)));
  const Traced span = traced(at);
  return std::visit(
      [&]<class T>(const T& op) {
        if constexpr (Communicates<T>)
          return communicate(op, call, ranks);
        else
          return ok_status();
      },
      program_.operations[at].op);
}

void CpuExecutable::communicate_in_order(size_t at) {
  const double start = monotonic_seconds();
  double began = start;
  if (wait_for(order_.waits[at])) {
    began = monotonic_seconds();
    const Call& call = calls_[at];
    Status status = talk(at, {.inputs = {views_.data() + call.first_input, call.num_inputs},
                              .outputs = {views_.data() + call.first_output, call.num_outputs},
                              .workspace = call.workspace});
    if (!status.ok()) fail(std::move(status));
  }
  const double ended = monotonic_seconds();
  waits_.set_times(static_cast<int>(at), began, ended);
  const std::lock_guard lock(mutex_);
  last_done_ = static_cast<int>(at);
  if (!times_.empty()) {
    times_[at].seconds += ended - start;
    ++times_[at].num_runs;
  }
  done_[at] = 1;
  --num_under_way_;
  progress_.notify_all();
}

bool CpuExecutable::wait_for(const std::vector<int>& operations) {
  if (operations.empty()) return true;  // a failure elsewhere is found by whoever waits for it
  std::unique_lock lock(mutex_);
  progress_.wait(lock, [&] {
    return !error_.ok() || std::all_of(operations.begin(), operations.end(),
                                       [&](int other) { return done_[static_cast<size_t>(other)] != 0; });
  });
  return error_.ok();
}

bool CpuExecutable::stand_still_for(const std::vector<int>& operations) {
  if (operations.empty()) return true;
  const double start = monotonic_seconds();
  if (!wait_for(operations)) return false;
  waits_.stood_still_for(operations, start, monotonic_seconds());
  return true;
}

Status CpuExecutable::wait_for_lanes() {
  const double start = monotonic_seconds();
  std::unique_lock lock(mutex_);
  progress_.wait(lock, [&] { return num_under_way_ == 0; });
  if (error_.ok() && last_done_ >= 0) waits_.stood_still_for({&last_done_, 1}, start, monotonic_seconds());
  return error_;
}

void CpuExecutable::fail(Status error) {
  {
    const std::lock_guard lock(mutex_);
    if (!error_.ok()) return;
    error_ = error;
  }
  // What other lanes wait for may never come now.
  if (groups_) groups_->abort(error.message());
  progress_.notify_all();
}

void CpuExecutable::read_output(TensorId id, std::span<std::byte> into) {
  CHECK(program_.tensor(id).role == Role::kOutput, "only outputs are kept after a run");
  const View view = view_of(id);
  CHECK(static_cast<int64_t>(into.size()) == view.num_bytes());
  if (!into.empty()) std::memcpy(into.data(), view.data, into.size());
}

int64_t CpuExecutable::packed_bytes() const {
  std::set<std::tuple<int32_t, int64_t, int64_t, bool, DType>> counted;
  int64_t bytes = 0;
  for (size_t at = 0; at < packings_.size(); ++at)
    for (const WeightPacking& packing : packings_[at]) {
      const TensorId id = program_.operations[at].inputs[static_cast<size_t>(packing.input)];
      if (id && program_.tensor(id).role == Role::kParameter &&
          counted.insert({id.index, packing.k, packing.n, packing.transposed, packing.dtype}).second)
        bytes += packed_weight_bytes(packing);
    }
  return bytes;
}

}  // namespace colossus
