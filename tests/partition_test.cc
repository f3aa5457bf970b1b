// A model shared by several ranks beside the same model on one: losses, gradients of every parameter, bytes sent. Ranks
// are threads of this process, each with a device of one thread.

#include "parallel/partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/rng.h"
#include "comm/testing.h"
#include "device/cpu/cpu_device.h"
#include "device/tensor_set.h"
#include "model/model.h"
#include "model/testing.h"
#include "parallel/mesh.h"
#include "tensor/view.h"

namespace colossus {
namespace {

using testing::HasSubstr;

// The largest difference over the largest value of a tensor; of a gradient that value is at least a hundredth of the
// largest of all gradients. docs/numerics.md repeats the numbers.
struct PartitionTolerance {
  double loss, gradient;
};
constexpr PartitionTolerance tolerance_of(DType compute) {
  switch (compute) {
    case DType::kF64: return {.loss = 1e-9, .gradient = 1e-9};
    case DType::kBF16: return {.loss = 1e-2, .gradient = 0.1};
    default: return {.loss = 1e-6, .gradient = 1e-5};
  }
}

// The elements of a tensor as doubles.
using Values = std::vector<double>;

Values read(View view) {
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

constexpr int64_t kBatch = 2, kTokens = 8;  // of a microbatch

ProgramOptions options_of(const Case& c) {
  return {.batch = kBatch, .tokens = kTokens, .compute = c.compute, .document_mask = c.document_mask};
}

Values initial_parameter(const Case& c, const std::string& name, const Shape& shape) {
  Values values(static_cast<size_t>(shape.num_elements()));
  const RngKey key{.seed = std::hash<std::string>()(name), .purpose = RngPurpose::kTest};
  const double scale = shape.rank() == 1 ? 0.1 : 0.4;
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = scale * random_normal(key, i) + (shape.rank() == 1 && !name.ends_with("bias") ? 1 : 0);
  if (c.fill) c.fill(name, shape, values);
  return values;
}

// What data rank `data_rank` of `num_data_ranks` feeds the whole program.
Values input_values(const Case& c, const std::string& name, const Shape& shape, int64_t data_rank,
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
Values folded(const Values& values, const Shape& shape, const Placement& placement, int64_t context,
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
Values part_of(const Values& whole, const Shape& shape, const Placement& placement, const MeshPosition& position) {
  const Slice part = local_slice(shape, placement, position);
  Values values(static_cast<size_t>(part.shape.num_elements()));
  for_each_common_run({.shape = shape}, part, [&](int64_t from, int64_t to, int64_t count) {
    std::copy_n(whole.begin() + from, count, values.begin() + to);
  });
  return values;
}

void add_part(Values& whole, const Shape& shape, const Placement& placement, const MeshPosition& position,
              const Values& part) {
  const Slice slice = local_slice(shape, placement, position);
  ASSERT_EQ(static_cast<int64_t>(part.size()), slice.shape.num_elements());
  for_each_common_run({.shape = shape}, slice, [&](int64_t to, int64_t from, int64_t count) {
    for (int64_t i = 0; i < count; ++i) whole[static_cast<size_t>(to + i)] += part[static_cast<size_t>(from + i)];
  });
}

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

Outcome run_on_one_rank(const Case& c) {
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

std::vector<MeshAxis> axes_of(const RankGroup& group) {
  std::vector<MeshAxis> axes;
  for (const MeshAxis axis : kMeshAxes)
    if (group.contains(axis)) axes.push_back(axis);
  return axes;
}

std::map<std::string, Placement> placements_of(const ModelConfig& model) {
  std::map<std::string, Placement> placements;
  for (const ParameterSpec& spec : *parameter_table(model)) placements[spec.name] = spec.placement;
  return placements;
}

Result<RankProgram> partition_case(const Case& c, const MeshPosition& position) {
  ASSIGN_OR_RETURN(const Program whole, write_loss_program(c.model, options_of(c)));
  return partition(whole, placements_of(c.model), position);
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

double largest(const Values& values) {
  double most = 0;
  for (const double value : values) most = std::max(most, std::abs(value));
  return most;
}

double largest_difference(const Values& a, const Values& b) {
  CHECK(a.size() == b.size());
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(a[i] - b[i]);
    most = std::isnan(difference) ? INFINITY : std::max(most, difference);
  }
  return most;
}

void expect_close(const Outcome& got, const Outcome& want, const PartitionTolerance& tolerance) {
  const auto compare = [&](const std::vector<Values>& a, const std::vector<Values>& b, const char* name) {
    ASSERT_EQ(a.size(), b.size()) << name;
    for (size_t i = 0; i < a.size(); ++i)
      EXPECT_LE(largest_difference(a[i], b[i]), tolerance.loss * largest(b[i])) << name << " of data rank " << i;
  };
  compare(got.losses, want.losses, "loss");
  compare(got.aux_losses, want.aux_losses, "aux_loss");
  compare(got.token_losses, want.token_losses, "token_loss");
  double floor = 0;
  for (const auto& [name, gradient] : want.gradients) floor = std::max(floor, largest(gradient) / 100);
  EXPECT_GT(floor, 0);
  ASSERT_EQ(got.gradients.size(), want.gradients.size());
  for (const auto& [name, gradient] : want.gradients) {
    const double size = std::max(floor, largest(gradient));
    EXPECT_LE(largest_difference(got.gradients.at(name), gradient) / size, tolerance.gradient)
        << "gradient of " << name;
  }
}

ModelConfig model_of(Family family) {
  ModelConfig m = two_layer_model(family, 16);
  m.num_kv_heads = 4;
  m.expert_width = 12;
  m.vocab_size = 40;
  m.context = 16;
  if (m.is_grok()) {
    m.embedding_scale = 4;
    m.attn_softcap = 30;
    m.router_softcap = 30;
    m.balance_loss = 0.1;
    m.z_loss = 0.02;
    m.ffn_width = family == Family::kGrok2 ? 24 : 0;
    return m;
  }
  m.ffn_width = 32;
  m.activation = family == Family::kLlama ? ActivationKind::kSilu : ActivationKind::kGeluTanh;
  return m;
}

ModelConfig with(ModelConfig m, const std::function<void(ModelConfig&)>& change) {
  change(m);
  return m;
}

std::vector<Case> cases() {
  const ModelConfig grok = model_of(Family::kGrok1), grok_2 = model_of(Family::kGrok2),
                    llama = model_of(Family::kLlama), gpt_2 = model_of(Family::kGpt2);
  const auto dropout = [](ModelConfig& m) { m.dropout = 0.2; };
  std::vector<Case> list = {
      {.name = "llama_tensor_2", .model = llama, .mesh = {.tensor = 2}},
      {.name = "llama_untied_documents_tensor_4",
       .model = with(llama, [](ModelConfig& m) { m.tie_embeddings = false; }),
       .mesh = {.tensor = 4},
       .document_mask = true},
      {.name = "llama_grouped_heads_dropout_tensor_2",
       .model = with(llama,
                     [](ModelConfig& m) {
                       m.num_kv_heads = 2;
                       m.window = 5;
                       m.dropout = 0.2;
                     }),
       .mesh = {.tensor = 2}},
      {.name = "gpt_2_biases_dropout_data_2_tensor_2",
       .model = with(gpt_2, dropout),
       .mesh = {.data = 2, .tensor = 2},
       .recompute = Recompute::kFull},
      {.name = "gpt_2_tensor_4", .model = gpt_2, .mesh = {.tensor = 4}},
      {.name = "grok_1_copies_of_experts_tensor_2", .model = grok, .mesh = {.tensor = 2}},
      {.name = "grok_1_tensor_4_expert_4", .model = grok, .mesh = {.tensor = 4, .expert = 4}},
      {.name = "grok_1_data_2_expert_2", .model = grok, .mesh = {.data = 2, .expert = 2}},
      {.name = "grok_1_shard_2_tensor_2_expert_4_dropout",
       .model = with(grok, dropout),
       .mesh = {.shard = 2, .tensor = 2, .expert = 4},
       .recompute = Recompute::kSelective},
      {.name = "grok_1_expert_tensor_2", .model = grok, .mesh = {.tensor = 2, .expert_tensor = 2}},
      {.name = "grok_1_untied_tensor_4_expert_2_expert_tensor_2",
       .model = with(grok,
                     [](ModelConfig& m) {
                       m.tie_embeddings = false;
                       m.renormalize_gates = true;
                     }),
       .mesh = {.tensor = 4, .expert = 2, .expert_tensor = 2},
       .recompute = Recompute::kFull},
      {.name = "llama_context_2", .model = llama, .mesh = {.context = 2}},
      {.name = "llama_documents_window_dropout_context_4",
       .model = with(llama,
                     [](ModelConfig& m) {
                       m.window = 5;
                       m.dropout = 0.2;
                     }),
       .mesh = {.context = 4},
       .document_mask = true},
      {.name = "gpt_2_context_2_tensor_2_dropout", .model = with(gpt_2, dropout), .mesh = {.context = 2, .tensor = 2}},
      {.name = "gpt_2_tensor_4_context_2", .model = gpt_2, .mesh = {.context = 2, .tensor = 4}},
      {.name = "grok_1_context_2_tensor_2_expert_4",
       .model = with(grok, [](ModelConfig& m) { m.attn_temperature_len = 3; }),
       .mesh = {.context = 2, .tensor = 2, .expert = 4},
       .recompute = Recompute::kFull,
       .document_mask = true},
      {.name = "grok_2_data_2_tensor_2_expert_2", .model = grok_2, .mesh = {.data = 2, .tensor = 2, .expert = 2}},
  };
  for (size_t i = 0, count = list.size(); i < count; ++i) {
    list.push_back(list[i]);
    list.back().compute = DType::kF32;
  }
  list.push_back({.name = "grok_2_tensor_2_expert_2",
                  .model = grok_2,
                  .mesh = {.tensor = 2, .expert = 2},
                  .compute = DType::kBF16});
  return list;
}

class Partitioned : public testing::TestWithParam<Case> {};

TEST_P(Partitioned, IsTheModelOfOneRank) {
  const Case& c = GetParam();
  World world(c);
  world.run();
  expect_close(world.outcome(), run_on_one_rank(c), tolerance_of(c.compute));
}

INSTANTIATE_TEST_SUITE_P(Layouts, Partitioned, testing::ValuesIn(cases()), [](const auto& info) {
  return info.param.name + "_" + std::string(dtype_name(info.param.compute));
});

// Every token chooses the first expert: one rank computes it all, the others' experts have nothing to do.
TEST(Partition, AllTokensOfOneExpert) {
  for (const DType compute : {DType::kF64, DType::kF32}) {
    Case c{.name = "one expert",
           .model = with(model_of(Family::kGrok1), [](ModelConfig& m) { m.num_experts_per_token = 1; }),
           .mesh = {.tensor = 4, .expert = 2, .expert_tensor = 2},
           .compute = compute};
    c.fill = [](const std::string& name, const Shape& shape, Values& values) {
      // A column that is large in each embedding, and that only the first expert's score looks at.
      const int64_t width = shape[-1];
      for (size_t i = 0; i < values.size(); ++i) {
        if (name == "embedding" && static_cast<int64_t>(i) % width == 0) values[i] = 3;
        if (name.ends_with("router")) values[i] = i == 0 ? 4 : static_cast<int64_t>(i) < width ? 0 : values[i] / 10;
      }
    };
    World world(c);
    world.run();
    const Outcome want = run_on_one_rank(c), got = world.outcome();
    expect_close(got, want, tolerance_of(compute));
    const Values& gate = want.gradients.at("layers.0.moe.gate");
    const size_t expert = gate.size() / static_cast<size_t>(c.model.num_experts);
    EXPECT_GT(largest(Values(gate.begin(), gate.begin() + static_cast<std::ptrdiff_t>(expert))), 0);
    EXPECT_EQ(largest(Values(gate.begin() + static_cast<std::ptrdiff_t>(expert), gate.end())), 0);
  }
}

TEST(Partition, ASecondRunHasTheSameBits) {
  const Case c{
      .name = "twice", .model = model_of(Family::kGrok2), .mesh = {.tensor = 2, .expert = 2}, .compute = DType::kF32};
  World first(c), second(c);
  first.run();
  second.run();
  const Outcome a = first.outcome(), b = second.outcome();
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.gradients, b.gradients);
}

// Alone, a rank runs the whole program.
TEST(Partition, AMeshOfOneChangesNoBit) {
  for (const Family family : {Family::kGrok2, Family::kGpt2}) {
    const Case c{.name = "alone",
                 .model = with(model_of(family), [](ModelConfig& m) { m.dropout = 0.1; }),
                 .mesh = {},
                 .compute = DType::kF32,
                 .document_mask = true};
    World world(c);
    world.run();
    const Outcome got = world.outcome(), want = run_on_one_rank(c);
    EXPECT_EQ(got.losses, want.losses);
    EXPECT_EQ(got.aux_losses, want.aux_losses);
    EXPECT_EQ(got.gradients, want.gradients);
    EXPECT_EQ(world.part(0).program.operations.size(), write_loss_program(c.model, options_of(c))->operations.size());
  }
}

// What a program says it sends is what it sends. Tokens that choose every expert load all ranks alike: then this holds
// for the experts' rows too, whose cost is an average.
TEST(Partition, BytesSentAreThoseOfTheProgram) {
  for (const MeshConfig& mesh :
       {MeshConfig{.tensor = 2}, MeshConfig{.tensor = 4}, MeshConfig{.data = 2, .tensor = 2, .expert = 4},
        MeshConfig{.context = 2, .tensor = 2}, MeshConfig{.tensor = 4, .expert = 2, .expert_tensor = 2}}) {
    const Case c{.name = "volume",
                 .model = with(model_of(Family::kGrok2), [](ModelConfig& m) { m.num_experts_per_token = 4; }),
                 .mesh = mesh,
                 .compute = DType::kF32};
    World world(c);
    world.run();
    for (int64_t rank = 0; rank < world.size(); ++rank)
      for (const auto& [group, volume] : world.volumes(rank)) {
        EXPECT_GT(volume.sent, 0) << group;
        EXPECT_EQ(volume.said, volume.sent) << group << " of rank " << rank << " of " << world.size();
      }
  }
}

TEST(Partition, FoldedOrder) {
  Values order;
  for (int64_t place = 0; place < 12; ++place) order.push_back(static_cast<double>(folded_token(12, 3, place)));
  EXPECT_THAT(order, testing::ElementsAre(0, 1, 10, 11, 2, 3, 8, 9, 4, 5, 6, 7));
  EXPECT_EQ(folded_token(7, 1, 3), 3);
}

TEST(Partition, ReportsWhatTheRankHas) {
  const Case c{.name = "report",
               .model = model_of(Family::kGrok2),
               .mesh = {.data = 2, .tensor = 2, .expert = 2},
               .document_mask = true};
  const auto part = partition_case(c, Mesh(c.mesh).position(1));
  ASSERT_TRUE(part.ok()) << part.status().message();
  const auto placement = [](const std::vector<TensorPart>& parts, const std::string& name) {
    for (const TensorPart& p : parts)
      if (p.name == name) return p.placement.to_string() + ", gradient " + p.gradient.to_string();
    return std::string("none");
  };
  EXPECT_EQ(placement(part->inputs, "tokens"), "cut(1, tensor), gradient copies");
  EXPECT_EQ(placement(part->inputs, "targets"), "cut(1, tensor), gradient copies");
  EXPECT_EQ(placement(part->inputs, "document_start"), "copies, gradient copies");
  EXPECT_EQ(placement(part->outputs, "loss"), "copies, gradient copies");
  EXPECT_EQ(placement(part->outputs, "token_loss"), "cut(1, tensor), gradient copies");
  const auto parameter = [&](const std::string& name) { return placement(part->parameters, name); };
  EXPECT_EQ(parameter("embedding"), "copies, gradient partial(data) partial(tensor)");
  EXPECT_EQ(parameter("layers.0.attn_norm"), "copies, gradient partial(data) partial(tensor)");
  EXPECT_EQ(parameter("layers.0.attn.q"), "cut(1, tensor), gradient cut(1, tensor) partial(data)");
  EXPECT_EQ(parameter("layers.1.attn.o"), "cut(0, tensor), gradient cut(0, tensor) partial(data)");
  EXPECT_EQ(parameter("layers.0.mlp.down"), "cut(0, tensor), gradient cut(0, tensor) partial(data)");
  EXPECT_EQ(parameter("layers.0.moe.router"), "copies, gradient partial(data) partial(tensor)");
  EXPECT_EQ(parameter("layers.0.moe.down"), "cut(0, expert), gradient cut(0, expert) partial(expert_data)");
  EXPECT_EQ(part->program.tensor(part->program.find("layers.0.attn.q")).type.shape, (Shape{16, 8}));
  EXPECT_EQ(part->program.tensor(part->program.find("tokens")).type.shape, (Shape{kBatch, kTokens / 2}));
}

TEST(Partition, RefusesWhatCannotBeCut) {
  const auto error = [](const ModelConfig& model, const MeshConfig& mesh) {
    const Case c{.name = "illegal", .model = model, .mesh = mesh};
    return partition_case(c, Mesh(mesh).position(0)).status().message();
  };
  const ModelConfig llama = model_of(Family::kLlama);
  EXPECT_THAT(error(llama, {.tensor = 3}), HasSubstr("[mesh.tensor] 3 does not divide dimension 1 of layers.0.attn.q"));
  EXPECT_THAT(error(with(llama, [](ModelConfig& m) { m.num_kv_heads = 2; }), {.tensor = 4}),
              HasSubstr("rotary.x: got 2 heads; needed a multiple of mesh.tensor = 4"));
  EXPECT_THAT(error(with(model_of(Family::kGpt2), [](ModelConfig& m) { m.num_kv_heads = 2; }), {.tensor = 4}),
              HasSubstr("attention.num_kv_heads: got 2; needed a multiple of mesh.tensor = 4"));
  EXPECT_THAT(
      error(with(llama, [](ModelConfig& m) { m.num_heads = m.num_kv_heads = 16, m.head_dim = 2; }), {.tensor = 16}),
      HasSubstr("[mesh.tensor] 16 does not divide dimension 1 of tokens [2, 8]"));
  EXPECT_THAT(error(llama, {.context = 8}),
              HasSubstr("[mesh.context] 8 does not divide dimension 1 of tokens [2, 8] into two pieces for each"));
  EXPECT_THAT(error(model_of(Family::kGrok1), {.tensor = 8, .expert = 8}), HasSubstr("8 does not divide dimension 0"));

  const auto decode = write_decode_program(llama, {.batch = 1, .tokens = 1}, 16);
  EXPECT_THAT(partition(*decode, {}, {}).status().message(), HasSubstr("attention_cached: only forward passes"));
  const auto training = write_training_program(llama, {.batch = 1, .tokens = 8}, Recompute::kNone);
  EXPECT_THAT(partition(*training, {}, {}).status().message(), HasSubstr("only forward passes of training are cut"));
  // Weights that nobody said how to cut, beside heads that are.
  const auto whole = write_loss_program(llama, {.batch = 2, .tokens = 8});
  EXPECT_THAT(partition(*whole, {}, Mesh({.tensor = 2}).position(0)).status().message(),
              HasSubstr("rotary.x: got cut(1, tensor); needed cut(2, tensor), and no collective leads there"));
}

}  // namespace
}  // namespace colossus
