// Models of others, from their files to what they say.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "convert/export_gguf.h"
#include "convert/export_model.h"
#include "convert/import_model.h"
#include "device/cpu/cpu_device.h"
#include "infer/decode_session.h"
#include "infer/loaded_model.h"
#include "io/testing.h"
#include "model/generation_tokens.h"
#include "oracle/golden.h"
#include "train/testing.h"

namespace colossus {
namespace {

const std::string kShared = COLOSSUS_SOURCE_DIR "/../shared/data/weights";

bool is_there(const std::string& path) { return local_files().stat(path).ok(); }

std::vector<int32_t> greedy(DecodeSession& session, int32_t first, int num_tokens, int32_t end) {
  std::vector<int32_t> tokens;
  for (int32_t next = first; static_cast<int>(tokens.size()) < num_tokens;) {
    const Status fed = session.feed(std::vector<std::vector<int32_t>>{{next}});
    CHECK(fed.ok(), fed.message().c_str());
    const auto logits = session.logits(0);
    next = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    if (next == end) break;
    tokens.push_back(next);
  }
  return tokens;
}

// The pieces of a llama2.c tokenizer as they are printed.
std::vector<std::string> pieces_in(const std::string& path) {
  const auto bytes = read_file(local_files(), path);
  CHECK(bytes.ok());
  std::vector<std::string> pieces;
  for (size_t at = 4; at < bytes->size();) {
    int32_t length = 0;
    std::memcpy(&length, bytes->data() + at + 4, 4);
    pieces.push_back(bytes->substr(at + 8, static_cast<size_t>(length)));
    at += 8 + static_cast<size_t>(length);
  }
  return pieces;
}

// The text that llama2.c itself prints at temperature 0, to the byte.
TEST(ImportedModels, StoriesAreToldAsByTheirOwnProgram) {
  const std::string source = kShared + "/stories260K";
  if (!is_there(source)) GTEST_SKIP() << source << " is not there";
  const TemporaryDirectory dir;
  const auto imported =
      import_model(local_files(), source + "/stories260K.bin", dir / "stories", {.tokenizer = source + "/tok512.bin"});
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  const auto device = make_cpu_device({.num_threads = 1});
  ASSERT_TRUE(device.ok());
  const auto network = load_network(local_files(), **device, dir / "stories");
  ASSERT_TRUE(network.ok()) << network.status().message();
  const auto session = DecodeSession::create(**device, network->parameters, network->config,
                                             {.context = 256, .stored = network->stored});
  ASSERT_TRUE(session.ok()) << session.status().message();
  constexpr int32_t kBegin = 1;
  const auto tokens = greedy(**session, kBegin, 200, kBegin);
  const auto pieces = pieces_in(source + "/tok512.bin");
  std::string text;
  for (const int32_t token : tokens) {
    const std::string& piece = pieces[static_cast<size_t>(token)];
    if (piece.size() == 6 && piece.starts_with("<0x"))
      text += static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16));
    else
      text += text.empty() && piece.starts_with(' ') ? piece.substr(1) : piece;
  }
  auto expected = *read_file(local_files(), source + "/expected_greedy_200.txt");
  while (expected.ends_with('\n')) expected.pop_back();
  while (text.ends_with('\n')) text.pop_back();
  EXPECT_EQ(text, expected);
}

