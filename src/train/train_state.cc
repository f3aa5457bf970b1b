#include "train/train_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "base/fill_normal.h"
#include "base/milestone.h"
#include "base/platform.h"
#include "checkpoint/widen.h"

namespace colossus {
namespace {

// Billions of logarithms and cosines: worth every core. The numbers do not depend on how they are shared out.
void fill_in_parallel(const RngKey& key, float scale, const Shape& whole, const Piece& piece, std::span<float> values) {
  constexpr int64_t kGrain = 1 << 16;
  const int64_t num_parts = std::clamp<int64_t>(piece.size() / kGrain, 1, num_usable_cores());
  std::vector<std::thread> threads;
  for (int64_t part = 0; part < num_parts; ++part) {
    const int64_t first = piece.size() * part / num_parts, end = piece.size() * (part + 1) / num_parts;
    threads.emplace_back([=, &whole, &piece] {
      const Piece own{piece.slice, piece.begin + first, piece.begin + end};
      for_each_common_run(whole_piece(whole), own, [&](int64_t from, int64_t to, int64_t count) {
        fill_normal(key, static_cast<uint64_t>(from), scale,
                    values.subspan(static_cast<size_t>(first + to), static_cast<size_t>(count)));
      });
    });
  }
  for (std::thread& thread : threads) thread.join();
}

const char* file_of(Role role) { return role == Role::kParameter ? "model" : "optimizer"; }

}  // namespace

std::vector<StatePart> whole_parameters(const TensorSet& tensors, std::span<const ParameterSpec> table) {
  std::vector<StatePart> parts;
  for (const ParameterSpec& spec : table) {
    const TensorSet::Entry& entry = tensors.at(spec.name);
    parts.push_back({.name = spec.name,
                     .role = Role::kParameter,
                     .whole = spec.shape,
                     .piece = whole_piece(spec.shape),
                     .memory = entry.memory,
                     .offset_bytes = entry.offset_bytes});
  }
  return parts;
}

void initialize_parameters(Device& device, std::span<const ParameterSpec> table, const std::vector<StatePart>& parts,
                           uint64_t seed) {
  std::vector<float> values;
  for (const StatePart& part : parts) {
    const auto spec = std::ranges::find(table, part.name, &ParameterSpec::name);
    CHECK(spec != table.end() && spec->shape == part.whole, part.name.c_str());
    values.resize(static_cast<size_t>(part.piece.size()));
    const RngKey key{.seed = seed, .purpose = RngPurpose::kInit, .step = static_cast<uint64_t>(spec - table.begin())};
    if (spec->init_std == 0)
      std::ranges::fill(values, static_cast<float>(spec->init_value));
    else
      fill_in_parallel(key, static_cast<float>(spec->init_std), part.whole, part.piece, values);
    device.write(*part.memory, part.offset_bytes, std::as_bytes(std::span(values)));
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

Status load_parts(Device& device, std::span<const ParameterSpec> table, const std::vector<StatePart>& parts,
                  const Checkpoint& checkpoint) {
  for (const StatePart& part : parts) {
    milestone("read");
    const std::string file = file_of(part.role);
    const Checkpoint::Entry* stored = checkpoint.find(file, part.name);
    if (!stored)
      return invalid(fmt::format("[{}] has no tensor {} in its {}; it belongs to another configuration",
                                 checkpoint.path(), part.name, file));
    if (!(stored->shape == part.whole) || !widens_to_f32(stored->dtype))
      return invalid(fmt::format("[{}] {} of its {} is {} {}; this configuration needs f32 {}", checkpoint.path(),
                                 part.name, file, dtype_name(stored->dtype), stored->shape.to_string(),
                                 part.whole.to_string()));
    RETURN_IF_ERROR(
        read_widened(checkpoint, *stored, part.piece, [&](int64_t offset, std::span<const std::byte> bytes) {
          device.write(*part.memory, part.offset_bytes + offset, bytes);
        }));
  }
  const auto num_expected = static_cast<std::ptrdiff_t>(table.size());
  const auto num_stored = std::count_if(checkpoint.tensors().begin(), checkpoint.tensors().end(),
                                        [](const auto& entry) { return entry.file == "model"; });
  if (num_stored != num_expected)
    return invalid(
        fmt::format("[{}] holds {} tensors of the model; this configuration has {}: it belongs to another one",
                    checkpoint.path(), num_stored, num_expected));
  return ok_status();
}

}  // namespace colossus
