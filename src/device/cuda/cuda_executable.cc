#include "device/cuda/cuda_executable.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/clock.h"
#include "base/milestone.h"

namespace colossus {
namespace {

// In bytes: what kernels read of floats at once, and cuBLASLt is promised. Integers are read one by one.
uintptr_t operand_alignment(DType dtype) { return is_float(dtype) ? 16 : static_cast<uintptr_t>(dtype_bytes(dtype)); }
constexpr const char* kGpuLane = "gpu";

bool communicates(const Program& program) {
  return std::ranges::any_of(program.operations,
                             [](const Operation& operation) { return group_of(operation.op) != nullptr; });
}

}  // namespace

CudaExecutable::CudaExecutable(Program program, CudaResources& resources, const CompileOptions& options)
    : program_(std::move(program)), resources_(resources), groups_(communicates(program_) ? options.groups : nullptr) {
  bound_.resize(program_.tensors.size());
  bound_offset_.resize(program_.tensors.size());
  if (options.profile) times_.resize(program_.operations.size());
}

CudaExecutable::~CudaExecutable() {
  // A failure is found by whoever next talks.
  (void)resources_.wait_for_transfers(this).ok();
  forget_graph();
  for (const gpu::Event event : events_) gpu::destroy(event);
  close_lanes();
}

Result<std::unique_ptr<CudaExecutable>> CudaExecutable::make(Program program, CudaResources& resources,
                                                             const CompileOptions& options) {
  RETURN_IF_ERROR(verify(program));
  for (const Operation& operation : program.operations)
    if (const RankGroup* group = group_of(operation.op))
      CHECK(options.groups && options.groups->find(*group), "the program talks to ranks that are not here");
  std::unique_ptr<CudaExecutable> executable(new CudaExecutable(std::move(program), resources, options));
  RETURN_IF_ERROR(executable->prepare_kernels());
  RETURN_IF_ERROR(executable->open_lanes());
  executable->plan_ = plan_memory(executable->program_,
                                  [&](int at) { return executable->calls_[static_cast<size_t>(at)].workspace_bytes; });
  if (CudaArena& arena = resources.arena; !arena.memory || arena.memory->num_bytes() < executable->plan_.arena_bytes) {
    // Work under way may still use the old one.
    RETURN_IF_ERROR(gpu::synchronize(resources.stream));
    const int64_t bytes_before = arena.memory ? arena.memory->num_bytes() : 0;
    arena.memory.reset();
    ++arena.generation;
    auto larger = CudaMemory::make(executable->plan_.arena_bytes);
    if (!larger.ok()) {
      // The executables that there are go on.
      if (bytes_before > 0) {
        ASSIGN_OR_RETURN(arena.memory, CudaMemory::make(bytes_before));
      }
      return larger.status();
    }
    arena.memory = std::move(*larger);
  }
  return executable;
}

Status CudaExecutable::prepare_kernels() {
  for (const Operation& operation : program_.operations) {
    std::vector<bool> parameters;
    for (const TensorId id : operation.inputs) parameters.push_back(id && program_.tensor(id).role == Role::kParameter);
    CudaPrepare prepare(program_.shapes(operation), std::move(parameters), *resources_.gemms);
    const Status prepared = std::visit(
        [&]<class T>(const T& op) -> Status {
          if constexpr (!Communicates<T>) return prepare_cuda(op, prepare);
          prepare.workspace_bytes = ranks_workspace_bytes(op, prepare.shapes);
          return ok_status();
        },
        operation.op);
    if (!prepared.ok()) return prepared.at(fmt::format("{} {}", op_name(operation.op), operation.scope));
    Call call{};
    call.first_input = views_.size();
    call.num_inputs = operation.inputs.size();
    call.first_output = call.first_input + call.num_inputs;
    call.num_outputs = operation.outputs.size();
    call.first_gemm = gemms_.size();
    call.first_rounded = rounded_data_.size();
    call.workspace_bytes = prepare.workspace_bytes;
    for (const auto* operands : {&operation.inputs, &operation.outputs})
      for (const TensorId id : *operands) call.has_stash |= id && program_.tensor(id).role == Role::kStash;
    views_.resize(call.first_output + call.num_outputs);
    gemms_.insert(gemms_.end(), prepare.gemms.begin(), prepare.gemms.end());
    rounded_data_.resize(call.first_rounded + prepare.rounded.size());
    rounded_.push_back(std::move(prepare.rounded));
    calls_.push_back(call);
  }
  return ok_status();
}

void CudaExecutable::bind(TensorId id, std::shared_ptr<DeviceMemory> memory, int64_t offset_bytes) {
  const Tensor& tensor = program_.tensor(id);
  CHECK(!in_arena(tensor.role), "activations live in the arena");
  CHECK(!tensor.base, "a view lies in its base's memory");
  CHECK(memory && offset_bytes >= 0 && memory->num_bytes() - offset_bytes >= tensor.type.num_bytes(),
        "the memory is smaller than the tensor");
  CHECK(offset_bytes % kTensorAlignment == 0);
  const auto at = static_cast<size_t>(id.index);
  forget_graph();
  bound_offset_[at] = offset_bytes;
  bound_[at] = std::static_pointer_cast<CudaMemory>(std::move(memory));
  // A stash moves before every run, and nothing else with it.
  resolved_ = resolved_ && tensor.role == Role::kStash;
  if (!resolved_) return;
  for (const StashView& stash : stash_views_)
    if (program_.root(stash.tensor) == id) views_[stash.view] = view_of(stash.tensor);
}

View CudaExecutable::view_of(TensorId id) const {
  if (!id) return {};
  const Tensor& tensor = program_.tensor(id);
  View view{.data = nullptr, .shape = tensor.type.shape, .dtype = tensor.type.dtype};
  if (in_arena(tensor.role)) {
    view.data = resources_.arena.memory->data() + plan_.tensor_offset[static_cast<size_t>(id.index)];
  } else {
    const auto root = static_cast<size_t>(program_.root(id).index);
    CHECK(bound_[root] != nullptr, tensor.name.c_str());
    view.data = bound_[root]->data() + bound_offset_[root] + tensor.offset * dtype_bytes(tensor.type.dtype);
  }
  CHECK(reinterpret_cast<uintptr_t>(view.data) % operand_alignment(view.dtype) == 0, tensor.name.c_str());
  return view;
}

Status CudaExecutable::resolve() {
  std::set<std::shared_ptr<Bf16Copy>> copies;
  std::set<CudaMemory*> mutated;
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
      if (id && input_operand(operation.op, i).mutated() && !in_arena(program_.tensor(id).role))
        mutated.insert(bound_[static_cast<size_t>(program_.root(id).index)].get());
    }
    for (size_t i = 0; i < operation.outputs.size(); ++i) resolve_view(call.first_output + i, operation.outputs[i]);
    call.workspace = call.workspace_bytes > 0 ? resources_.arena.memory->data() + plan_.workspace_offset[at] : nullptr;
    for (size_t slot = 0; slot < rounded_[at].size(); ++slot) {
      const auto input = static_cast<size_t>(rounded_[at][slot].input);
      const TensorId id = input < operation.inputs.size() ? operation.inputs[input] : TensorId{};
      rounded_data_[call.first_rounded + slot] = nullptr;
      if (!id || program_.tensor(id).role != Role::kParameter || program_.tensor(id).type.dtype != DType::kF32)
        continue;
      ASSIGN_OR_RETURN(auto copy,
                       resources_.bf16_copies.get(bound_[static_cast<size_t>(program_.root(id).index)], view_of(id)));
      rounded_data_[call.first_rounded + slot] = copy->data();
      copies.insert(copy);
    }
  }
  copies_.assign(copies.begin(), copies.end());
  mutated_.assign(mutated.begin(), mutated.end());
  resolved_ = true;
  arena_generation_ = resources_.arena.generation;
  return ok_status();
}

