#include "device/tensor_set.h"

namespace colossus {

Status TensorSet::add(Device& device, const Program& program, const Tensor& tensor) {
  if (const auto found = entries_.find(tensor.name); found != entries_.end()) {
    CHECK(found->second.type == tensor.type, tensor.name.c_str());
    return ok_status();
  }
  if (tensor.base) {
    const Tensor& base = program.tensor(tensor.base);
    RETURN_IF_ERROR(add(device, program, base));
    entries_[tensor.name] = {.type = tensor.type,
                             .role = tensor.role,
                             .memory = at(base.name).memory,
                             .offset_bytes = tensor.offset * dtype_bytes(tensor.type.dtype),
                             .is_view = true};
    return ok_status();
  }
  auto memory = device.allocate(std::max<int64_t>(tensor.type.num_bytes(), 1));
  if (!memory.ok()) return memory.status().at(tensor.name);
  entries_[tensor.name] = {.type = tensor.type, .role = tensor.role, .memory = *memory};
  return ok_status();
}

Status TensorSet::add_stored(Device& device, const std::string& name, const TensorType& type, StoredBytes bytes) {
  CHECK(!entries_.contains(name), name.c_str());
  auto memory = device.allocate_stored(std::max<int64_t>(type.num_bytes(), 1), std::move(bytes));
  if (!memory.ok()) return memory.status().at(name);
  entries_[name] = {.type = type, .role = Role::kParameter, .memory = *memory};
  return ok_status();
}

Status TensorSet::add_all(Device& device, const Program& program) {
  for (const Tensor& tensor : program.tensors)
    if (!in_arena(tensor.role)) RETURN_IF_ERROR(add(device, program, tensor));
  return ok_status();
}

Status TensorSet::add_role(Device& device, const Program& program, Role role) {
  for (const Tensor& tensor : program.tensors)
    if (tensor.role == role) RETURN_IF_ERROR(add(device, program, tensor));
  return ok_status();
}

void TensorSet::bind_to(Executable& executable) const {
  const auto& tensors = executable.program().tensors;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (in_arena(tensors[i].role) || tensors[i].base) continue;
    const Entry* entry = find(tensors[i].name);
    if (!entry) continue;
    CHECK(entry->type == tensors[i].type, tensors[i].name.c_str());
    executable.bind({static_cast<int32_t>(i)}, entry->memory, entry->offset_bytes);
  }
}

const TensorSet::Entry* TensorSet::find(const std::string& name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second;
}

const TensorSet::Entry& TensorSet::at(const std::string& name) const {
  const Entry* entry = find(name);
  CHECK(entry != nullptr, name.c_str());
  return *entry;
}

int64_t TensorSet::held_bytes() const {
  int64_t bytes = 0;
  for (const auto& [name, entry] : entries_)
    if (!entry.is_view) bytes += entry.memory->held_bytes();
  return bytes;
}

int64_t TensorSet::num_bytes() const {
  int64_t bytes = 0;
  for (const auto& [name, entry] : entries_)
    if (!entry.is_view) bytes += entry.memory->num_bytes();
  return bytes;
}

}  // namespace colossus
