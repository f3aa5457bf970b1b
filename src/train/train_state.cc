#include "train/train_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "base/fill_normal.h"
#include "base/milestone.h"
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

const char* file_of(Role role) { return role == Role::kParameter ? "model" : "optimizer"; }

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
    const TensorSet::Entry& entry = tensors.at(spec.name);
    device.write(*entry.memory, entry.offset_bytes, std::as_bytes(std::span(values)));
  }
}

std::vector<CheckpointTensor> checkpoint_tensors(Device& device, const std::vector<StatePart>& parts) {
  std::vector<CheckpointTensor> result;
  for (const StatePart& part : parts)
    result.push_back(
        {.file = file_of(part.role),
         .name = part.name,
         .dtype = DType::kF32,
         .shape = part.whole,
         .piece = part.piece,
         .read = [&device, memory = part.memory, first = part.offset_bytes](int64_t offset, std::span<std::byte> into) {
           device.read(*memory, first + offset, into);
           return ok_status();
         }});
  return result;
}

Status load_parts(Device& device, const std::vector<StatePart>& parts, const Checkpoint& checkpoint) {
  for (const StatePart& part : parts) {
    milestone("read");
    const std::string file = file_of(part.role);
    const Checkpoint::Entry* stored = checkpoint.find(file, part.name);
    if (!stored)
      return invalid(fmt::format("[{}] has no tensor {} in its {}; it belongs to another configuration",
                                 checkpoint.path(), part.name, file));
    if (!(stored->shape == part.whole) || stored->dtype != DType::kF32)
      return invalid(fmt::format("[{}] {} of its {} is {} {}; this configuration needs f32 {}", checkpoint.path(),
                                 part.name, file, dtype_name(stored->dtype), stored->shape.to_string(),
                                 part.whole.to_string()));
    RETURN_IF_ERROR(checkpoint.read(*stored, part.piece, [&](int64_t offset, std::span<const std::byte> bytes) {
      device.write(*part.memory, part.offset_bytes + offset, bytes);
    }));
  }
  const auto num_expected =
      std::count_if(parts.begin(), parts.end(), [](const auto& part) { return part.role == Role::kParameter; });
  const auto num_stored = std::count_if(checkpoint.tensors().begin(), checkpoint.tensors().end(),
                                        [](const auto& entry) { return entry.file == "model"; });
  if (num_stored != num_expected)
    return invalid(
        fmt::format("[{}] holds {} tensors of the model; this configuration has {}: it belongs to another one",
                    checkpoint.path(), num_stored, num_expected));
  return ok_status();
}

}  // namespace colossus
