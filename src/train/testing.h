// For tests only: text, shards and a run small enough to train in milliseconds.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/rng.h"
#include "data/build.h"
#include "data/tokenizer_identity.h"
#include "io/testing.h"
#include "model/testing.h"
#include "text/bpe_trainer.h"
#include "train/trainer.h"

namespace colossus {

// Sentences of a few words in an order that can be learned in part.
inline std::string tiny_text(int num_sentences) {
  const char* words[] = {"the ship", "a star", "every moon", "sails", "shines on",
                         "leaves",   "home",   "the sea",    "night"};
  std::string text;
  for (int i = 0; i < num_sentences; ++i) {
    const RngKey key{.seed = 3, .purpose = RngPurpose::kTest, .step = static_cast<uint64_t>(i)};
    for (uint32_t part = 0; part < 3; ++part)
      text += std::string(part ? " " : "") + words[3 * part + random_bits(key, part) % 3];
    text += ".\n";
  }
  return text;
}

// A directory that holds "shards" of a text and tokenizer.json text, one token per character.
class TinyData {
 public:
  explicit TinyData(int num_sentences = 60) : TinyData(tiny_text(num_sentences)) {}
  explicit TinyData(const std::string& text) {
    auto trained = train_characters(
        {}, [&](DocumentSink sink) { return sink(text); }, [](const TrainProgress&) {});
    CHECK(trained.ok(), trained.status().message().c_str());
    tokenizer_json_ = trained->tokenizer.to_json();
    CHECK(write_file_atomically(local_files(), directory_ / "text.txt", text).ok());
    const Tokenizer& tokenizer = trained->tokenizer;
    const auto built = build_shards(
        local_files(),
        {.inputs = {directory_ / "text.txt"},
         .out = shards(),
         .source = {},
         .identity = shard_identity(tokenizer),
         .bos_token = {},
         .eos_token = {},
         .validation_fraction = 0.2},
        [&](std::string_view piece, std::vector<int32_t>& tokens) { return tokenizer.encode(piece, tokens); },
        [](const BuildProgress&) { return true; });
    CHECK(built.ok(), built.status().message().c_str());
  }

  std::string shards() const { return directory_ / "shards"; }
  std::string operator/(const std::string& name) const { return directory_ / name; }
  const std::string& tokenizer_json() const { return tokenizer_json_; }

 private:
  TemporaryDirectory directory_;
  std::string tokenizer_json_;
};

// Four microbatches a step in two leaves; validation and a checkpoint now and then.
inline RunConfig tiny_run(const TinyData& data, const std::string& out, Family family = Family::kGrok1) {
  RunConfig run;
  run.out = data / out;
  run.model = tiny_model(family);
  run.data.sources = {{.path = data.shards()}};
  run.train.steps = 10;
  run.train.batch = 8;
  run.train.microbatch = 2;
  run.train.reduction_leaves = 2;
  run.train.compute = ComputeType::kF32;
  run.train.evaluate_every = 5;
  run.train.evaluation_tokens = 64;
  run.train.checkpoint_every = 4;
  run.optimizer.learning_rate = 5e-3;
  run.optimizer.warmup_steps = 2;
  return run;
}

inline std::vector<std::byte> bytes_of_tensor(Device& device, const TensorSet::Entry& entry) {
  std::vector<std::byte> bytes(static_cast<size_t>(entry.type.num_bytes()));
  device.read(*entry.memory, entry.offset_bytes, bytes);
  return bytes;
}

// Parameters and optimizer states by name, as bytes.
inline std::map<std::string, std::vector<std::byte>> state_of(Device& device, const TensorSet& tensors) {
  std::map<std::string, std::vector<std::byte>> state;
  for (const auto& [name, entry] : tensors.entries())
    if (entry.role == Role::kParameter || entry.role == Role::kOptimizerState)
      state[name] = bytes_of_tensor(device, entry);
  return state;
}

}  // namespace colossus