// What transformers 5 gives for these tokens (GPT2LMHeadModel in fp32).
constexpr int32_t kTinyGpt2Tokens[] = {0, 5, 9, 20, 3};
constexpr float kTinyGpt2Logits[5][21] = {
    {0.03654744F,  0.02488837F,  0.04087383F,  -0.04043752F, -0.07335059F, -0.01735909F,  -0.0487229F,
     0.01359222F,  -0.07568102F, -0.03143263F, 0.01299195F,  -0.017115F,   -0.005663219F, 0.003291155F,
     -0.02356736F, 0.004981186F, 0.03297614F,  -0.05762323F, 0.006145493F, 0.03814059F,   0.01663484F},
    {0.03185168F,  0.02169062F,  0.0356222F,   -0.03524195F, -0.06392621F, -0.01512873F,  -0.04246279F,
     0.01184584F,  -0.06595722F, -0.02739404F, 0.01132269F,  -0.01491599F, -0.004935587F, 0.002868296F,
     -0.02053933F, 0.004341185F, 0.02873924F,  -0.05021958F, 0.005355897F, 0.03324014F,   0.01449753F},
    {-0.03612731F, -0.02460228F,  -0.04040397F, 0.03997267F,  0.0725074F,    0.01715955F,  0.04816281F,
     -0.01343597F, 0.07481103F,   0.0310713F,   -0.01284261F, 0.01691825F,   0.005598119F, -0.003253324F,
     0.02329644F,  -0.004923927F, -0.03259707F, 0.05696084F,  -0.006074851F, -0.03770215F, -0.01644362F},
    {-0.03370768F, -0.02295453F,  -0.03769791F, 0.03729551F,  0.06765121F,   0.01601029F,  0.04493711F,
     -0.0125361F,  0.06980056F,   0.0289903F,   -0.01198247F, 0.01578515F,   0.005223185F, -0.003035432F,
     0.02173616F,  -0.004594147F, -0.03041388F, 0.05314589F,  -0.005667987F, -0.03517705F, -0.01534231F},
    {0.02909937F,  0.01981633F,  0.03254408F,  -0.03219668F, -0.05840234F, -0.01382145F,  -0.03879357F,
     0.01082224F,  -0.06025784F, -0.02502691F, 0.0103443F,   -0.0136271F,  -0.004509102F, 0.002620446F,
     -0.01876452F, 0.003966062F, 0.02625588F,  -0.04588009F, 0.004893093F, 0.03036785F,   0.0132448F}};

TEST(ImportedModels, TinyGpt2HasTheLogitsOfTransformers) {
  const std::string source = kShared + "/tiny_gpt2_random";
  if (!is_there(source)) GTEST_SKIP() << source << " is not there";
  const TemporaryDirectory dir;
  const auto imported = import_model(local_files(), source, dir / "gpt2");
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  const auto device = make_cpu_device({.num_threads = 1});
  ASSERT_TRUE(device.ok());
  const auto network = load_network(local_files(), **device, dir / "gpt2");
  ASSERT_TRUE(network.ok()) << network.status().message();
  const auto session =
      DecodeSession::create(**device, network->parameters, network->config, {.context = 8, .stored = network->stored});
  ASSERT_TRUE(session.ok()) << session.status().message();
  for (size_t t = 0; t < 5; ++t) {
    ASSERT_TRUE((*session)->feed(std::vector<std::vector<int32_t>>{{kTinyGpt2Tokens[t]}}).ok());
    for (size_t v = 0; v < 21; ++v) EXPECT_NEAR((*session)->logits(0)[v], kTinyGpt2Logits[t][v], 1e-6);
  }
}

// What llama.cpp gives for these tokens (llama-cpp-python 0.3.36, fp32 cache; tests/oracle/make_gguf_golden.py).
constexpr int32_t kTinyLlamaTokens[] = {3, 7, 1, 10, 3};
constexpr float kTinyLlamaLogits[5][12] = {{-0.02026098F, 3.918155F, -1.44918F, 0.9994328F, 0.5890768F, -0.7762442F,
                                            0.903151F, 0.5547728F, -1.445943F, -0.4065503F, -1.078631F, 0.03258102F},
                                           {-1.030918F, 4.484962F, -1.474946F, -0.3559931F, -1.723806F, -1.395343F,
                                            -0.1587444F, -0.1088448F, 4.098687F, 1.789383F, -3.328695F, 0.9815256F},
                                           {2.917976F, -1.662979F, -0.1738711F, 0.8285177F, 1.774685F, 1.243725F,
                                            0.9356986F, -3.120811F, -0.1818469F, -0.5817935F, 0.1199883F, 0.3451794F},
                                           {-2.441362F, 1.975942F, -0.7205421F, -0.9553585F, -2.872749F, -2.745212F,
                                            -3.291703F, 1.646588F, 2.749123F, 0.6364315F, -3.325164F, 1.076964F},
                                           {0.04728407F, 3.774724F, -1.78688F, -0.05237062F, 1.424468F, -2.812347F,
                                            -0.08747801F, 0.2012323F, -0.340048F, 2.608606F, -3.692938F, 3.119131F}};

