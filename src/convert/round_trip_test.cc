// Import and export are one table read in two directions.

#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "convert/export_model.h"
#include "convert/import_model.h"
#include "convert/testing.h"
#include "io/config.h"

namespace colossus {
namespace {

using testing::HasSubstr;

std::vector<std::byte> bytes_in(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsEntry* entry = file.find(name);
  CHECK(entry != nullptr, name.c_str());
  std::vector<std::byte> bytes(static_cast<size_t>(entry->size_bytes));
  CHECK(file.read(*entry, 0, bytes).ok());
  return bytes;
}

std::string text_in(const std::string& path) {
  const auto text = read_file(local_files(), path);
  CHECK(text.ok(), text.status().message().c_str());
  return *text;
}

struct FamilyCase {
  const char* family;
  DType dtype;
};

class RoundTrip : public testing::TestWithParam<FamilyCase> {};

TEST_P(RoundTrip, GivesEveryTensorBackByteForByte) {
  const TemporaryDirectory dir;
  const ModelFamily& family = *find_family(GetParam().family);
  const ModelConfig model = small_model_of(family.name);
  const auto tensors = write_foreign_model(dir / "theirs", model, family, GetParam().dtype);
  write_text(dir / "theirs/generation_config.json", "{\"eos_token_id\": 2}");
  write_text(dir / "theirs/chat_template.jinja", "{{ messages }}");
  write_text(dir / "theirs/tokenizer.json", "{\"of\": \"a kind that is not read\"}");

  const auto imported = import_model(local_files(), dir / "theirs", dir / "ours");
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  EXPECT_EQ(print_config(imported->config), print_config(model));
  const auto exported = export_hf(local_files(), dir / "ours", dir / "again");
  ASSERT_TRUE(exported.ok()) << exported.status().message();

  const auto file = SafetensorsFile::open(local_files(), dir / "again/model.safetensors");
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_EQ(file->tensors().size(), tensors.size());
  for (const ForeignTensor& tensor : tensors) {
    EXPECT_EQ(file->find(tensor.spec.name)->dtype, tensor.spec.dtype) << tensor.spec.name;
    EXPECT_EQ(file->find(tensor.spec.name)->shape, tensor.spec.shape) << tensor.spec.name;
    EXPECT_EQ(bytes_in(*file, tensor.spec.name), tensor.bytes) << tensor.spec.name;
  }
  for (const char* name : {"config.json", "generation_config.json", "chat_template.jinja", "tokenizer.json"})
    EXPECT_EQ(text_in(dir / (std::string("again/") + name)), text_in(dir / (std::string("theirs/") + name))) << name;
}

TEST_P(RoundTrip, ParametersAreReadWhereTheyLie) {
  const TemporaryDirectory dir;
  const ModelFamily& family = *find_family(GetParam().family);
  write_foreign_model(dir / "theirs", small_model_of(family.name), family, GetParam().dtype);
  write_text(dir / "theirs/tokenizer.json", "{\"of\": \"a kind that is not read\"}");
  const auto model = open_import(local_files(), dir / "theirs", "");
  ASSERT_TRUE(model.ok()) << model.status().message();
  expect_stored_as_imported(*model);
}

std::vector<FamilyCase> all_cases() {
  std::vector<FamilyCase> cases;
  for (const ModelFamily& family : hf_families())
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) cases.push_back({family.name.data(), dtype});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Families, RoundTrip, testing::ValuesIn(all_cases()), [](const auto& info) {
  std::string name = std::string(info.param.family) + "_" + std::string(dtype_name(info.param.dtype));
  std::ranges::replace(name, '-', '_');
  return name;
});

// What a table does is only as right as its transpositions: single elements, by hand.
TEST(Import, PutsElementsWhereTheProgramReadsThem) {
  const TemporaryDirectory dir;
  const ModelConfig model = small_model_of("mixtral");  // C 12, F 10, E 3
  write_foreign_model(dir / "theirs", model, *find_family("mixtral"), DType::kF32);
  ASSERT_TRUE(import_model(local_files(), dir / "theirs", dir / "ours").ok());
  const auto theirs = SafetensorsFile::open(local_files(), dir / "theirs/model.safetensors");
  const auto ours = SafetensorsFile::open(local_files(), dir / "ours/model.safetensors");
  ASSERT_TRUE(theirs.ok() && ours.ok());
  const auto bits = [](const std::vector<std::byte>& bytes, size_t at) {
    uint32_t value = 0;
    std::memcpy(&value, bytes.data() + 4 * at, 4);
    return value;
  };
  // Ours (E, F, C), theirs of an expert (C, F).
  const auto down = bytes_in(*ours, "layers.1.moe.down");
  const auto w2 = bytes_in(*theirs, "model.layers.1.block_sparse_moe.experts.2.w2.weight");
  EXPECT_EQ(bits(down, (2 * 10 + 7) * 12 + 5), bits(w2, 5 * 10 + 7));
  // Ours (C, K D), theirs (K D, C).
  const auto k = bytes_in(*ours, "layers.0.attn.k");
  const auto k_proj = bytes_in(*theirs, "model.layers.0.self_attn.k_proj.weight");
  EXPECT_EQ(bits(k, 3 * 8 + 6), bits(k_proj, 6 * 12 + 3));
}

TEST(Import, SplitsFusedColumns) {
  const TemporaryDirectory dir;
  const ModelConfig model = small_model_of("gpt2");  // C 12
  write_foreign_model(dir / "theirs", model, *find_family("gpt2"), DType::kF16);
  ASSERT_TRUE(import_model(local_files(), dir / "theirs", dir / "ours").ok());
  const auto theirs = SafetensorsFile::open(local_files(), dir / "theirs/model.safetensors");
  const auto ours = SafetensorsFile::open(local_files(), dir / "ours/model.safetensors");
  ASSERT_TRUE(theirs.ok() && ours.ok());
  const auto fused = bytes_in(*theirs, "transformer.h.1.attn.c_attn.weight"), v = bytes_in(*ours, "layers.1.attn.v");
  for (const size_t byte : {0, 1}) EXPECT_EQ(v[(5 * 12 + 7) * 2 + byte], fused[(5 * 36 + 24 + 7) * 2 + byte]);
}

TEST(Import, ReadsFilesOfTheBareModel) {
  const TemporaryDirectory dir;
  const ModelConfig model = small_model_of("gpt2");
  auto tensors = write_foreign_model(dir / "theirs", model, *find_family("gpt2"), DType::kF32);
  for (ForeignTensor& tensor : tensors) tensor.spec.name.erase(0, std::string("transformer.").size());
  tensors.push_back({{"h.0.attn.bias", "F32", {1, 1, 2, 2}}, std::vector<std::byte>(16)});  // a mask, no parameter
  write_safetensors(dir / "theirs/model.safetensors", tensors);
  ASSERT_TRUE(import_model(local_files(), dir / "theirs", dir / "ours").ok());
  ASSERT_TRUE(export_hf(local_files(), dir / "ours", dir / "again").ok());
  const auto file = SafetensorsFile::open(local_files(), dir / "again/model.safetensors");
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(bytes_in(*file, "h.1.mlp.c_fc.weight"), tensors[0].spec.name == "h.1.mlp.c_fc.weight"
                                                        ? tensors[0].bytes
                                                        : bytes_of("transformer.h.1.mlp.c_fc.weight", 12 * 20 * 4));
}

TEST(Export, RefusesWhatTheFormatCannotSay) {
  const TemporaryDirectory dir;
  ModelConfig model = small_model_of("mistral");
  write_foreign_model(dir / "theirs", model, *find_family("mistral"), DType::kF32);
  ASSERT_TRUE(import_model(local_files(), dir / "theirs", dir / "ours").ok());
  const auto exported = export_hf(local_files(), dir / "ours", dir / "again", {.family = "llama"});
  ASSERT_FALSE(exported.ok());
  EXPECT_THAT(exported.status().message(), HasSubstr("window"));
  EXPECT_FALSE(local_files().stat(dir / "again").ok());
}

// Weights times scales, rounded once, in the layout of xAI's release.
TEST(Import, MultipliesInt8WeightsByTheirScales) {
  const TemporaryDirectory dir;
  const ModelConfig model = small_model_of("grok-1");  // C 12, F 10, E 3
  auto tensors = foreign_tensors(model, grok1_release(), DType::kF32);
  const std::string name = "transformer/decoder_layer_1/moe/linear_1/w";  // (E, F, C)
  std::erase_if(tensors, [&](const ForeignTensor& t) { return t.spec.name == name; });
  std::vector<std::byte> weights(3 * 10 * 12);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<std::byte>(i % 251);
  std::vector<float> scales(3 * 2 * 12);  // one for five rows of a column
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = 0.01F * static_cast<float>(i + 1);
  const auto scale_bytes = std::as_bytes(std::span(scales));
  tensors.push_back({{name + ".weight", "I8", {3, 10, 12}}, weights});
  tensors.push_back({{name + ".scales", "F32", {3, 2, 12}}, {scale_bytes.begin(), scale_bytes.end()}});
  ASSERT_TRUE(local_files().make_directories(dir / "theirs").ok());
  write_text(dir / "theirs/config.json", write_hf_config(model, family_of(model), "float32").dump());
  write_safetensors(dir / "theirs/model.safetensors", tensors);
  const auto imported = import_model(local_files(), dir / "theirs", dir / "ours");
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  EXPECT_EQ(imported->family, "grok-1-release");
  const auto ours = SafetensorsFile::open(local_files(), dir / "ours/model.safetensors");
  ASSERT_TRUE(ours.ok());
  const auto down = bytes_in(*ours, "layers.1.moe.down");
  for (const auto& [e, row, col] : {std::tuple<size_t, size_t, size_t>{0, 0, 0}, {1, 4, 11}, {2, 5, 3}, {2, 9, 11}}) {
    float value = 0;
    const size_t at = (e * 10 + row) * 12 + col;
    std::memcpy(&value, down.data() + 4 * at, 4);
    EXPECT_EQ(value, static_cast<float>(static_cast<int8_t>(weights[at])) * scales[(e * 2 + row / 5) * 12 + col]);
  }
}

}  // namespace
}  // namespace colossus
