#include "device/cpu/cpu_executable.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "base/clock.h"

namespace colossus {

Result<std::unique_ptr<CpuExecutable>> CpuExecutable::make(Program program, CpuResources& resources, bool reference,
                                                           const CompileOptions& options) {
  RETURN_IF_ERROR(verify(program));
  std::unique_ptr<CpuExecutable> executable(new CpuExecutable(std::move(program), resources, reference));
  executable->prepare_kernels();
  executable->plan_ = plan_memory(executable->program_,
                                  [&](int at) { return executable->calls_[static_cast<size_t>(at)].workspace_bytes; });
  if (SharedArena& arena = resources.arena; arena.memory.num_bytes() < executable->plan_.arena_bytes) {
    ASSIGN_OR_RETURN(arena.memory, Buffer::allocate(executable->plan_.arena_bytes));
    ++arena.generation;
  }
  executable->bound_.resize(executable->program_.tensors.size());
  if (options.profile) executable->times_.resize(executable->program_.operations.size());
  return executable;
}

void CpuExecutable::prepare_kernels() {
  for (const Operation& operation : program_.operations) {
    CpuPrepare prepare(program_.shapes(operation), pool_.num_threads());
    if (!reference_) std::visit([&](const auto& op) { prepare_cpu(op, prepare); }, operation.op);
    Call call{};
    call.first_input = views_.size();
    call.num_inputs = operation.inputs.size();
    call.first_output = call.first_input + call.num_inputs;
    call.num_outputs = operation.outputs.size();
    call.first_packed = packed_data_.size();
    call.workspace_bytes = prepare.workspace_bytes;
    views_.resize(call.first_output + call.num_outputs);
    packed_data_.resize(call.first_packed + prepare.packings.size());
    packings_.push_back(std::move(prepare.packings));
    calls_.push_back(call);
  }
}

void CpuExecutable::bind(TensorId id, std::shared_ptr<DeviceMemory> memory) {
  CHECK(!in_arena(program_.tensor(id).role), "activations live in the arena");
  CHECK(memory && memory->num_bytes() >= program_.tensor(id).type.num_bytes(), "the memory is smaller than the tensor");
  bound_[static_cast<size_t>(id.index)] = std::static_pointer_cast<CpuMemory>(std::move(memory));
  resolved_ = false;
}

View CpuExecutable::view_of(TensorId id) const {
  if (!id) return {};
  const Tensor& tensor = program_.tensor(id);
  const auto at = static_cast<size_t>(id.index);
  if (in_arena(tensor.role))
    return resources_.arena.memory.view(tensor.type.dtype, tensor.type.shape, plan_.tensor_offset[at]);
  CHECK(bound_[at] != nullptr, tensor.name.c_str());
  return bound_[at]->buffer.view(tensor.type.dtype, tensor.type.shape);
}

void CpuExecutable::resolve() {
  packed_.clear();
  mutated_.clear();
  for (size_t at = 0; at < program_.operations.size(); ++at) {
    const Operation& operation = program_.operations[at];
    Call& call = calls_[at];
    for (size_t i = 0; i < operation.inputs.size(); ++i) {
      const TensorId id = operation.inputs[i];
      views_[call.first_input + i] = view_of(id);
      if (id && input_operand(operation.op, i).mutated())
        mutated_.push_back(bound_[static_cast<size_t>(id.index)].get());
    }
    for (size_t i = 0; i < operation.outputs.size(); ++i) views_[call.first_output + i] = view_of(operation.outputs[i]);
    call.workspace = call.workspace_bytes > 0 ? resources_.arena.memory.data() + plan_.workspace_offset[at] : nullptr;
    for (size_t slot = 0; slot < packings_[at].size(); ++slot) {
      const WeightPacking& packing = packings_[at][slot];
      const TensorId id = operation.inputs[static_cast<size_t>(packing.input)];
      packed_data_[call.first_packed + slot] = nullptr;
      if (!id || program_.tensor(id).role != Role::kParameter) continue;
      auto packed = resources_.packed_weights.get(bound_[static_cast<size_t>(id.index)], view_of(id), packing);
      CHECK(packed.ok(), packed.status().message().c_str());
      packed_data_[call.first_packed + slot] = (*packed)->data();
      packed_.push_back(*packed);
    }
  }
  std::sort(packed_.begin(), packed_.end());
  packed_.erase(std::unique(packed_.begin(), packed_.end()), packed_.end());
  std::sort(mutated_.begin(), mutated_.end());
  mutated_.erase(std::unique(mutated_.begin(), mutated_.end()), mutated_.end());
  resolved_ = true;
  arena_generation_ = resources_.arena.generation;
}

void CpuExecutable::run() {
  if (!resolved_ || arena_generation_ != resources_.arena.generation) resolve();
  for (const auto& packed : packed_) packed->renew(pool_);
  for (size_t at = 0; at < program_.operations.size(); ++at) {
    if (times_.empty()) {
      run_operation(at);
      continue;
    }
    const double start = monotonic_seconds();
    run_operation(at);
    times_[at].seconds += monotonic_seconds() - start;
    ++times_[at].num_runs;
  }
  for (CpuMemory* memory : mutated_) ++memory->version;
}

void CpuExecutable::run_operation(size_t at) {
  const Call& call = calls_[at];
  const CpuCall kernel_call(pool_, views_.data() + call.first_input, static_cast<int>(call.num_inputs),
                            views_.data() + call.first_output, static_cast<int>(call.num_outputs), call.workspace,
                            packed_data_.data() + call.first_packed);
  std::visit(
      [&](const auto& op) {
        if (reference_)
          run_reference(op, kernel_call);
        else
          run_cpu(op, kernel_call);
      },
      program_.operations[at].op);
}

void CpuExecutable::read_output(TensorId id, std::span<std::byte> into) {
  CHECK(program_.tensor(id).role == Role::kOutput, "only outputs are kept after a run");
  const View view = view_of(id);
  CHECK(static_cast<int64_t>(into.size()) == view.num_bytes());
  std::memcpy(into.data(), view.data, into.size());
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
