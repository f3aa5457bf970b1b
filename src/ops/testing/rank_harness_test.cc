#include "ops/testing/rank_harness.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "base/rng.h"
#include "comm/testing.h"
#include "device/cpu/cpu_device.h"
#include "device/tensor_set.h"
#include "device/testing.h"
#include "program/passes.h"

namespace colossus {
namespace {

using Values = std::vector<double>;

Values random_values(const std::string& name, int64_t rank, const Shape& shape) {
  const RngKey key{.seed = std::hash<std::string>()(name), .purpose = RngPurpose::kTest, .step = uint64_t(rank)};
  Values values(static_cast<size_t>(shape.num_elements()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = random_normal(key, i);
  return values;
}

// The ranks of one program, ready to run; what they are given stays until it is given anew.
class RankTrial {
 public:
  RankTrial(const RankCase& rank_case, std::vector<Program> programs, RankDevice device = RankDevice::kReference)
      : ranks_(programs.size()) {
    for (size_t rank = 0; rank < programs.size(); ++rank) {
      join_groups(programs[rank], rank);
      Rank& r = ranks_[rank];
      r.device = *make_rank_device(device, static_cast<int>(rank));
      CHECK(r.tensors.add_all(*r.device, programs[rank]).ok());
      auto compiled = r.device->compile(std::move(programs[rank]), {.groups = &r.groups});
      CHECK(compiled.ok(), compiled.status().message().c_str());
      r.executable = std::move(*compiled);
      r.tensors.bind_to(*r.executable);
    }
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      const Program& program = ranks_[rank].executable->program();
      for (const TensorId id : program.with_role(Role::kInput)) {
        const Tensor& tensor = program.tensor(id);
        std::vector<std::byte> bytes(static_cast<size_t>(tensor.type.num_bytes()));
        const View view{bytes.data(), tensor.type.shape, tensor.type.dtype};
        const bool for_all = rank_case.one_result && tensor.name.starts_with("seed.");
        const Values values = random_values(tensor.name, for_all ? 0 : static_cast<int64_t>(rank), tensor.type.shape);
        for (size_t i = 0; i < values.size() && is_float(tensor.type.dtype); ++i)
          view.set(static_cast<int64_t>(i), values[i]);
        if (rank_case.fill) rank_case.fill(tensor, static_cast<int64_t>(rank), view);
        Values& kept = ranks_[rank].inputs[tensor.name];
        for (int64_t i = 0; i < view.num_elements(); ++i) kept.push_back(view.get(i));
        write(rank, tensor.name, kept);
      }
    }
  }

  void write(size_t rank, const std::string& name, const Values& values) {
    const TensorSet::Entry& entry = ranks_[rank].tensors.at(name);
    std::vector<std::byte> bytes(static_cast<size_t>(entry.type.num_bytes()));
    const View view{bytes.data(), entry.type.shape, entry.type.dtype};
    for (size_t i = 0; i < values.size(); ++i) view.set(static_cast<int64_t>(i), values[i]);
    ranks_[rank].device->write(*entry.memory, 0, bytes);
  }

  RankValues run() {
    std::vector<Status> errors(ranks_.size());
    in_threads(static_cast<int>(ranks_.size()), [&](int rank) {
      errors[static_cast<size_t>(rank)] = ranks_[static_cast<size_t>(rank)].executable->run();
    });
    for (const Status& error : errors) EXPECT_TRUE(error.ok()) << error.message();
    RankValues values;
    for (Rank& r : ranks_) {
      values.push_back(r.inputs);
      for (const TensorId id : r.executable->program().with_role(Role::kOutput)) {
        const Tensor& tensor = r.executable->program().tensor(id);
        std::vector<std::byte> bytes(static_cast<size_t>(tensor.type.num_bytes()));
        r.executable->read_output(id, bytes);
        const View view{bytes.data(), tensor.type.shape, tensor.type.dtype};
        for (int64_t i = 0; i < view.num_elements(); ++i) values.back()[tensor.name].push_back(view.get(i));
      }
    }
    return values;
  }

  const Values& input(size_t rank, const std::string& name) const { return ranks_[rank].inputs.at(name); }
  double sent_bytes(size_t rank) const {
    double bytes = 0;
    for (const auto& [group, end] : ranks_[rank].groups.ends()) bytes += static_cast<double>(end->traffic().sent_bytes);
    return bytes;
  }

 private:
  struct Rank {
    RankGroups groups;
    std::unique_ptr<Device> device;
    TensorSet tensors;
    std::unique_ptr<Executable> executable;
    std::map<std::string, Values> inputs;
  };

  void join_groups(const Program& program, size_t rank) {
    for (const Operation& operation : program.operations) {
      const RankGroup* group = group_of(operation.op);
      if (rank != 0 || !group || ranks_[0].groups.find(*group)) continue;
      auto ends = make_thread_group({.name = group->name(), .size = static_cast<int>(ranks_.size())});
      for (size_t i = 0; i < ends.size(); ++i) ranks_[i].groups.set(*group, std::move(ends[i]));
    }
  }

  std::vector<Rank> ranks_;
};

std::vector<Program> write_programs(const RankCase& rank_case, DType dtype) {
  std::vector<Program> programs;
  for (int64_t rank = 0; rank < rank_case.ranks; ++rank) {
    Builder builder("ranks");
    rank_case.write(builder, rank, dtype);
    auto program = builder.finish();
    CHECK(program.ok(), program.status().message().c_str());
    CHECK(verify(*program).ok(), verify(*program).message().c_str());
    programs.push_back(std::move(*program));
  }
  return programs;
}

// Each float output with a gradient "seed.<output>"; gradients of all float inputs.
Program with_gradients(const Program& forward) {
  Builder seeded(forward);
  std::vector<GradientSeed> seeds;
  std::vector<TensorId> wanted;
  for (const TensorId output : forward.with_role(Role::kOutput)) {
    const Tensor& tensor = forward.tensor(output);
    if (is_float(tensor.type.dtype))
      seeds.push_back({output, seeded.declare("seed." + tensor.name, tensor.type, Role::kInput)});
  }
  for (const TensorId input : forward.with_role(Role::kInput))
    if (is_float(forward.tensor(input).type.dtype)) wanted.push_back(input);
  auto program = differentiate(*seeded.finish(), seeds, wanted);
  CHECK(program.ok(), program.status().message().c_str());
  CHECK(verify(*program).ok(), verify(*program).message().c_str());
  return std::move(*program);
}

// Sum over all seeded outputs, of all ranks or of the one result they have.
double seeded_sum(const RankCase& rank_case, const RankValues& outputs, const RankValues& seeds) {
  double sum = 0;
  for (size_t rank = 0; rank < (rank_case.one_result ? 1 : outputs.size()); ++rank)
    for (const auto& [name, values] : outputs[rank]) {
      const auto seed = seeds[rank].find("seed." + name);
      if (seed == seeds[rank].end()) continue;
      for (size_t i = 0; i < values.size(); ++i) sum += values[i] * seed->second[i];
    }
  return sum;
}

}  // namespace

RankValues run_ranks(const RankCase& rank_case, DType activations) {
  return run_ranks(rank_case, activations, RankDevice::kReference);
}

RankValues run_ranks(const RankCase& rank_case, DType activations, RankDevice device) {
  if (!make_rank_device(device, static_cast<int>(rank_case.ranks) - 1).ok()) return {};
  return RankTrial(rank_case, write_programs(rank_case, activations), device).run();
}

void expect_rank_gradients(const RankCase& rank_case) {
  constexpr double kStep = 1e-5, kTolerance = 1e-6;
  constexpr size_t kSamples = 12;  // of each tensor
  const std::vector<Program> forward = write_programs(rank_case, DType::kF64);
  std::vector<Program> backward;
  for (const Program& program : forward) backward.push_back(with_gradients(program));
  const RankValues gradients = RankTrial(rank_case, std::move(backward)).run();
  RankTrial ranks(rank_case, forward);
  int num_checked = 0;
  for (size_t rank = 0; rank < forward.size(); ++rank)
    for (const TensorId id : forward[rank].with_role(Role::kInput)) {
      const std::string& name = forward[rank].tensor(id).name;
      const auto found = gradients[rank].find("grad." + name);
      if (found == gradients[rank].end()) continue;
      const Values& gradient = found->second;
      Values values = ranks.input(rank, name);
      for (size_t sample = 0; sample < std::min(kSamples, values.size()); ++sample) {
        const size_t i = values.size() <= kSamples ? sample : sample * values.size() / kSamples;
        const double kept = values[i];
        double sums[2];
        for (const int side : {0, 1}) {
          values[i] = kept + (side ? kStep : -kStep);
          ranks.write(rank, name, values);
          sums[side] = seeded_sum(rank_case, ranks.run(), gradients);
        }
        values[i] = kept;
        ranks.write(rank, name, values);
        EXPECT_NEAR(gradient[i], (sums[1] - sums[0]) / (2 * kStep), kTolerance * (1 + std::abs(gradient[i])))
            << name << " of rank " << rank << ", element " << i;
        ++num_checked;
      }
    }
  EXPECT_GT(num_checked, 0);
}

void expect_bytes_sent(const RankCase& rank_case, DType activations) {
  const std::vector<Program> programs = write_programs(rank_case, activations);
  RankTrial ranks(rank_case, programs);
  ranks.run();
  for (size_t rank = 0; rank < programs.size(); ++rank) {
    EXPECT_GT(ranks.sent_bytes(rank), 0);
    EXPECT_EQ(total_cost(programs[rank]).bytes_sent, ranks.sent_bytes(rank)) << "rank " << rank;
  }
}

}  // namespace colossus
