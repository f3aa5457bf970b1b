#include "infer/decode_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "infer/testing.h"
#include "tensor/view.h"

namespace colossus {
namespace {

using Tokens = std::vector<int32_t>;

std::vector<float> logits_of(const DecodeSession& session, int64_t sequence = 0) {
  const auto view = session.logits(sequence);
  return {view.begin(), view.end()};
}

void feed_one(DecodeSession& session, const Tokens& tokens) {
  const Tokens lists[] = {tokens};
  const Status fed = session.feed(lists);
  CHECK(fed.ok(), fed.message().c_str());
}

Tokens part(const Tokens& tokens, int64_t first, int64_t count) {
  return {tokens.begin() + first, tokens.begin() + first + count};
}

// What the model says after `tokens` when it sees all of them at once, in an empty cache.
std::vector<float> full_forward(RandomModel& model, const Tokens& tokens) {
  const auto session = model.session({.prefill_tokens = static_cast<int64_t>(tokens.size())});
  feed_one(*session, tokens);
  return logits_of(*session);
}

void expect_close(const std::vector<float>& got, const std::vector<float>& expected, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size());
  float largest = 0, error = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_FALSE(std::isnan(got[i])) << what;
    largest = std::max(largest, std::abs(expected[i]));
    error = std::max(error, std::abs(got[i] - expected[i]));
  }
  EXPECT_GT(largest, 0) << what;
  EXPECT_LE(error, 2e-5F * largest) << what;
}

class CachedDecoding : public testing::TestWithParam<Family> {
 protected:
  RandomModel model_{GetParam()};
};

TEST_P(CachedDecoding, TokenByTokenIsTheFullForward) {
  const Tokens tokens = random_tokens(1, 20);
  const auto session = model_.session();
  for (int64_t t = 0; t < 20; ++t) {
    feed_one(*session, part(tokens, t, 1));
    EXPECT_EQ(session->length(0), t + 1);
    if (t % 3 == 1 || t == 19)
      expect_close(logits_of(*session), full_forward(model_, part(tokens, 0, t + 1)), "token " + std::to_string(t));
  }
}

TEST_P(CachedDecoding, PromptsInChunksAreTheFullForward) {
  const Tokens tokens = random_tokens(2, 30);
  for (const int64_t chunk : {1, 4, 7, 64})
    for (const int64_t prompt : {1, 4, 9, 29}) {
      const auto session = model_.session({.prefill_tokens = chunk});
      feed_one(*session, part(tokens, 0, prompt));
      expect_close(logits_of(*session), full_forward(model_, part(tokens, 0, prompt)),
                   std::to_string(prompt) + " by " + std::to_string(chunk));
      feed_one(*session, part(tokens, prompt, 1));
      expect_close(logits_of(*session), full_forward(model_, part(tokens, 0, prompt + 1)), "one more");
    }
}

TEST_P(CachedDecoding, RaggedBatchesAreTheirSequencesAlone) {
  const int64_t lengths[] = {3, 17, 1, 8};
  const auto session = model_.session({.batch = 4, .prefill_tokens = 6});
  std::vector<Tokens> prompts, more(4);
  for (int64_t i = 0; i < 4; ++i) prompts.push_back(random_tokens(static_cast<uint64_t>(10 + i), lengths[i]));
  ASSERT_TRUE(session->feed(prompts).ok());
  for (int64_t i = 0; i < 4; ++i)
    expect_close(logits_of(*session, i), full_forward(model_, prompts[static_cast<size_t>(i)]),
                 "prompt " + std::to_string(i));
  // Some go on, one rests.
  const auto resting = logits_of(*session, 2);
  more[0] = {5};
  more[1] = {6, 7};
  more[3] = {8};
  ASSERT_TRUE(session->feed(more).ok());
  EXPECT_EQ(logits_of(*session, 2), resting);
  EXPECT_EQ(session->length(2), 1);
  more[2] = {9};
  more[0] = more[1] = more[3] = {};
  ASSERT_TRUE(session->feed(more).ok());
  for (const auto& [i, added] : {std::pair<int64_t, Tokens>{0, {5}}, {1, {6, 7}}, {2, {9}}, {3, {8}}}) {
    Tokens all = prompts[static_cast<size_t>(i)];
    all.insert(all.end(), added.begin(), added.end());
    expect_close(logits_of(*session, i), full_forward(model_, all), "continued " + std::to_string(i));
  }
}

