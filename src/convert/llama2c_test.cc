#include "convert/llama2c.h"

#include <gtest/gtest.h>

#include <cstring>

#include "convert/testing.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// dim 4, hidden_dim 6, n_layers 2, n_heads 2, n_kv_heads 1, vocab_size 3, seq_len 5: a head of 2.
constexpr std::array<int32_t, 7> kSizes = {4, 6, 2, 2, 1, 3, 5};
constexpr int64_t kFloatsOfLayers = 2 * (2 * 4 + 2 * 4 * 4 + 2 * 2 * 4 + 3 * 4 * 6);
constexpr uint32_t kMagic = 0x616b3432;  // "ak42"

// Numbers that say how many stand before them.
std::string numbers(int64_t count) {
  std::string bytes;
  for (int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<float>(i);
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  return bytes;
}

std::string header_of_version(int32_t version, bool shared) {
  std::string bytes(reinterpret_cast<const char*>(&kMagic), 4);
  bytes.append(reinterpret_cast<const char*>(&version), 4);
  bytes.append(reinterpret_cast<const char*>(kSizes.data()), sizeof(kSizes));
  bytes.push_back(shared ? 1 : 0);
  bytes.resize(256);
  return bytes;
}

float first_of(const SourceTensor& tensor) {
  float value = -1;
  CHECK(tensor.read(0, std::as_writable_bytes(std::span(&value, 1))).ok());
  return value;
}

class Llama2c : public testing::Test {
 protected:
  Result<OpenedModel> open(const std::string& bytes) {
    write_text(dir_ / "model.bin", bytes);
    return open_llama2c(local_files(), dir_ / "model.bin", "");
  }
  const TemporaryDirectory dir_;
};

TEST_F(Llama2c, Version1HasItsNormsFirst) {
  const auto model = open(header_of_version(1, false) + numbers(kFloatsOfLayers + 4 + 2 * 3 * 4));
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->config.head_dim, 2);
  EXPECT_FALSE(model->config.tie_embeddings);
  const auto& tensors = model->tensors;
  EXPECT_EQ(first_of(tensors.at("rms_att_weight.1")), 4);
  EXPECT_EQ(first_of(tensors.at("rms_ffn_weight.0")), 8);
  EXPECT_EQ(first_of(tensors.at("rms_final_weight")), 16);
  EXPECT_EQ(first_of(tensors.at("token_embedding_table")), 20);
  EXPECT_EQ(first_of(tensors.at("wq.0")), 32);
  EXPECT_EQ(first_of(tensors.at("wk.1")), 32 + 2 * 16 + 8);
  EXPECT_EQ(tensors.at("wk.1").shape, Shape({2, 4}));
  EXPECT_EQ(first_of(tensors.at("wcls")), static_cast<float>(kFloatsOfLayers + 4 + 3 * 4));
}

TEST_F(Llama2c, Version1TellsWhetherTheHeadIsTheTable) {
  const auto model = open(header_of_version(1, true) + numbers(kFloatsOfLayers + 4 + 3 * 4));
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_TRUE(model->config.tie_embeddings);
  EXPECT_FALSE(model->tensors.contains("wcls"));
}

TEST_F(Llama2c, FilesOfAnotherLengthAndOtherVersionsAreRefused) {
  const auto cut = open(header_of_version(1, false) + numbers(kFloatsOfLayers + 4 + 3 * 4));
  ASSERT_FALSE(cut.ok());
  EXPECT_THAT(cut.status().message(), AllOf(HasSubstr("model.bin"), HasSubstr("its header asks for"),
                                            HasSubstr("it was cut, or is no llama2.c model")));
  const auto quantized = open(header_of_version(2, false) + numbers(1000));
  ASSERT_FALSE(quantized.ok());
  EXPECT_THAT(quantized.status().message(), HasSubstr("version 2 of llama2.c's format; needed 0 or 1 (fp32)"));
  const auto short_header = open(header_of_version(1, false).substr(0, 38));
  ASSERT_FALSE(short_header.ok());
  EXPECT_THAT(short_header.status().message(), HasSubstr("model.bin"));
}

TEST_F(Llama2c, ATokenizerThatWasCutIsRefused) {
  write_text(dir_ / "tokenizer.bin", "");
  const auto model = open(header_of_version(1, true) + numbers(kFloatsOfLayers + 4 + 3 * 4));
  ASSERT_FALSE(model.ok());
  EXPECT_THAT(model.status().message(), HasSubstr("tokenizer.bin"));
}

}  // namespace
}  // namespace colossus
