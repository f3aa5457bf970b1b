// What the ranks of a mesh are given, and what one has of it.
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include "base/rng.h"
#include "model/model.h"
#include "parallel/mesh.h"
#include "parallel/partition.h"
#include "tensor/view.h"

namespace colossus {

// The elements of a tensor as doubles.
using Values = std::vector<double>;

inline Values read(View view) {
  Values values(static_cast<size_t>(view.num_elements()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = view.get(static_cast<int64_t>(i));
  return values;
}

struct Case {
  std::string name;
  ModelConfig model;
  MeshConfig mesh;
  DType compute = DType::kF64;
  Recompute recompute = Recompute::kNone;
  bool document_mask = false;
  // Overwrites parameters that chance does not suit.
  std::function<void(const std::string& name, const Shape& shape, Values& values)> fill = nullptr;
};

inline void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }  // for GoogleTest

inline constexpr int64_t kBatch = 2, kTokens = 8;  // of a microbatch

inline ProgramOptions options_of(const Case& c) {
  return {.batch = kBatch, .tokens = kTokens, .compute = c.compute, .document_mask = c.document_mask};
}

inline Values initial_parameter(const Case& c, const std::string& name, const Shape& shape) {
  Values values(static_cast<size_t>(shape.num_elements()));
  const RngKey key{.seed = std::hash<std::string>()(name), .purpose = RngPurpose::kTest};
  const double scale = shape.rank() == 1 ? 0.1 : 0.4;
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = scale * random_normal(key, i) + (shape.rank() == 1 && !name.ends_with("bias") ? 1 : 0);
  if (c.fill) c.fill(name, shape, values);
  return values;
}

// What data rank `data_rank` of `num_data_ranks` feeds the whole program.
inline Values input_values(const Case& c, const std::string& name, const Shape& shape, int64_t data_rank,
                           int64_t num_data_ranks) {
  if (name == "loss_grad") return {1.0 / static_cast<double>(num_data_ranks)};
  if (name == "rng") return {7, 3, static_cast<double>(data_rank * kBatch)};
  Values values(static_cast<size_t>(shape.num_elements()));
  const RngKey key{.seed = name == "tokens" ? 1U : 2U, .purpose = RngPurpose::kTest, .step = uint64_t(data_rank)};
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t column = static_cast<int64_t>(i) % kTokens;
    if (name == "document_start")
      values[i] = column < 3 ? 0 : 3;
    else
      values[i] = static_cast<double>(random_bits(key, i) % static_cast<uint64_t>(c.model.vocab_size));
    // Targets that are left out, not the same number on each rank.
    if (name == "targets" && (column == 1 || i == 4 || i == 5)) values[i] = -1;
  }
  return values;
}

// Columns of a (B, T) tensor in the order in which context ranks cut them, or back.
inline Values folded(const Values& values, const Shape& shape, const Placement& placement, int64_t context,
                     bool back = false) {
  if (!placement.find(MeshAxis::kContext)) return values;
  Values result(values.size());
  const int64_t T = shape[1];
  for (int64_t i = 0; i < shape.num_elements(); ++i) {
    const auto place = static_cast<size_t>(i), token = static_cast<size_t>(i / T * T + folded_token(T, context, i % T));
    (back ? result[token] : result[place]) = back ? values[place] : values[token];
  }
  return result;
}

// Of one rank's tensor, cut out of the whole.
inline Values part_of(const Values& whole, const Shape& shape, const Placement& placement,
                      const MeshPosition& position) {
  const Slice part = local_slice(shape, placement, position);
  Values values(static_cast<size_t>(part.shape.num_elements()));
  for_each_common_run({.shape = shape}, part, [&](int64_t from, int64_t to, int64_t count) {
    std::copy_n(whole.begin() + from, count, values.begin() + to);
  });
  return values;
}

inline void add_part(Values& whole, const Shape& shape, const Placement& placement, const MeshPosition& position,
                     const Values& part) {
  const Slice slice = local_slice(shape, placement, position);
  ASSERT_EQ(static_cast<int64_t>(part.size()), slice.shape.num_elements());
  for_each_common_run({.shape = shape}, slice, [&](int64_t to, int64_t from, int64_t count) {
    for (int64_t i = 0; i < count; ++i) whole[static_cast<size_t>(to + i)] += part[static_cast<size_t>(from + i)];
  });
}

}  // namespace colossus
