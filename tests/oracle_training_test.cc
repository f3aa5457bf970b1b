// 100 steps of AdamW and 20 of Muon beside PyTorch in fp64, from the same weights and batches (tests/oracle).

#include <gtest/gtest.h>

#include "device_of_test.h"
#include "oracle/golden.h"
#include "program/builder.h"
#include "train/update_program.h"

namespace colossus {
namespace {

constexpr double kLossTolerance = 1e-4;
// Parameters after 100 steps, largest error over largest value: AdamW divides by the root of small second moments.
constexpr double kParameterTolerance = 1e-3;

struct TrainingCase {
  const char* golden;
  TestDevice device;
};

class OracleTraining : public testing::TestWithParam<TrainingCase> {};

TEST_P(OracleTraining, AdamWFollowsPyTorch) {
  const Golden golden(GetParam().golden);
  const auto device = device_of_test(GetParam().device);
  const auto adamw = golden.metadata("adamw");
  const OptimizerConfig optimizer{.learning_rate = adamw.at("learning_rate"),
                                  .beta1 = adamw.at("beta1"),
                                  .beta2 = adamw.at("beta2"),
                                  .eps = adamw.at("eps"),
                                  .weight_decay = adamw.at("weight_decay"),
                                  .clip_norm = adamw.at("max_grad_norm")};
  const ModelConfig config = golden.model();
  const auto& shape = golden.entry("train.tokens").shape;  // (steps, B, T + 1)
  const int64_t num_steps = shape[0], batch = shape[1], num_tokens = shape[2] - 1;
  const auto parameters = parameter_table(config);
  ASSERT_TRUE(parameters.ok());
  Program microbatch = *write_training_program(config, {.batch = batch, .tokens = num_tokens}, Recompute::kNone);
  Program update =
      write_update_program(*parameters, optimizer, update_on_one_rank(*parameters), {.bucket_elements = 5000})->program;
  TensorSet tensors;
  ASSERT_TRUE(tensors.add_all(*device, update).ok());
  ASSERT_TRUE(tensors.add_all(*device, microbatch).ok());
  const auto first = *device->compile(std::move(microbatch)), second = *device->compile(std::move(update));
  tensors.bind_to(*first);
  tensors.bind_to(*second);
  write_golden_parameters(*device, tensors, golden);
  write_tensor(*device, tensors, "loss_grad", std::vector<float>{1});
  write_tensor(*device, tensors, "lr", std::vector<float>{static_cast<float>(optimizer.learning_rate)});

  const auto text = golden.values<int32_t>("train.tokens");
  const auto total = golden.values<double>("train.total"), cross_entropy = golden.values<double>("train.cross_entropy"),
             grad_norm = golden.values<double>("train.grad_norm");
  ASSERT_EQ(num_steps, 100);
  for (int64_t step = 0; step < num_steps; ++step) {
    SCOPED_TRACE(step);
    std::vector<int32_t> tokens, targets;
    for (int64_t b = 0; b < batch; ++b) {
      const auto row = text.begin() + (step * batch + b) * (num_tokens + 1);
      tokens.insert(tokens.end(), row, row + num_tokens);
      targets.insert(targets.end(), row + 1, row + num_tokens + 1);
    }
    write_tensor(*device, tensors, "tokens", tokens);
    write_tensor(*device, tensors, "targets", targets);
    for (const auto& [name, entry] : tensors.entries())
      if (entry.role == Role::kGradient) device->zero(*entry.memory);
    CHECK(first->run().ok());
    const auto at = static_cast<size_t>(step);
    const float loss = read_output(*first, "loss")[0];
    const float with_aux = first->program().find("aux_loss") ? loss + read_output(*first, "aux_loss")[0] : loss;
    ASSERT_NEAR(loss / cross_entropy[at], 1, kLossTolerance);
    ASSERT_NEAR(with_aux / total[at], 1, kLossTolerance);
    ExactSum sum;
    sum.add(static_cast<double>(with_aux));
    std::vector<int64_t> step_sums(kStepSums);
    std::ranges::copy(sum.words(), step_sums.begin() + kLossWords);
    write_tensor(*device, tensors, "step_sums", step_sums);
    write_tensor(*device, tensors, "step", std::vector<int64_t>{step + 1});
    CHECK(second->run().ok());
    ASSERT_NEAR(read_output(*second, "grad_norm")[0] / grad_norm[at], 1, 10 * kLossTolerance);
  }
  for (const SafetensorsEntry& entry : golden.tensors()) {
    if (entry.name.rfind("final.", 0) != 0) continue;
    const std::string name = entry.name.substr(6);
    EXPECT_LE(relative_error(read_tensor(*device, tensors, name), golden.values<float>(entry.name)),
              kParameterTolerance)
        << name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Goldens, OracleTraining,
    testing::Values(TrainingCase{"train_llama", TestDevice::kCpu}, TrainingCase{"train_grok", TestDevice::kCpu},
                    TrainingCase{"train_llama", TestDevice::kGpu}, TrainingCase{"train_grok", TestDevice::kGpu}),
    [](const auto& info) { return std::string(info.param.golden) + "_" + test_device_name(info.param.device); });

// The generator that the goldens' gradients come from (README: Muon).
class GoldenNumbers {
 public:
  explicit GoldenNumbers(uint32_t seed) : state_(seed) {}
  std::vector<float> draw(size_t count) {
    std::vector<float> values(count);
    for (float& value : values) {
      state_ = state_ * 1664525U + 1013904223U;
      value = static_cast<float>(static_cast<double>(state_ >> 8) / 8388608.0 - 1);
    }
    return values;
  }

 private:
  uint32_t state_;
};

struct MuonCase {
  const char* name;
  uint32_t seed;
  TestDevice device = TestDevice::kCpu;
};

class OracleMuon : public testing::TestWithParam<MuonCase> {};

TEST_P(OracleMuon, FollowsPyTorch) {
  const Golden golden("muon");
  const std::string name = GetParam().name;
  const auto settings = golden.metadata("muon");
  const auto& sizes = golden.entry(name + ".initial").shape;
  const Shape shape{std::span<const int64_t>(sizes)};
  Builder b("muon");
  const TensorId param = b.parameter("w", shape), grad = b.declare("grad.w", {shape, DType::kF32}, Role::kGradient);
  const TensorId momentum = b.declare("w.momentum", {shape, DType::kF32}, Role::kOptimizerState);
  const TensorId scale = b.input("scale", {}, DType::kF32);
  const TensorId direction = b.emit(MuonMomentum{.momentum = settings.at("momentum")}, {grad, momentum, scale});
  b.emit(Muon{.iterations = settings.at("iterations"), .weight_decay = settings.at("weight_decay")},
         {param, direction, b.input("lr", {}, DType::kF32), scale});
  const auto device = device_of_test(GetParam().device);
  Program program = *b.finish();
  TensorSet tensors;
  ASSERT_TRUE(tensors.add_all(*device, program).ok());
  const auto executable = *device->compile(std::move(program));
  tensors.bind_to(*executable);

  GoldenNumbers numbers(GetParam().seed);
  const auto count = static_cast<size_t>(shape.num_elements());
  const auto initial = numbers.draw(count);
  ASSERT_EQ(initial, golden.values<float>(name + ".initial"));
  write_tensor(*device, tensors, "w", initial);
  write_tensor(*device, tensors, "lr", std::vector<float>{settings.at("learning_rate").get<float>()});
  write_tensor(*device, tensors, "scale", std::vector<float>{1});
  for (int step = 1; step <= settings.at("steps").get<int>(); ++step) {
    const auto drawn = numbers.draw(count);
    if (step == 1) {
      ASSERT_EQ(drawn, golden.values<float>(name + ".first_grad"));
    }
    write_tensor(*device, tensors, "grad.w", drawn);
    CHECK(executable->run().ok());
    // Weights are stored (in, out).
    const std::string stored = name + ".cols_over_rows.after_" + std::to_string(step);
    if (golden.has(stored)) {
      EXPECT_LE(relative_error(read_tensor(*device, tensors, "w"), golden.values<float>(stored)), 1e-5)
          << "step " << step;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, OracleMuon,
                         testing::Values(MuonCase{"wide", 1}, MuonCase{"tall", 2}, MuonCase{"square", 3},
                                         MuonCase{"experts", 4}, MuonCase{"wide", 1, TestDevice::kGpu},
                                         MuonCase{"tall", 2, TestDevice::kGpu},
                                         MuonCase{"experts", 4, TestDevice::kGpu}),
                         [](const auto& info) {
                           return std::string(info.param.name) + "_" + test_device_name(info.param.device);
                         });

}  // namespace
}  // namespace colossus