Status CudaExecutable::enqueue(size_t at) {
  const Call& call = calls_[at];
  if (call.has_stash) wait_for_transfers(at);
  if (call.lane) return communicate(at);
  if (talks() && !order_.waits[at].empty()) wait_for_lanes(order_.waits[at], call.wait_place);
  if (timed_) gpu::record(resources_.stream, events_[2 * at]);
  compute(at);
  if (timed_) gpu::record(resources_.stream, events_[2 * at + 1]);
  return ok_status();
}

void CudaExecutable::compute(size_t at) {
  const Call& call = calls_[at];
  const CudaCall cuda_call(resources_.stream, *resources_.gemms,
                           {.inputs = views_.data() + call.first_input,
                            .num_inputs = static_cast<int>(call.num_inputs),
                            .outputs = views_.data() + call.first_output,
                            .num_outputs = static_cast<int>(call.num_outputs),
                            .workspace = call.workspace,
                            .gemms = gemms_.data() + call.first_gemm,
                            .rounded_weights = rounded_[at].data(),
                            .rounded = rounded_data_.data() + call.first_rounded,
                            .num_rounded = rounded_[at].size()});
  std::visit(
      [&]<class T>(const T& op) {
        if constexpr (!Communicates<T>) run_cuda(op, cuda_call);
      },
      program_.operations[at].op);
}

Status CudaExecutable::load() {
  if (arena_generation_ != resources_.arena.generation) {
    resolved_ = false;
    forget_graph();
  }
  if (!resolved_) RETURN_IF_ERROR(resolve());
  for (const auto& copy : copies_) copy->renew(resources_.stream);
  return ok_status();
}