TEST_P(CachedDecoding, TruncatedTokensAreForgotten) {
  const auto session = model_.session({.prefill_tokens = 5});
  const Tokens tokens = random_tokens(3, 12);
  feed_one(*session, tokens);
  session->truncate(0, 4);
  feed_one(*session, {1, 2, 3});
  Tokens expected = part(tokens, 0, 4);
  expected.insert(expected.end(), {1, 2, 3});
  expect_close(logits_of(*session), full_forward(model_, expected), "after truncation");
}

TEST_P(CachedDecoding, TheContextIsALimit) {
  const auto session = model_.session({.context = 10, .prefill_tokens = 4});
  feed_one(*session, random_tokens(4, 9));
  const Tokens two[] = {{1, 2}};
  const Status full = session->feed(two);
  EXPECT_EQ(full.code(), ErrorCode::kExhausted);
  EXPECT_THAT(full.message(), testing::HasSubstr("context of 10"));
  EXPECT_EQ(session->length(0), 9);
  feed_one(*session, {1});
  Tokens all = random_tokens(4, 9);
  all.push_back(1);
  expect_close(logits_of(*session), full_forward(model_, all), "the last token");
}

// The model's parameters as bf16, matrices turned over, in files that tests play. What they hold has no other value in
// fp32.
struct StoredModel {
  explicit StoredModel(RandomModel& model) {
    for (const ParameterSpec& spec : *parameter_table(model.config)) {
      const auto& entry = model.parameters.at(spec.name);
      std::vector<float> values(static_cast<size_t>(spec.shape.num_elements()));
      model.device->read(*entry.memory, 0, std::as_writable_bytes(std::span(values)));
      const bool is_vector = spec.kind == ParameterSpec::Kind::kVector;
      if (!is_vector) {
        for (float& value : values) value = to_float(to_bf16(value));
        model.device->write(*entry.memory, 0, std::as_bytes(std::span(values)));
        forms[spec.name] = {.dtype = DType::kBF16, .transposed = spec.kind == ParameterSpec::Kind::kMatrix};
      }
      add(*model.device, spec, values, is_vector ? StoredForm{} : forms[spec.name]);
    }
  }

  void add(Device& device, const ParameterSpec& spec, const std::vector<float>& values, const StoredForm& form) {
    const Shape shape = form.transposed ? spec.shape.transposed() : spec.shape;
    std::vector<std::byte> bytes(values.size() * static_cast<size_t>(dtype_bytes(form.dtype)));
    const View view{bytes.data(), shape, form.dtype};
    const int64_t cols = spec.shape[-1], rows = form.transposed ? spec.shape[-2] : 1;
    for (size_t i = 0; i < values.size(); ++i) {
      const auto at = static_cast<int64_t>(i), matrix = at / (rows * cols), row = at / cols % rows, col = at % cols;
      view.set(form.transposed ? (matrix * cols + col) * rows + row : at, static_cast<double>(values[i]));
    }
    num_bytes += static_cast<int64_t>(bytes.size());
    const auto read = [bytes = std::move(bytes)](int64_t offset, std::span<std::byte> into) {
      std::copy_n(bytes.begin() + offset, into.size(), into.begin());
      return ok_status();
    };
    CHECK(parameters.add_stored(device, spec.name, {shape, form.dtype}, {.read = read, .chunk_bytes = 300}).ok());
  }

