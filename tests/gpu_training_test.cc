// A run of the trainer on a GPU: its losses are those of the CPU but for rounding, its bits its own each time, and what
// it saved answers on either.

#include <gtest/gtest.h>

#include "device_of_test.h"
#include "infer/generate.h"
#include "infer/loaded_model.h"
#include "train/testing.h"

namespace colossus {
namespace {

struct LossCurve final : TrainObserver {
  void on_step(const StepReport& report) override {
    losses.push_back(report.loss);
    norms.push_back(report.grad_norm);
  }
  std::vector<double> losses, norms;
};

// Trains to the end of the run, or `steps` steps of it.
LossCurve train(const TinyData& data, RunConfig run, Device& device) {
  LossCurve curve;
  auto trainer = Trainer::create(run, local_files(), device, data.tokenizer_json(), curve);
  CHECK(trainer.ok(), trainer.ok() ? "" : trainer.status().message().c_str());
  const auto result = (*trainer)->run(false);
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.status().message());
  return curve;
}

class GpuTraining : public testing::TestWithParam<Family> {
 protected:
  RunConfig short_run(const std::string& out) const {
    RunConfig run = tiny_run(data_, out, GetParam());
    run.train.steps = 4;
    run.train.evaluate_every = 0;
    run.train.checkpoint_every = 2;
    return run;
  }

  const TinyData data_;
};

TEST_P(GpuTraining, LossesAreThoseOfTheCpuAndTheBitsItsOwn) {
  const auto cpu = device_of_test(TestDevice::kCpu), gpu = device_of_test(TestDevice::kGpu);
  const LossCurve want = train(data_, short_run("cpu"), *cpu), got = train(data_, short_run("gpu"), *gpu);
  ASSERT_EQ(got.losses.size(), want.losses.size());
  for (size_t i = 0; i < want.losses.size(); ++i) {
    EXPECT_NEAR(got.losses[i], want.losses[i], 2e-5 * want.losses[i]) << "step " << i;
    EXPECT_NEAR(got.norms[i], want.norms[i], 2e-4 * want.norms[i]) << "step " << i;
  }
  const auto another = device_of_test(TestDevice::kGpu);
  const LossCurve again = train(data_, short_run("again"), *another);
  EXPECT_EQ(again.losses, got.losses);
  EXPECT_EQ(again.norms, got.norms);
}

TEST_P(GpuTraining, ARunThatWasStoppedGoesOnWithTheSameBits) {
  const auto gpu = device_of_test(TestDevice::kGpu);
  const LossCurve whole = train(data_, short_run("whole"), *gpu);
  RunConfig run = short_run("stopped");
  struct StopAfterTwo final : TrainObserver {
    void on_checkpoint(int64_t step) override { stop = step >= 2; }
    std::atomic<bool> stop = false;
  } first_half;
  auto trainer = *Trainer::create(run, local_files(), *gpu, data_.tokenizer_json(), first_half);
  ASSERT_TRUE(trainer->run(first_half.stop).ok());
  ASSERT_LT(trainer->step(), run.train.steps);
  const LossCurve rest = train(data_, run, *gpu);
  ASSERT_FALSE(rest.losses.empty());
  EXPECT_TRUE(std::equal(rest.losses.rbegin(), rest.losses.rend(), whole.losses.rbegin()));
}

TEST_P(GpuTraining, WhatItSavedAnswersOnEither) {
  const auto gpu = device_of_test(TestDevice::kGpu), cpu = device_of_test(TestDevice::kCpu);
  train(data_, short_run("run"), *gpu);
  std::vector<std::string> texts;
  for (Device* device : {gpu.get(), cpu.get()}) {
    const auto loaded = load_model(local_files(), *device, short_run("run").out);
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    const auto session = *DecodeSession::create(*device, loaded->parameters, loaded->config, {.compute = DType::kF32});
    const std::vector<int32_t> prompts[] = {*loaded->tokenizer.encode("the ship")};
    const GenerateOptions options{.sampler = {.temperature = 0}, .max_tokens = 8, .stop_ids = {}, .stop_strings = {}};
    texts.push_back(
        (*generate(*session, loaded->tokenizer, prompts, options, [](int64_t, std::string_view) {}))[0].text);
  }
  EXPECT_EQ(texts[0], texts[1]);
  EXPECT_FALSE(texts[0].empty());
}

INSTANTIATE_TEST_SUITE_P(Families, GpuTraining,
                         testing::Values(Family::kGrok1, Family::kGrok2, Family::kLlama, Family::kGpt2),
                         [](const auto& info) {
                           std::string name(info.param == Family::kGrok1   ? "grok_1"
                                            : info.param == Family::kGrok2 ? "grok_2"
                                            : info.param == Family::kLlama ? "llama"
                                                                           : "gpt_2");
                           return name;
                         });

}  // namespace
}  // namespace colossus