Status CudaExecutable::run() {
  milestone("operation");
  waited_for_groups_ = nullptr;
  waited_ = {};
  if (talks()) RETURN_IF_ERROR(begin_talk());
  RETURN_IF_ERROR(load());
  timed_ = !times_.empty() || tracing();
  if (timed_) RETURN_IF_ERROR(make_events());
  Status status = is_graph_ && !timed_ ? run_graph() : enqueue_all();
  for (CudaMemory* memory : mutated_) ++memory->version;
  if (status.ok()) status = resources_.gemms->status();
  if (status.ok()) status = gpu::last_error();
  if (RankGroups* groups = talks() ? groups_ : waited_for_groups_)
    status = status.ok() ? finish_talk(*groups) : abort_talk(*groups, status);
  RETURN_IF_ERROR(status);
  return timed_ ? take_times() : ok_status();
}

Status CudaExecutable::run_graph() {
  // What kernels and libraries load when they are first used they do not load while they are written down.
  if (!has_run_) {
    has_run_ = true;
    return enqueue_all();
  }
  if (!graph_) {
    gpu::begin_capture(resources_.stream);
    const Status written = enqueue_all();
    ASSIGN_OR_RETURN(graph_, gpu::end_capture(resources_.stream));
    RETURN_IF_ERROR(written);
  }
  gpu::launch(resources_.stream, graph_);
  return ok_status();
}

// All of it, also behind a failure: whoever waits for an event waits for one that comes.
Status CudaExecutable::enqueue_all() {
  Status status;
  wait_places_.clear();
  for (size_t at = 0; at < program_.operations.size(); ++at) {
    const Status given = enqueue(at);
    if (status.ok()) status = given;
  }
  if (talks()) wait_for_lanes(last_of_lanes_, static_cast<int64_t>(wait_links_.size()) - 1);
  if (timed_) gpu::record(resources_.stream, events_.back());
  return status;
}

Status CudaExecutable::make_events() {
  while (events_.size() <= 2 * program_.operations.size()) {
    ASSIGN_OR_RETURN(const gpu::Event event, gpu::make_event(/*timed=*/true));
    events_.push_back(event);
  }
  if (!resources_.trace || !traced_.empty()) return ok_status();
  for (const Operation& operation : program_.operations) {
    const RankGroup* group = group_of(operation.op);
    const std::string name = group ? group->name() : kGpuLane;
    traced_.push_back({.lane = name.empty() ? "world" : name,
                       .label = resources_.trace->label(
                           {.name = std::string(op_name(operation.op)),
                            .category = fmt::format("{},{}", program_.name, phase_name(operation.phase)),
                            .scope = operation.scope,
                            .sent_bytes = static_cast<int64_t>(cost_of(program_, operation).bytes_sent)})});
  }
  return ok_status();
}

// A send that goes on beyond the run is not timed: how long the peer lets it wait is not this program's time.
Status CudaExecutable::take_times() {
  RETURN_IF_ERROR(gpu::synchronize(events_.back()));
  const double end = monotonic_seconds();
  for (size_t at = 0; at < program_.operations.size(); ++at) {
    if (!times_.empty()) ++times_[at].num_runs;
    if (talks() && order_.outlives_run[at]) continue;
    if (!times_.empty()) times_[at].seconds += gpu::elapsed_seconds(events_[2 * at], events_[2 * at + 1]);
    if (tracing())
      resources_.trace->lane(traced_[at].lane)
          .add({.begin = end - gpu::elapsed_seconds(events_[2 * at], events_.back()),
                .end = end - gpu::elapsed_seconds(events_[2 * at + 1], events_.back()),
                .step = resources_.trace->step(),
                .label = traced_[at].label});
  }
  return ok_status();
}

void CudaExecutable::forget_graph() {
  has_run_ = false;
  if (!graph_) return;
  // It may be under way. A failure is found by the next run.
  (void)gpu::synchronize(resources_.stream).ok();
  gpu::destroy(graph_);
  graph_ = nullptr;
}

void CudaExecutable::read_output(TensorId id, std::span<std::byte> into) {
  CHECK(program_.tensor(id).role == Role::kOutput, "only outputs are kept after a run");
  const View view = view_of(id);
  CHECK(static_cast<int64_t>(into.size()) == view.num_bytes());
  resources_.read(view.data, into);
}

int64_t CudaExecutable::packed_bytes() const {
  std::set<int32_t> counted;
  int64_t bytes = 0;
  for (size_t at = 0; at < rounded_.size(); ++at)
    for (const RoundedWeight& weight : rounded_[at]) {
      const auto input = static_cast<size_t>(weight.input);
      const Operation& operation = program_.operations[at];
      const TensorId id = input < operation.inputs.size() ? operation.inputs[input] : TensorId{};
      if (id && program_.tensor(id).role == Role::kParameter && counted.insert(id.index).second)
        bytes += program_.tensor(id).type.shape.num_elements() * 2;
    }
  return bytes;
}

}  // namespace colossus
