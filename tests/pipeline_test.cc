// A microbatch's program cut into pieces and run by the stages of a pipeline, against the program in one piece: every
// leaf's gradients and the losses have the same bits. Stages are threads; their sends block until they are received.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "device/cpu/cpu_device.h"
#include "model/model.h"
#include "model/testing.h"
#include "train/pipeline_stage.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;
using Kind = PipelineScheduleKind;

constexpr int64_t kVocab = 40, kTokens = 8, kBatch = 2, kLeaves = 2;
constexpr int kSteps = 2;  // the second one with everything as the first one left it

struct Case {
  std::string name;
  ModelConfig model;
  int stages = 2, chunks = 1;
  Kind kind = Kind::kOneForwardOneBackward;
  Recompute recompute = Recompute::kNone;
  int64_t microbatches = 6;
  DType compute = DType::kF32;
  bool document_mask = false;

  PipelineShape shape() const {
    return {.kind = kind, .num_stages = stages, .num_chunks = chunks, .num_microbatches = microbatches};
  }
  ProgramOptions options() const {
    return {.batch = kBatch, .tokens = kTokens, .compute = compute, .document_mask = document_mask};
  }
  Program program() const { return keep_lookups_apart(*write_training_program(model, options(), recompute)); }
};

void PrintTo(const Case& test, std::ostream* out) { *out << test.name; }

ModelConfig model_of(Family family, int64_t layers) {
  ModelConfig m = two_layer_model(family, 16);
  m.num_layers = layers;
  m.vocab_size = kVocab;
  m.context = kTokens;
  m.tie_embeddings = false;
  m.expert_width = 24;
  m.ffn_width = 24;
  if (family == Family::kGrok1) {
    m.ffn_width = 0;
    m.balance_loss = 0.01;
    m.z_loss = 0.001;
  }
  if (family == Family::kGpt2) m.dropout = 0.1;
  return m;
}

uint32_t seed_of(const std::string& name) {
  uint32_t seed = 7;
  for (const char c : name) seed = seed * 31 + static_cast<uint32_t>(c);
  return seed;
}

// Memory of all that programs have outside their arena but for stashes, filled by name alone.
class Memories {
 public:
  Memories(Device& device, const Case& test) : device_(device), test_(test) {}

  void bind(Executable& executable) {
    const Program& program = executable.program();
    for (Role role : {Role::kParameter, Role::kGradient, Role::kInput}) {
      ASSERT_TRUE(tensors_.add_role(device_, program, role).ok());
      for (const TensorId id : program.with_role(role))
        if (role == Role::kParameter) fill(program.tensor(id));
    }
    tensors_.bind_to(executable);
  }

  void fill_inputs(int64_t microbatch, const Program& program) {
    for (const TensorId id : program.with_role(Role::kInput)) {
      const Tensor& tensor = program.tensor(id);
      if (tensor.name == "loss_grad") {
        const float grad = 1.0F / static_cast<float>(test_.microbatches);
        device_.write(*tensors_.at("loss_grad").memory, 0, bytes_of(grad));
      } else if (tensor.name == "rng") {
        const std::array<int64_t, 3> rng = {11, 5, microbatch * kBatch};
        device_.write(*tensors_.at("rng").memory, 0, bytes_of(rng));
      } else {
        std::mt19937 random(seed_of(tensor.name) + static_cast<uint32_t>(microbatch));
        std::vector<int32_t> values(static_cast<size_t>(tensor.type.shape.num_elements()));
        for (size_t i = 0; i < values.size(); ++i)
          values[i] =
              tensor.name == "document_start" ? (i % kTokens < 3 ? 0 : 3) : static_cast<int32_t>(random() % kVocab);
        device_.write(*tensors_.at(tensor.name).memory, 0, std::as_bytes(std::span(values)));
      }
    }
  }

  std::vector<std::byte> take_gradient(const Tensor& tensor) {
    std::vector<std::byte> bytes(static_cast<size_t>(tensor.type.num_bytes()));
    device_.read(*tensors_.at(tensor.name).memory, 0, bytes);
    device_.zero(*tensors_.at(tensor.name).memory);
    return bytes;
  }

 private:
  void fill(const Tensor& tensor) {
    std::mt19937 random(seed_of(tensor.name));
    std::vector<float> values(static_cast<size_t>(tensor.type.shape.num_elements()));
    const bool is_scale = tensor.name.ends_with("norm");
    for (float& value : values)
      value = (is_scale ? 1.0F : 0.0F) + (static_cast<float>(random() % 2001) - 1000.0F) / 4000.0F;
    device_.write(*tensors_.at(tensor.name).memory, 0, std::as_bytes(std::span(values)));
  }

