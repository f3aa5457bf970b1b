#include "train/update_program.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/rng.h"
#include "device/cpu/cpu_device.h"
#include "train/testing.h"

namespace colossus {
namespace {

struct Update {
  std::unique_ptr<Device> device = *make_cpu_device({.num_threads = 2});
  TensorSet tensors;
  std::unique_ptr<Executable> executable;

  explicit Update(const OptimizerConfig& optimizer, const ModelConfig& model = with_vocabulary()) {
    const auto parameters = parameter_table(model);
    CHECK(parameters.ok());
    Program program =
        write_update_program(*parameters, optimizer, update_on_one_rank(*parameters), {.bucket_elements = 3000})
            ->program;
    CHECK(tensors.add_all(*device, program).ok());
    executable = *device->compile(std::move(program));
    tensors.bind_to(*executable);
    initialize_parameters(*device, *parameters, whole_parameters(tensors, *parameters), 1);
    for (const auto& [name, entry] : tensors.entries())
      if (entry.role == Role::kGradient && entry.is_view)
        fill(name, [](size_t i) { return 0.01F * static_cast<float>(i % 7) - 0.02F; });
    set("lr", 0.1F);
    set("muon_lr", 0.1F);
    set_loss(2.0);
    set("step", int64_t{1});
  }

  static ModelConfig with_vocabulary() {
    ModelConfig model = tiny_model(Family::kGrok1);
    model.vocab_size = 20;
    return model;
  }
  void set_loss(double loss) {
    ExactSum sum;
    sum.add(loss);
    std::array<int64_t, kStepSums> words{};
    std::ranges::copy(sum.words(), words.begin() + kLossWords);
    set("step_sums", words);
  }
  template <class T>
  void set(const std::string& name, T value) {
    device->write(*tensors.at(name).memory, 0, bytes_of(value));
  }
  template <class F>
  void fill(const std::string& name, F value) {
    std::vector<float> values(static_cast<size_t>(tensors.at(name).type.shape.num_elements()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = value(i);
    device->write(*tensors.at(name).memory, tensors.at(name).offset_bytes, std::as_bytes(std::span(values)));
  }
  float output(const char* name) {
    float value = 0;
    executable->read_output(executable->program().find(name), writable_bytes_of(value));
    return value;
  }
};

TEST(UpdateProgram, GivesEachParameterItsRule) {
  const Update update({.kind = OptimizerKind::kMuon});
  const auto has = [&](const std::string& name) { return update.tensors.find(name) != nullptr; };
  for (const char* matrix : {"layers.0.attn.q", "layers.1.moe.down", "layers.0.moe.router"}) {
    EXPECT_TRUE(has(std::string(matrix) + ".momentum")) << matrix;
    EXPECT_FALSE(has(std::string(matrix) + ".m")) << matrix;
  }
  for (const char* other : {"embedding", "layers.0.attn_norm", "final_norm"}) {
    EXPECT_TRUE(has(std::string(other) + ".m") && has(std::string(other) + ".v")) << other;
    EXPECT_FALSE(has(std::string(other) + ".momentum")) << other;
  }
}

// With gradients of zero only decay moves a parameter.
TEST(UpdateProgram, VectorsDoNotDecay) {
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kMuon}) {
    Update update({.kind = kind, .weight_decay = 0.5, .muon_weight_decay = 0.25});
    for (const auto& [name, entry] : update.tensors.entries())
      if (entry.role == Role::kGradient) update.device->zero(*entry.memory);
    const auto before = state_of(*update.device, update.tensors);
    CHECK(update.executable->run().ok());
    const auto after = state_of(*update.device, update.tensors);
    for (const char* vector : {"layers.0.attn_norm", "final_norm"})
      EXPECT_EQ(before.at(vector), after.at(vector)) << vector;
    for (const auto& [name, decay] : {std::pair<std::string, float>{"embedding", 0.5F},
                                      {"layers.0.attn.q", kind == OptimizerKind::kMuon ? 0.25F : 0.5F}}) {
      float old_value = 0, new_value = 0;
      std::memcpy(&old_value, before.at(name).data(), 4);
      std::memcpy(&new_value, after.at(name).data(), 4);
      EXPECT_FLOAT_EQ(new_value, old_value * (1 - 0.1F * decay)) << name;
    }
  }
}

TEST(UpdateProgram, ClipsTheNormOfAllGradients) {
  Update update({.clip_norm = 0.25});
  CHECK(update.executable->run().ok());
  const float norm = update.output("grad_norm");
  EXPECT_GT(norm, 0.25F);
  EXPECT_NEAR(update.output("clip_scale") * norm, 0.25F, 1e-5F);
  Update unclipped({.clip_norm = 0});
  CHECK(unclipped.executable->run().ok());
  EXPECT_EQ(unclipped.output("clip_scale"), 1);
}

// A gradient or loss that is not finite moves nothing: no parameter, no moment.
TEST(UpdateProgram, SkipsWhatIsNotFinite) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kMuon}) {
    for (const float bad : {kInfinity, -kInfinity, kNan}) {
      for (const char* where : {"loss", "grad.final_norm", "grad.layers.1.attn.q"}) {
        Update update({.kind = kind});
        if (std::string(where) == "loss")
          update.set_loss(static_cast<double>(bad));
        else
          update.fill(where, [&](size_t i) { return i == 3 ? bad : 0.0F; });
        const auto before = state_of(*update.device, update.tensors);
        CHECK(update.executable->run().ok());
        EXPECT_TRUE(std::isnan(update.output("clip_scale"))) << where << " " << bad;
        EXPECT_EQ(state_of(*update.device, update.tensors), before) << where << " " << bad;
        // The next good step goes on.
        if (std::string(where) == "loss")
          update.set_loss(2.0);
        else
          update.fill(where, [](size_t) { return 0.01F; });
        CHECK(update.executable->run().ok());
        EXPECT_FALSE(std::isnan(update.output("clip_scale")));
        EXPECT_NE(state_of(*update.device, update.tensors), before);
      }
    }
  }
}

}  // namespace
}  // namespace colossus
