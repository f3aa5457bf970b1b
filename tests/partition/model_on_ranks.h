// A model on one rank, and shared by the ranks of a mesh: threads of this process, each with a device of one thread.
#pragma once

#include <gtest/gtest.h>

#include "comm/testing.h"
#include "device/cpu/cpu_device.h"
#include "device/tensor_set.h"
#include "model_case.h"
#include "train/rank_model.h"

namespace colossus {

// One program on a device of its own.
class Machine {
 public:
  Machine(const Case& c, Program program, RankGroups* groups)
      : device_(*make_cpu_device({.num_threads = 1, .pin = false, .reference = c.compute == DType::kF64})) {
    CHECK(tensors_.add_all(*device_, program).ok());
    auto compiled = device_->compile(std::move(program), {.groups = groups});
    CHECK(compiled.ok(), compiled.status().message().c_str());
    executable_ = std::move(*compiled);
    tensors_.bind_to(*executable_);
  }

  const Program& program() const { return executable_->program(); }
  void write(const std::string& name, const Values& values) {
    const TensorSet::Entry& entry = tensors_.at(name);
    std::vector<std::byte> bytes(static_cast<size_t>(entry.type.num_bytes()));
    const View view{bytes.data(), entry.type.shape, entry.type.dtype};
    CHECK(view.num_elements() == static_cast<int64_t>(values.size()), name.c_str());
    for (size_t i = 0; i < values.size(); ++i) view.set(static_cast<int64_t>(i), values[i]);
    device_->write(*entry.memory, 0, bytes);
  }
  Values gradient(const std::string& name) {
    const TensorSet::Entry& entry = tensors_.at("grad." + name);
    std::vector<std::byte> bytes(static_cast<size_t>(entry.type.num_bytes()));
    device_->read(*entry.memory, 0, bytes);
    return read({bytes.data(), entry.type.shape, entry.type.dtype});
  }
  bool has(const std::string& name) const { return static_cast<bool>(program().find(name)); }
  Values output(const std::string& name) {
    const TensorId id = program().find(name);
    CHECK(id, name.c_str());
    const TensorType& type = program().tensor(id).type;
    std::vector<std::byte> bytes(static_cast<size_t>(type.num_bytes()));
    executable_->read_output(id, bytes);
    return read({bytes.data(), type.shape, type.dtype});
  }
  Status run() { return executable_->run(); }

 private:
  std::unique_ptr<Device> device_;
  TensorSet tensors_;
  std::unique_ptr<Executable> executable_;
};

struct Outcome {
  std::vector<Values> losses, aux_losses, token_losses;  // by data rank
  std::map<std::string, Values> gradients;               // whole, summed over all ranks
};

inline Outcome run_on_one_rank(const Case& c) {
  const int64_t num_data_ranks = c.mesh.data * c.mesh.shard;
  Machine machine(c, *write_training_program(c.model, options_of(c), c.recompute), nullptr);
  const auto parameters = *parameter_table(c.model);
  for (const ParameterSpec& spec : parameters) machine.write(spec.name, initial_parameter(c, spec.name, spec.shape));
  Outcome outcome;
  for (int64_t data_rank = 0; data_rank < num_data_ranks; ++data_rank) {
    for (const TensorId id : machine.program().with_role(Role::kInput)) {
      const Tensor& input = machine.program().tensor(id);
      machine.write(input.name, input_values(c, input.name, input.type.shape, data_rank, num_data_ranks));
    }
    CHECK(machine.run().ok());
    outcome.losses.push_back(machine.output("loss"));
    outcome.token_losses.push_back(machine.output("token_loss"));
    if (machine.has("aux_loss")) outcome.aux_losses.push_back(machine.output("aux_loss"));
  }
  for (const ParameterSpec& spec : parameters) outcome.gradients[spec.name] = machine.gradient(spec.name);
  return outcome;
}

inline std::vector<MeshAxis> axes_of(const RankGroup& group) {
  std::vector<MeshAxis> axes;
  for (const MeshAxis axis : kMeshAxes)
    if (group.contains(axis)) axes.push_back(axis);
  return axes;
}

inline Result<RankProgram> partition_case(const Case& c, const MeshPosition& position) {
  ASSIGN_OR_RETURN(const Program whole, write_loss_program(c.model, options_of(c)));
  return partition(whole, placements_of(*parameter_table(c.model)), position);
}

// All ranks of a mesh, as threads.
class World {
 public:
  explicit World(const Case& c) : case_(c), mesh_(c.mesh), ranks_(static_cast<size_t>(mesh_.size())) {
    for (int64_t rank = 0; rank < mesh_.size(); ++rank) {
      auto part = partition_case(c, mesh_.position(rank));
      CHECK(part.ok(), part.status().message().c_str());
      Program program = *write_training_program(part->program, c.recompute);
      CHECK(verify(program).ok(), verify(program).message().c_str());
      Rank& r = ranks_[static_cast<size_t>(rank)];
      r.part = std::move(*part);
      join_groups(rank, program);
      r.machine = std::make_unique<Machine>(c, std::move(program), &r.groups);
    }
  }