  Device& device_;
  const Case& test_;
  TensorSet tensors_;
};

struct Outcome {
  std::map<std::pair<int64_t, std::string>, std::vector<std::byte>> gradients;  // by leaf and name
  ExactSum::Words loss{}, aux_loss{};
};

std::unique_ptr<Device> one_thread() { return *make_cpu_device({.num_threads = 1, .pin = false}); }

Outcome run_in_one_piece(const Case& test) {
  Outcome outcome;
  const auto device = one_thread();
  const auto executable = *device->compile(test.program());
  Memories memories(*device, test);
  memories.bind(*executable);
  const Program& whole = executable->program();
  ExactSum loss, aux_loss;
  for (int64_t microbatch = 0; microbatch < test.microbatches; ++microbatch) {
    memories.fill_inputs(microbatch, whole);
    EXPECT_TRUE(executable->run().ok());
    for (auto& [name, sum] : {std::pair{"loss", &loss}, std::pair{"aux_loss", &aux_loss}})
      if (const TensorId id = whole.find(name)) {
        float value = 0;
        executable->read_output(id, writable_bytes_of(value));
        sum->add(static_cast<double>(value));
      }
    const int64_t per_leaf = test.microbatches / kLeaves;
    if ((microbatch + 1) % per_leaf != 0) continue;
    for (const TensorId id : whole.with_role(Role::kGradient))
      outcome.gradients[{microbatch / per_leaf, whole.tensor(id).name}] = memories.take_gradient(whole.tensor(id));
  }
  outcome.loss = loss.words();
  outcome.aux_loss = aux_loss.words();
  return outcome;
}

// Each stage's ends of the links to its neighbours, in a ring.
std::vector<RankGroups> link_stages(int stages) {
  std::vector<RankGroups> groups(static_cast<size_t>(stages));
  const auto link = [&](int from, int to, Link out, Link in) {
    auto ends = make_thread_group({.name = RankGroup::to(out).name(), .size = 2, .timeout_seconds = 60});
    groups[static_cast<size_t>(from)].set(RankGroup::to(out), std::move(ends[0]));
    groups[static_cast<size_t>(to)].set(RankGroup::to(in), std::move(ends[1]));
  };
  for (int stage = 0; stage < stages; ++stage) {
    link(stage, (stage + 1) % stages, Link::kToNext, Link::kFromPrevious);
    link((stage + 1) % stages, stage, Link::kToPrevious, Link::kFromNext);
  }
  return groups;
}

PipelineStageOptions options_of(const Case& test, int stage) {
  return {.shape = test.shape(), .stage = stage, .num_leaves = kLeaves};
}

int64_t bytes_sent(const RankGroups& groups) {
  int64_t bytes = 0;
  for (const auto& [group, end] : groups.ends()) bytes += end->traffic().sent_bytes;
  return bytes;
}

// One stage through kSteps steps; only the last step's outcome is kept.
void run_stage(const Case& test, int stage, RankGroups& groups, std::mutex& mutex, Outcome& outcome) {
  const auto device = one_thread();
  const auto pieces = cut_layers(test.model.num_layers, int64_t{test.stages} * test.chunks);
  const auto made = PipelineStage::create(test.program(), pieces, options_of(test, stage), *device, groups);
  ASSERT_TRUE(made.ok()) << made.status().message();
  PipelineStage& pipeline = **made;
  Memories memories(*device, test);
  double sent = 0;
  for (Executable* executable : pipeline.executables()) {
    memories.bind(*executable);
    sent += total_cost(executable->program()).bytes_sent * static_cast<double>(test.microbatches);
  }
  const bool tied = test.model.tie_embeddings && test.stages * test.chunks > 1;
  EXPECT_EQ(pipeline.shared_parameters().size(), tied && (stage == 0 || stage == test.stages - 1) ? 1u : 0u);
  const PipelineCallbacks callbacks{.fill_inputs =
                                        [&](int64_t microbatch, const Program& program) {
                                          memories.fill_inputs(microbatch, program);
                                          return ok_status();
                                        },
                                    .end_leaf =
                                        [&](int64_t leaf, const Program& program) {
                                          for (const TensorId id : program.with_role(Role::kGradient)) {
                                            const std::string& key = program.tensor(id).name;
                                            auto gradient = memories.take_gradient(program.tensor(id));
                                            const std::lock_guard lock(mutex);
                                            outcome.gradients[{leaf, key}] = std::move(gradient);
                                          }
                                          return ok_status();
                                        }};
  PipelineReport report;
  for (int step = 0; step < kSteps; ++step) {
    const Status status = pipeline.run(callbacks, report);
    ASSERT_TRUE(status.ok()) << "stage " << stage << ": " << status.message();
  }
  const auto figures = *play_pipeline_schedule(test.shape(), *write_pipeline_schedule(test.shape()));
  EXPECT_EQ(report.most_stashes, figures.peak[static_cast<size_t>(stage)]);
  EXPECT_EQ(static_cast<double>(bytes_sent(groups)), kSteps * sent);
  const std::lock_guard lock(mutex);
  if (stage == test.stages - 1) {
    outcome.loss = report.loss.words();
    outcome.aux_loss = report.aux_loss.words();
  } else {
    EXPECT_EQ(report.loss.words(), ExactSum().words());
  }
}