  TensorSet parameters;
  StoredForms forms;
  int64_t num_bytes = 0;
};

TEST_P(CachedDecoding, StoredFormsHaveTheBitsOfFp32) {
  const StoredModel stored(model_);
  const Tokens tokens = random_tokens(5, 21);
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    const auto wide = model_.session({.compute = compute});
    auto narrow = DecodeSession::create(*model_.device, stored.parameters, model_.config,
                                        {.compute = compute, .stored = stored.forms});
    ASSERT_TRUE(narrow.ok()) << narrow.status().message();
    for (const Tokens& next : {part(tokens, 0, 11), part(tokens, 11, 9), part(tokens, 20, 1)}) {
      feed_one(*wide, next);
      feed_one(**narrow, next);
      EXPECT_EQ(logits_of(**narrow), logits_of(*wide)) << dtype_name(compute);
    }
  }
}

TEST_P(CachedDecoding, BitsDoNotDependOnHowManyTokensAreTakenAtOnce) {
  const Tokens tokens = random_tokens(6, 23);
  std::vector<float> first;
  for (const int64_t most : {1, 5, 8, 40}) {
    const auto session = model_.session({.compute = DType::kBF16, .prefill_tokens = most});
    feed_one(*session, tokens);
    if (first.empty()) first = logits_of(*session);
    EXPECT_EQ(logits_of(*session), first) << most;
  }
}

// A bf16 model takes its bytes once: the packed forms, and beside them what is not multiplied.
TEST(DecodeSession, AStoredModelIsHeldOnce) {
  ModelConfig config = random_model_config(Family::kLlama);
  config.width = 128;  // of whole panels: what they are filled up with does not count
  config.head_dim = 32;
  config.ffn_width = 256;
  config.vocab_size = 512;
  config.tie_embeddings = false;
  RandomModel model(config);
  const StoredModel stored(model);
  const auto session = DecodeSession::create(*model.device, stored.parameters, config,
                                             {.compute = DType::kBF16, .stored = stored.forms});
  ASSERT_TRUE(session.ok()) << session.status().message();
  const int64_t held = stored.parameters.held_bytes() + (*session)->decode_executable().packed_bytes();
  EXPECT_GE(held, stored.num_bytes);
  EXPECT_LE(held, stored.num_bytes + stored.num_bytes / 100);
}

TEST(DecodeSession, AFileThatCannotBeReadIsAnError) {
  RandomModel model(Family::kLlama);
  TensorSet parameters;
  for (const ParameterSpec& spec : *parameter_table(model.config)) {
    const auto read = [](int64_t, std::span<std::byte>) { return corrupt("a block's checksum is wrong"); };
    ASSERT_TRUE(parameters.add_stored(*model.device, spec.name, {spec.shape, DType::kF32}, {.read = read}).ok());
  }
  EXPECT_EQ(DecodeSession::create(*model.device, parameters, model.config, {}).status().code(), ErrorCode::kCorrupt);
}

std::string family_name(Family family) {
  const char* names[] = {"grok_1", "grok_2", "llama", "gpt_2"};
  return names[static_cast<int>(family)];
}

INSTANTIATE_TEST_SUITE_P(Families, CachedDecoding,
                         testing::Values(Family::kGrok1, Family::kGrok2, Family::kLlama, Family::kGpt2),
                         [](const auto& info) { return family_name(info.param); });

TEST(DecodeSession, RefusesWhatItCannotDo) {
  RandomModel model(Family::kLlama);
  EXPECT_THAT(DecodeSession::create(*model.device, model.parameters, model.config, {.context = 49}).status().message(),
              testing::HasSubstr("49"));
  const auto session = model.session();
  for (const int32_t token : {-1, 256}) {
    const Tokens bad[] = {{1, token}};
    EXPECT_EQ(session->feed(bad).code(), ErrorCode::kInvalid);
    EXPECT_EQ(session->length(0), 0);
  }
}

}  // namespace
}  // namespace colossus
