// From training to a checkpoint to a model that answers, over the floors in between.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "device/cpu/cpu_device.h"
#include "infer/generate.h"
#include "infer/loaded_model.h"
#include "train/testing.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

TEST(TrainAndGenerate, ACheckpointAnswersLikeTheRunThatWroteIt) {
  const TinyData data;
  const RunConfig run = tiny_run(data, "run");
  const auto device = *make_cpu_device({.num_threads = 1});
  TrainObserver observer;
  auto trainer = *Trainer::create(run, local_files(), *device, data.tokenizer_json(), observer);
  ASSERT_TRUE(trainer->run(false).ok());
  const auto loaded = load_model(local_files(), *device, run.out);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(loaded->step, run.train.steps);
  EXPECT_EQ(loaded->config.vocab_size, loaded->tokenizer.vocab_size());
  std::vector<std::string> texts;
  for (const TensorSet* parameters : {&trainer->tensors(), &loaded->parameters}) {
    const auto session = *DecodeSession::create(*device, *parameters, loaded->config, {});
    const std::vector<int32_t> prompts[] = {*loaded->tokenizer.encode("the")};
    const GenerateOptions options{.sampler = {.temperature = 1}, .max_tokens = 10, .stop_ids = {}, .stop_strings = {}};
    texts.push_back(
        (*generate(*session, loaded->tokenizer, prompts, options, [](int64_t, std::string_view) {}))[0].text);
  }
  EXPECT_EQ(texts[0], texts[1]);
  EXPECT_EQ(texts[0].size(), 10u);

  // One checkpoint by its own path; a damaged newest is passed over; nothing there is told.
  const auto paths = *list_checkpoints(local_files(), run.out + "/checkpoints");
  EXPECT_EQ(load_model(local_files(), *device, paths[0])->step, 8);
  ASSERT_TRUE(local_files().remove_all(paths.back() + "/model.toml").ok());
  const auto older = load_model(local_files(), *device, run.out);
  ASSERT_TRUE(older.ok()) << older.status().message();
  EXPECT_EQ(older->step, 8);
  EXPECT_EQ(older->passed_over.size(), 1u);
  EXPECT_THAT(load_model(local_files(), *device, data / "nothing").status().message(), HasSubstr("not there"));
}

}  // namespace
}  // namespace colossus