  void run() {
    std::vector<Status> errors(ranks_.size());
    in_threads(static_cast<int>(ranks_.size()), [&](int rank) {
      feed(rank);
      errors[static_cast<size_t>(rank)] = ranks_[static_cast<size_t>(rank)].machine->run();
    });
    for (const Status& error : errors) ASSERT_TRUE(error.ok()) << error.message();
  }

  Outcome outcome() {
    Outcome result;
    for (int64_t rank = 0; rank < mesh_.size(); ++rank) {
      Rank& r = ranks_[static_cast<size_t>(rank)];
      const MeshPosition position = mesh_.position(rank);
      for (const TensorPart& p : r.part.parameters) {
        Values& whole = result.gradients[p.name];
        whole.resize(static_cast<size_t>(p.whole.shape.num_elements()));
        add_part(whole, p.whole.shape, p.gradient, position, r.machine->gradient(p.name));
      }
      const auto data_rank = static_cast<size_t>(data_rank_of(rank));
      for (const TensorPart& p : r.part.outputs) {
        std::vector<Values>& all = p.name == "loss"       ? result.losses
                                   : p.name == "aux_loss" ? result.aux_losses
                                                          : result.token_losses;
        const Values mine = r.machine->output(p.name);
        if (all.size() <= data_rank) all.resize(data_rank + 1);
        if (p.name == "token_loss") {
          Values whole(static_cast<size_t>(p.whole.shape.num_elements()));
          add_part(whole, p.whole.shape, p.placement, position, mine);
          whole = folded(whole, p.whole.shape, p.placement, case_.mesh.context, /*back=*/true);
          all[data_rank].resize(whole.size());
          for (size_t i = 0; i < whole.size(); ++i) all[data_rank][i] += whole[i];
        } else if (all[data_rank].empty()) {
          all[data_rank] = mine;
        } else {
          EXPECT_EQ(all[data_rank], mine) << p.name << " of rank " << rank << " is not that of its neighbours";
        }
      }
    }
    return result;
  }

  // What the program of a rank says it sends, and what it has sent.
  struct Volume {
    double said = 0, sent = 0;
  };
  std::map<std::string, Volume> volumes(int64_t rank) const {
    const Rank& r = ranks_[static_cast<size_t>(rank)];
    std::map<std::string, Volume> volumes;
    for (const Operation& operation : r.machine->program().operations)
      if (const RankGroup* group = group_of(operation.op))
        volumes[group->name()].said += cost_of(r.machine->program(), operation).bytes_sent;
    for (const auto& [group, end] : r.groups.ends())
      volumes[group.name()].sent += static_cast<double>(end->traffic().sent_bytes);
    return volumes;
  }
  int64_t size() const { return mesh_.size(); }
  const RankProgram& part(int64_t rank) const { return ranks_[static_cast<size_t>(rank)].part; }

 private:
  struct Rank {
    RankProgram part;
    RankGroups groups;
    std::unique_ptr<Machine> machine;
  };

  int64_t data_rank_of(int64_t rank) const {
    return mesh_.coordinate(rank, MeshAxis::kData) * case_.mesh.shard + mesh_.coordinate(rank, MeshAxis::kShard);
  }

  // The first rank of a group makes it for all.
  void join_groups(int64_t rank, const Program& program) {
    for (const Operation& operation : program.operations) {
      const RankGroup* group = group_of(operation.op);
      if (!group || ranks_[static_cast<size_t>(rank)].groups.find(*group)) continue;
      const std::vector<int64_t> members = mesh_.group(rank, axes_of(*group));
      ASSERT_EQ(members.front(), rank);
      auto ends = make_thread_group({.name = group->name(), .size = static_cast<int>(members.size())});
      for (size_t i = 0; i < members.size(); ++i)
        ranks_[static_cast<size_t>(members[i])].groups.set(*group, std::move(ends[i]));
    }
  }

  void feed(int64_t rank) {
    const MeshPosition position = mesh_.position(rank);
    Rank& r = ranks_[static_cast<size_t>(rank)];
    const int64_t num_data_ranks = case_.mesh.data * case_.mesh.shard, context = case_.mesh.context;
    const auto input = [&](const std::string& name, const Shape& shape) {
      return input_values(case_, name, shape, data_rank_of(rank), num_data_ranks);
    };
    for (const TensorPart& p : r.part.parameters)
      r.machine->write(p.name,
                       part_of(initial_parameter(case_, p.name, p.whole.shape), p.whole.shape, p.placement, position));
    for (const TensorPart& p : r.part.inputs)
      r.machine->write(p.name, part_of(folded(input(p.name, p.whole.shape), p.whole.shape, p.placement, context),
                                       p.whole.shape, p.placement, position));
    r.machine->write("loss_grad", input("loss_grad", {}));
  }

  const Case& case_;
  const Mesh mesh_;
  std::vector<Rank> ranks_;
};

}  // namespace colossus