void expect_logits_of_llama_cpp(const std::string& path) {
  const auto device = make_cpu_device({.num_threads = 1});
  ASSERT_TRUE(device.ok());
  const auto network = load_network(local_files(), **device, path);
  ASSERT_TRUE(network.ok()) << network.status().message();
  const auto session =
      DecodeSession::create(**device, network->parameters, network->config, {.context = 8, .stored = network->stored});
  ASSERT_TRUE(session.ok()) << session.status().message();
  for (size_t t = 0; t < 5; ++t) {
    ASSERT_TRUE((*session)->feed(std::vector<std::vector<int32_t>>{{kTinyLlamaTokens[t]}}).ok());
    for (size_t v = 0; v < 12; ++v) EXPECT_NEAR((*session)->logits(0)[v], kTinyLlamaLogits[t][v], 1e-4);
  }
}

// Written by PyPI's gguf: rows of queries and keys in llama.cpp's order, a stretched rotary embedding, keys of all
// types.
TEST(ImportedModels, GgufHasTheLogitsOfLlamaCpp) {
  const TemporaryDirectory dir;
  const auto imported =
      import_model(local_files(), COLOSSUS_SOURCE_DIR "/tests/oracle/goldens/tiny_llama.gguf", dir / "ours");
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  expect_logits_of_llama_cpp(dir / "ours");
  ASSERT_TRUE(export_gguf(local_files(), dir / "ours", dir / "again.gguf").ok());
  ASSERT_TRUE(import_model(local_files(), dir / "again.gguf", dir / "again").ok());
  expect_logits_of_llama_cpp(dir / "again");
}

// A run, exported, imported, and trained on: it begins with the parameters that the first one ended with.
TEST(ImportedModels, ARunBeginsWithImportedParameters) {
  for (const Family family : {Family::kLlama, Family::kGpt2, Family::kGrok1}) {
    const TinyData data;
    const auto device = *make_cpu_device({.num_threads = 1});
    TrainObserver observer;
    RunConfig first = tiny_run(data, "first", family);
    if (family == Family::kGpt2) first.model.num_kv_heads = first.model.num_heads;  // as the format has it
    auto trainer = *Trainer::create(first, local_files(), *device, data.tokenizer_json(), observer);
    ASSERT_TRUE(trainer->run(false).ok());
    const auto exported = export_hf(local_files(), first.out, data / "hf");
    ASSERT_TRUE(exported.ok()) << exported.status().message();
    const auto imported = import_model(local_files(), data / "hf", data / "imported");
    ASSERT_TRUE(imported.ok()) << imported.status().message();

    RunConfig second = first;
    second.out = data / "second";
    second.train.init_from = data / "imported";
    second.train.steps = 2;
    second.optimizer.learning_rate = 1e-30;  // below what an fp32 notices
    struct StopAfterOne final : TrainObserver {
      void on_step(const StepReport&) override { stop = true; }
      std::atomic<bool> stop = false;
    } one_step;
    auto continued = *Trainer::create(second, local_files(), *device, data.tokenizer_json(), one_step);
    const auto done = continued->run(one_step.stop);
    ASSERT_TRUE(done.ok()) << done.status().message();
    for (const auto& [name, entry] : trainer->tensors().entries()) {
      if (entry.role != Role::kParameter) continue;
      EXPECT_EQ(read_tensor(*device, continued->tensors(), name), read_tensor(*device, trainer->tensors(), name))
          << name;
    }
    // Who goes on with the run has its texts from the run's own directory.
    ASSERT_EQ(continued->step(), 1);
    auto resumed = *Trainer::create(second, local_files(), *device, data.tokenizer_json(), observer);
    ASSERT_TRUE(resumed->run(false).ok());
    ASSERT_EQ(resumed->step(), 2);
    std::vector<Status> passed_over;
    const auto begin = find_checkpoint(local_files(), second.train.init_from, passed_over);
    ASSERT_TRUE(begin.ok()) << begin.status().message();
    const std::string texts = begin->state().texts.at(kGenerationFile);
    for (const std::string& path : *list_checkpoints(local_files(), second.checkpoint_directory())) {
      const auto saved = Checkpoint::open(local_files(), path);
      ASSERT_TRUE(saved.ok()) << saved.status().message();
      EXPECT_EQ(saved->state().texts.at(kGenerationFile), texts) << path;
    }

    second.train.init_from = data / "nowhere";
    second.out = data / "third";
    const auto lost = Trainer::create(second, local_files(), *device, data.tokenizer_json(), observer);
    EXPECT_THAT(lost.status().message(), testing::HasSubstr("train.init_from"));
  }
}

}  // namespace
}  // namespace colossus