std::vector<Case> cases() {
  const ModelConfig moe = model_of(Family::kGrok1, 5), both = model_of(Family::kGrok2, 3),
                    gpt2 = model_of(Family::kGpt2, 6), llama = model_of(Family::kLlama, 4);
  ModelConfig dense = model_of(Family::kGrok2, 7), tied = model_of(Family::kGrok1, 3);
  dense.num_experts = 0;
  tied.tie_embeddings = true;
  const auto interleaved = Kind::kInterleaved, zero_bubble = Kind::kZeroBubble;
  return {
      {.name = "OneStage", .model = moe, .stages = 1},
      {.name = "OneStageZeroBubbleTied", .model = tied, .stages = 1, .kind = zero_bubble},
      {.name = "OneStageTwoChunks", .model = moe, .stages = 1, .chunks = 2, .kind = interleaved},
      {.name = "MoeTwoStages", .model = moe},
      {.name = "MoeFourStagesRecompute", .model = moe, .stages = 4, .recompute = Recompute::kFull},
      {.name = "MoeInterleaved", .model = moe, .chunks = 2, .kind = interleaved},
      {.name = "MoeInterleavedRecompute",
       .model = moe,
       .stages = 3,
       .chunks = 2,
       .kind = interleaved,
       .recompute = Recompute::kSelective},
      {.name = "MoeZeroBubble", .model = moe, .kind = zero_bubble},
      {.name = "MoeZeroBubbleFourStagesRecompute",
       .model = moe,
       .stages = 4,
       .kind = zero_bubble,
       .recompute = Recompute::kFull,
       .microbatches = 10},
      {.name = "MoeAndDenseBf16", .model = both, .stages = 2, .compute = DType::kBF16},
      {.name = "MoeAndDenseBf16ZeroBubble", .model = both, .kind = zero_bubble, .compute = DType::kBF16},
      // The first piece has the embedding alone, the last one the head.
      {.name = "HeadAlone", .model = both, .stages = 5, .microbatches = 4},
      {.name = "HeadAloneZeroBubble", .model = both, .stages = 5, .kind = zero_bubble, .microbatches = 4},
      {.name = "DenseFourStages", .model = dense, .stages = 4, .microbatches = 8},
      {.name = "DenseFourStagesInterleaved",
       .model = dense,
       .stages = 4,
       .chunks = 2,
       .kind = interleaved,
       .microbatches = 10},
      {.name = "DenseFewMicrobatches",
       .model = dense,
       .stages = 4,
       .chunks = 2,
       .kind = interleaved,
       .microbatches = 2},
      {.name = "TiedTwoChunksOfAStage", .model = tied, .stages = 1, .chunks = 2, .kind = interleaved},
      {.name = "TiedTwoStages", .model = tied},
      {.name = "TiedZeroBubble", .model = tied, .kind = zero_bubble, .recompute = Recompute::kFull},
      {.name = "Gpt2", .model = gpt2, .stages = 4},
      {.name = "Gpt2Interleaved", .model = gpt2, .chunks = 2, .kind = interleaved, .recompute = Recompute::kFull},
      {.name = "Gpt2ZeroBubble", .model = gpt2, .stages = 4, .kind = zero_bubble},
      {.name = "LlamaDocumentsZeroBubble", .model = llama, .stages = 3, .kind = zero_bubble, .document_mask = true},
  };
}

class Pipeline : public testing::TestWithParam<Case> {};

