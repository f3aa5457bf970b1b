#include "train/train_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "base/fill_normal.h"
#include "base/platform.h"

namespace colossus {
namespace {

// Billions of logarithms and cosines: worth every core. The numbers do not depend on how they are shared out.
void fill_in_parallel(const RngKey& key, float scale, std::span<float> values) {
  constexpr size_t kGrain = 1 << 16;
  const size_t num_parts = std::clamp<size_t>(values.size() / kGrain, 1, static_cast<size_t>(num_usable_cores()));
  std::vector<std::thread> threads;
  for (size_t part = 0; part < num_parts; ++part) {
    const size_t begin = values.size() * part / num_parts, end = values.size() * (part + 1) / num_parts;
    threads.emplace_back([=] { fill_normal(key, begin, scale, values.subspan(begin, end - begin)); });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

void initialize_parameters(Device& device, const TensorSet& tensors, std::span<const ParameterSpec> parameters,
                           uint64_t seed) {
  std::vector<float> values;
  for (size_t p = 0; p < parameters.size(); ++p) {
    const ParameterSpec& spec = parameters[p];
    values.resize(static_cast<size_t>(spec.shape.num_elements()));
    const RngKey key{.seed = seed, .purpose = RngPurpose::kInit, .step = p};
    if (spec.init_std == 0)
      std::fill(values.begin(), values.end(), static_cast<float>(spec.init_value));
    else
      fill_in_parallel(key, static_cast<float>(spec.init_std), values);
    device.write(*tensors.at(spec.name).memory, 0, std::as_bytes(std::span(values)));
  }
}

std::vector<CheckpointTensor> checkpoint_tensors(Device& device, const TensorSet& tensors) {
  std::vector<CheckpointTensor> result;
  for (const auto& [name, entry] : tensors.entries()) {
    if (entry.role != Role::kParameter && entry.role != Role::kOptimizerState) continue;
    result.push_back({.file = entry.role == Role::kParameter ? "model" : "optimizer",
                      .name = name,
                      .dtype = entry.type.dtype,
                      .shape = entry.type.shape,
                      .piece = whole_piece(entry.type.shape),
                      .read = [&device, memory = entry.memory](int64_t offset, std::span<std::byte> into) {
                        device.read(*memory, offset, into);
                        return ok_status();
                      }});
  }
  return result;
}

Status load_tensors(Device& device, const TensorSet& tensors, const Checkpoint& checkpoint, bool optimizer) {
  int64_t num_expected = 0;
  RETURN_IF_ERROR(load_tensors(device, tensors, checkpoint, optimizer,
                               [&](const std::string&, const TensorSet::Entry& entry) -> TensorPart {
                                 ++num_expected;
                                 return {.whole = entry.type.shape, .piece = whole_piece(entry.type.shape)};
                               }));
  const int64_t num_stored = std::count_if(checkpoint.tensors().begin(), checkpoint.tensors().end(),
                                           [&](const auto& entry) { return optimizer || entry.file == "model"; });
  if (num_stored != num_expected)
    return invalid(fmt::format("[{}] holds {} tensors; this configuration has {}: it belongs to another one",
                               checkpoint.path(), num_stored, num_expected));
  return ok_status();
}

Status load_tensors(Device& device, const TensorSet& tensors, const Checkpoint& checkpoint, bool optimizer,
                    FunctionRef<TensorPart(const std::string&, const TensorSet::Entry&)> part_of) {
  for (const auto& [name, entry] : tensors.entries()) {
    if (entry.role != Role::kParameter && !(optimizer && entry.role == Role::kOptimizerState)) continue;
    const auto [whole, piece] = part_of(name, entry);
    CHECK(piece.size() == entry.type.shape.num_elements(), name.c_str());
    const std::string file = entry.role == Role::kParameter ? "model" : "optimizer";
    const Checkpoint::Entry* stored = checkpoint.find(file, name);
    if (!stored)
      return invalid(fmt::format("[{}] has no tensor {} in its {}; it belongs to another configuration",
                                 checkpoint.path(), name, file));
    if (!(stored->shape == whole) || stored->dtype != entry.type.dtype)
      return invalid(fmt::format("[{}] {} of its {} is {} {}; this configuration needs {} {}", checkpoint.path(), name,
                                 file, dtype_name(stored->dtype), stored->shape.to_string(),
                                 dtype_name(entry.type.dtype), whole.to_string()));
    RETURN_IF_ERROR(checkpoint.read(*stored, piece, [&](int64_t offset, std::span<const std::byte> bytes) {
      device.write(*entry.memory, offset, bytes);
    }));
  }
  return ok_status();
}

}  // namespace colossus