TEST_P(Pipeline, HasTheBitsOfTheProgramInOnePiece) {
  const Case& test = GetParam();
  const Outcome expected = run_in_one_piece(test);
  Outcome outcome;
  std::mutex mutex;
  auto groups = link_stages(test.stages);
  std::vector<std::thread> stages;
  for (int stage = 0; stage < test.stages; ++stage)
    stages.emplace_back([&, stage] { run_stage(test, stage, groups[static_cast<size_t>(stage)], mutex, outcome); });
  for (std::thread& stage : stages) stage.join();
  EXPECT_NE(expected.loss, ExactSum().words());
  EXPECT_EQ(outcome.loss, expected.loss);
  EXPECT_EQ(outcome.aux_loss, expected.aux_loss);
  ASSERT_EQ(outcome.gradients.size(), expected.gradients.size());
  for (const auto& [key, gradient] : expected.gradients) {
    EXPECT_TRUE(outcome.gradients[key] == gradient) << key.second << " of leaf " << key.first;
    EXPECT_TRUE(std::any_of(gradient.begin(), gradient.end(), [](std::byte byte) { return byte != std::byte{0}; }))
        << key.second << " is zero";
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Pipeline, testing::ValuesIn(cases()), [](const auto& info) { return info.param.name; });

int64_t num_received(const RankGroups& groups, Link link) {
  const auto records = groups.find(RankGroup::to(link))->flight_recorder().records();
  return std::ranges::count_if(records, [](const FlightRecord& record) { return !record.under_way(); });
}

// Before the last stage goes backward for the first time it asks for its second microbatch, which comes meanwhile.
TEST(PipelineStage, WhatTheNextStepReadsComesWhileThisOneRuns) {
  const Case test{.name = "ahead", .model = model_of(Family::kLlama, 4), .stages = 2};
  auto groups = link_stages(test.stages);
  std::vector<std::thread> stages;
  for (int stage = 0; stage < test.stages; ++stage)
    stages.emplace_back([&, stage] {
      RankGroups& own = groups[static_cast<size_t>(stage)];
      const auto device = one_thread();
      const auto pipeline =
          *PipelineStage::create(test.program(), cut_layers(4, 2), options_of(test, stage), *device, own);
      Memories memories(*device, test);
      for (Executable* executable : pipeline->executables()) memories.bind(*executable);
      bool came = false;
      PipelineReport report;
      const Status status =
          pipeline->run({.fill_inputs =
                             [&](int64_t microbatch, const Program& program) {
                               memories.fill_inputs(microbatch, program);
                               if (stage == 0 || microbatch > 0 || !program.find("targets")) return ok_status();
                               const int64_t received = num_received(own, Link::kFromPrevious);
                               for (int look = 0; look < 1000 && !came; ++look) {
                                 came = num_received(own, Link::kFromPrevious) > received || received >= 2;
                                 if (!came) std::this_thread::sleep_for(std::chrono::milliseconds(10));
                               }
                               return ok_status();
                             },
                         .end_leaf =
                             [&](int64_t, const Program& program) {
                               for (const TensorId id : program.with_role(Role::kGradient))
                                 memories.take_gradient(program.tensor(id));
                               return ok_status();
                             }},
                        report);
      EXPECT_TRUE(status.ok()) << status.message();
      EXPECT_EQ(came, stage == 1);
    });
  for (std::thread& stage : stages) stage.join();
}

// The first stage's data ends: every other stage hears of it and says why.
TEST(PipelineStage, AFailureOnOneStageEndsTheStepOnAll) {
  const Case test{.name = "failure", .model = model_of(Family::kLlama, 4), .stages = 3};
  auto groups = link_stages(test.stages);
  std::vector<std::thread> stages;
  for (int stage = 0; stage < test.stages; ++stage)
    stages.emplace_back([&, stage] {
      const auto device = one_thread();
      const auto pipeline = *PipelineStage::create(test.program(), cut_layers(4, 3), options_of(test, stage), *device,
                                                   groups[static_cast<size_t>(stage)]);
      Memories memories(*device, test);
      for (Executable* executable : pipeline->executables()) memories.bind(*executable);
      PipelineReport report;
      const Status status =
          pipeline->run({.fill_inputs =
                             [&](int64_t microbatch, const Program& program) {
                               memories.fill_inputs(microbatch, program);
                               return stage == 0 && microbatch == 3 ? unavailable("the shard is gone") : ok_status();
                             },
                         .end_leaf = [](int64_t, const Program&) { return ok_status(); }},
                        report);
      ASSERT_FALSE(status.ok());
      EXPECT_THAT(status.message(), stage == 0 ? HasSubstr("the shard is gone") : HasSubstr("rank"));
    });
  for (std::thread& stage : stages) stage.join();
}

}  // namespace
}  // namespace colossus
