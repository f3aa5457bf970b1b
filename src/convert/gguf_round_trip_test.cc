// What goes out as GGUF comes back: numbers, configurations, tokenizers.

#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "convert/export_gguf.h"
#include "convert/gguf_model.h"
#include "convert/gguf_testing.h"
#include "convert/import_model.h"
#include "convert/inspect.h"
#include "io/config.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::HasSubstr;

float number_at(const std::byte* at, DType dtype) {
  if (dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, at, 4);
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, at, 2);
  return dtype == DType::kF16 ? to_float(Float16{bits}) : to_float(BFloat16{bits});
}

// Every tensor of a checkpoint as fp32, bit by bit.
std::map<std::string, std::vector<uint32_t>> numbers_of(const std::string& path) {
  const auto checkpoint = Checkpoint::open(local_files(), path);
  CHECK(checkpoint.ok(), checkpoint.status().message().c_str());
  std::map<std::string, std::vector<uint32_t>> tensors;
  for (const Checkpoint::Entry& entry : checkpoint->tensors()) {
    std::vector<std::byte> bytes(static_cast<size_t>(entry.num_bytes()));
    CHECK(checkpoint->read(entry, bytes).ok());
    auto& numbers = tensors[entry.name];
    const auto size = static_cast<size_t>(dtype_bytes(entry.dtype));
    for (size_t i = 0; i < bytes.size(); i += size)
      numbers.push_back(std::bit_cast<uint32_t>(number_at(bytes.data() + i, entry.dtype)));
  }
  return tensors;
}

std::string config_of(const std::string& path) { return *read_file(local_files(), path + "/model.toml"); }

class GgufRoundTrip : public testing::TestWithParam<std::string> {
 protected:
  // A model of the family as a checkpoint at ours.
  void import_foreign(DType dtype) {
    ModelConfig model = small_model_of(GetParam());
    if (model.norm_eps == 1e-6) model.norm_eps = 1e-5;
    write_foreign_model(dir_ / "theirs", model, *find_family(GetParam()), dtype);
    const auto imported = import_model(local_files(), dir_ / "theirs", dir_ / "ours");
    CHECK(imported.ok(), imported.status().message().c_str());
  }
  ExportReport export_as(const std::string& name, GgufExportType type) {
    const auto exported = export_gguf(local_files(), dir_ / "ours", dir_ / name, {.type = type, .progress = {}});
    CHECK(exported.ok(), exported.status().message().c_str());
    return *exported;
  }
  void import_back(const std::string& name, const std::string& to) {
    const auto imported = import_model(local_files(), dir_ / name, dir_ / to);
    CHECK(imported.ok(), imported.status().message().c_str());
    EXPECT_EQ(imported->format, "gguf");
    EXPECT_EQ(imported->family, GetParam());
  }

  const TemporaryDirectory dir_;
};

INSTANTIATE_TEST_SUITE_P(Families, GgufRoundTrip,
                         testing::Values("gpt2", "llama", "mistral", "mixtral", "qwen3", "qwen3_moe", "grok-1",
                                         "grok-2"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST_P(GgufRoundTrip, EveryNumberAndTheConfigurationComeBack) {
  import_foreign(DType::kF32);
  export_as("model.gguf", GgufExportType::kAsStored);
  import_back("model.gguf", "again");
  EXPECT_EQ(numbers_of(dir_ / "ours"), numbers_of(dir_ / "again"));
  EXPECT_EQ(config_of(dir_ / "ours"), config_of(dir_ / "again"));
}

TEST_P(GgufRoundTrip, SixteenBitsComeBack) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (const char* name : {"theirs", "ours", "again", "model.gguf"})
      CHECK(local_files().remove_all(dir_ / name).ok());
    import_foreign(dtype);
    export_as("model.gguf", GgufExportType::kAsStored);
    import_back("model.gguf", "again");
    EXPECT_EQ(numbers_of(dir_ / "ours"), numbers_of(dir_ / "again"));
  }
}

TEST_P(GgufRoundTrip, ParametersAreReadWhereTheyLie) {
  import_foreign(DType::kBF16);
  for (const GgufExportType type : {GgufExportType::kF32, GgufExportType::kBF16}) {
    export_as("model.gguf", type);
    const auto model = open_import(local_files(), dir_ / "model.gguf", "");
    ASSERT_TRUE(model.ok()) << model.status().message();
    expect_stored_as_imported(*model);
    ASSERT_TRUE(local_files().remove_all(dir_ / "model.gguf").ok());
  }
}

TEST(GgufExport, TurnsNeighboursForLlamaAlone) {
  for (const std::string family : {"llama", "qwen3"}) {
    const TemporaryDirectory dir;
    write_foreign_model(dir / "theirs", small_model_of(family), *find_family(family), DType::kF32);
    ASSERT_TRUE(import_model(local_files(), dir / "theirs", dir / "ours").ok());
    ASSERT_TRUE(export_gguf(local_files(), dir / "ours", dir / "model.gguf").ok());
    const auto theirs = SafetensorsFile::open(local_files(), dir / "theirs/model.safetensors");
    const auto made = GgufFile::open(local_files(), dir / "model.gguf");
    ASSERT_TRUE(theirs.ok() && made.ok());
    const auto tensor = std::ranges::find(made->tensors(), "blk.1.attn_k.weight", &GgufTensor::name);
    ASSERT_NE(tensor, made->tensors().end());
    EXPECT_EQ(tensor->shape, (Shape{8, 12}));
    const SafetensorsEntry& k_proj = *theirs->find("model.layers.1.self_attn.k_proj.weight");
    // Heads of 4: row 2 of the second head is the second half's first, and comes behind the first half's first.
    const int64_t row_bytes = 12 * 4;
    std::vector<std::byte> got(row_bytes), wanted(row_bytes);
    ASSERT_TRUE(made->read(*tensor, (family == "llama" ? 5 : 6) * row_bytes, got).ok());
    ASSERT_TRUE(theirs->read(k_proj, 6 * row_bytes, wanted).ok());
    EXPECT_EQ(got, wanted) << family;
  }
}

TEST(GgufExport, NormsAndRoutersStayFp32) {
  const TemporaryDirectory dir;
  ModelConfig model = small_model_of("mixtral");
  model.width = 32;
  model.head_dim = 8;
  write_small_gguf(dir / "wide.gguf", small_gguf(model));
  ASSERT_TRUE(import_model(local_files(), dir / "wide.gguf", dir / "ours").ok());
  const auto report = export_gguf(local_files(), dir / "ours", dir / "model.gguf", {.type = GgufExportType::kQ8_0});
  ASSERT_TRUE(report.ok()) << report.status().message();
  const auto made = GgufFile::open(local_files(), dir / "model.gguf");
  ASSERT_TRUE(made.ok()) << made.status().message();
  EXPECT_EQ(made->num_bytes(), report->num_bytes);
  EXPECT_EQ(made->metadata().at("general.file_type").whole(), 7);
  std::map<std::string, std::string> types;
  for (const GgufTensor& tensor : made->tensors()) types[tensor.name] = tensor.type_name();
  EXPECT_EQ(types.at("blk.0.attn_norm.weight"), "F32");
  EXPECT_EQ(types.at("blk.0.ffn_gate_inp.weight"), "F32");
  EXPECT_EQ(types.at("blk.0.ffn_gate_exps.weight"), "Q8_0");
  EXPECT_EQ(types.at("blk.0.ffn_down_exps.weight"), "BF16");  // rows of 10
  EXPECT_EQ(types.at("token_embd.weight"), "Q8_0");
  // What comes back is within half a step of the scale.
  ASSERT_TRUE(import_model(local_files(), dir / "model.gguf", dir / "again").ok());
  const auto before = numbers_of(dir / "ours"), after = numbers_of(dir / "again");
  for (const auto& [name, numbers] : before)
    for (size_t i = 0; i < numbers.size(); ++i)
      ASSERT_NEAR(std::bit_cast<float>(numbers[i]), std::bit_cast<float>(after.at(name)[i]), 2.0 / 127 / 2 + 0.002)
          << name;
}

TEST(GgufImport, ReadsExpertsOneByOne) {
  const TemporaryDirectory dir;
  const ModelConfig model = small_model_of("mixtral");
  const GgufToWrite merged = small_gguf(model);
  GgufToWrite split{.metadata = merged.metadata, .lists = {}, .tensors = {}};
  for (const GgufTensorToWrite& tensor : merged.tensors) {
    const size_t at = tensor.name.find("_exps");
    if (at == std::string::npos) {
      split.tensors.push_back(tensor);
      continue;
    }
    for (int64_t e = 0; e < tensor.shape[0]; ++e) {
      GgufTensorToWrite one = tensor;
      one.name.replace(at, 5, fmt::format(".{}", e));
      one.shape = {tensor.shape[1], tensor.shape[2]};
      one.read = [tensor, first = e * one.num_bytes()](int64_t offset, std::span<std::byte> into) {
        return tensor.read(first + offset, into);
      };
      split.tensors.push_back(one);
    }
  }
  write_small_gguf(dir / "merged.gguf", merged);
  write_small_gguf(dir / "split.gguf", split);
  for (const std::string name : {"merged", "split"}) {
    const auto imported = import_model(local_files(), dir / (name + ".gguf"), dir / name);
    ASSERT_TRUE(imported.ok()) << imported.status().message();
  }
  EXPECT_EQ(numbers_of(dir / "merged"), numbers_of(dir / "split"));
}

TEST(GgufImport, ReadsFilesInParts) {
  const TemporaryDirectory dir;
  const GgufToWrite whole = small_gguf(small_model_of("llama"));
  write_small_gguf(dir / "whole.gguf", whole);
  for (uint32_t part = 0; part < 3; ++part) {
    GgufToWrite file;
    if (part == 0) file.metadata = whole.metadata;
    file.metadata["split.no"] = gguf_u32(part);
    file.metadata["split.count"] = gguf_u32(3);
    file.metadata["split.tensors.count"] = gguf_u32(static_cast<int64_t>(whole.tensors.size()));
    for (size_t i = part; i < whole.tensors.size(); i += 3) file.tensors.push_back(whole.tensors[i]);
    write_small_gguf(dir / fmt::format("m-{:05}-of-00003.gguf", part + 1), file);
  }
  ASSERT_TRUE(import_model(local_files(), dir / "whole.gguf", dir / "one").ok());
  const auto imported = import_model(local_files(), dir / "m-00001-of-00003.gguf", dir / "three");
  ASSERT_TRUE(imported.ok()) << imported.status().message();
  EXPECT_EQ(numbers_of(dir / "one"), numbers_of(dir / "three"));
  const auto inspected = inspect_path(local_files(), dir / "m-00001-of-00003.gguf", {.checksums = true});
  ASSERT_TRUE(inspected.ok());
  EXPECT_TRUE(inspected->faults.empty()) << inspection_text(*inspected);
  EXPECT_EQ(inspected->tensors.size(), whole.tensors.size());
}

TEST(GgufImport, TakesTheStretchOfTheRotaryEmbedding) {
  struct Stretch {
    double factor, low, high;
    int64_t tokens;
  };
  for (const Stretch& stretch : {Stretch{8, 1, 4, 8192}, {32, 1, 4, 8192}, {4, 1, 4, 16}, {8, 1.5, 3, 700}}) {
    const TemporaryDirectory dir;
    ModelConfig model = small_model_of("llama");
    model.head_dim = 64;
    model.rope_theta = 500000;
    model.rope_factor = stretch.factor;
    model.rope_low_turns = stretch.low;
    model.rope_high_turns = stretch.high;
    model.rope_original_context = stretch.tokens;
    write_foreign_model(dir / "theirs", model, *find_family("llama"), DType::kF32);
    ASSERT_TRUE(import_model(local_files(), dir / "theirs", dir / "ours").ok());
    const auto exported = export_gguf(local_files(), dir / "ours", dir / "model.gguf");
    ASSERT_TRUE(exported.ok()) << exported.status().message();
    const auto imported = import_model(local_files(), dir / "model.gguf", dir / "again");
    ASSERT_TRUE(imported.ok()) << imported.status().message();
    if (stretch.low == 1) {
      EXPECT_EQ(config_of(dir / "ours"), config_of(dir / "again"));
    }
    // Another way to say the same: the file that it makes holds the same table.
    ASSERT_TRUE(export_gguf(local_files(), dir / "again", dir / "second.gguf").ok());
    const auto first = GgufFile::open(local_files(), dir / "model.gguf");
    const auto second = GgufFile::open(local_files(), dir / "second.gguf");
    ASSERT_TRUE(first.ok() && second.ok());
    std::vector<float> a(32), b(32);
    ASSERT_EQ(first->tensors().back().name, "rope_freqs.weight");
    ASSERT_TRUE(first->read(first->tensors().back(), 0, std::as_writable_bytes(std::span(a))).ok());
    ASSERT_TRUE(second->read(second->tensors().back(), 0, std::as_writable_bytes(std::span(b))).ok());
    for (size_t i = 0; i < 32; ++i) EXPECT_NEAR(a[i] / b[i], 1, 2e-5) << i;
    if (stretch.tokens > 16) {
      EXPECT_EQ(a.front(), 1);
    }
    EXPECT_NEAR(a.back(), stretch.factor, 1e-6);
  }
}

// Old files of Grok-1 lack its numbers; llama.cpp has them built in.
TEST(GgufImport, FillsInTheNumbersOfGrok1) {
  GgufMetadata metadata = gguf_config(small_model_of("grok-1"));
  for (const char* key : {"embedding_scale", "logit_scale", "attn_logit_softcapping", "expert_feed_forward_length"})
    metadata.erase(fmt::format("grok.{}", key));
  metadata["grok.router_logit_softcapping"] = gguf_f32(30);
  const auto read = read_gguf_config(metadata, {{"token_embd.weight", {19, 12}}}, {});
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->config.family, Family::kGrok1);
  EXPECT_EQ(read->config.embedding_scale, 78.38367176906169);
  EXPECT_EQ(read->config.attn_softcap, 30);
  EXPECT_EQ(read->config.router_softcap, 0);
  EXPECT_EQ(read->config.expert_width, 10);
  ASSERT_EQ(read->notes.size(), 1U);
  EXPECT_THAT(read->notes[0], HasSubstr("router"));
}

TEST(GgufExport, SaysWhatLlamaCppDoesInAnotherWay) {
  EXPECT_TRUE(gguf_differences(small_model_of("llama")).empty());
  EXPECT_TRUE(gguf_differences(small_model_of("grok-1")).empty());
  EXPECT_THAT(gguf_differences(small_model_of("mistral")), testing::ElementsAre(HasSubstr("window")));
  EXPECT_THAT(gguf_differences(small_model_of("grok-2")),
              testing::ElementsAre(HasSubstr("sum to 1"), HasSubstr("router"), HasSubstr("sharpen")));
  ModelConfig model = small_model_of("qwen3_moe");
  EXPECT_TRUE(gguf_differences(model).empty());
  model.renormalize_gates = false;
  EXPECT_THAT(gguf_differences(model), testing::ElementsAre(HasSubstr("sum to 1")));
}

TEST(GgufExport, RefusesWhatTheArchitectureHasNoPlaceFor) {
  const TemporaryDirectory dir;
  ModelConfig model = small_model_of("llama");
  model.activation = ActivationKind::kRelu2;
  write_foreign_model(dir / "theirs", model, *find_family("llama"), DType::kF32);
  ASSERT_TRUE(import_model(local_files(), dir / "theirs", dir / "ours").ok());
  const auto exported = export_gguf(local_files(), dir / "ours", dir / "model.gguf");
  ASSERT_FALSE(exported.ok());
  EXPECT_THAT(exported.status().message(), AllOf(HasSubstr("activation"), HasSubstr("architecture llama")));
  EXPECT_FALSE(local_files().stat(dir / "model.gguf").ok());
  const auto present = export_gguf(local_files(), dir / "ours", dir / "theirs");
  ASSERT_FALSE(present.ok());
  EXPECT_THAT(present.status().message(), HasSubstr("is there already"));
}

TEST(GgufExport, RefusesNumbersThatBlocksCannotHold) {
  const TemporaryDirectory dir;
  ModelConfig model = small_model_of("llama");
  model.ffn_width = 32;
  write_foreign_model(dir / "theirs", model, *find_family("llama"), DType::kF32);  // with NaN among them
  ASSERT_TRUE(import_model(local_files(), dir / "theirs", dir / "ours").ok());
  const auto exported =
      export_gguf(local_files(), dir / "ours", dir / "model.gguf", {.type = GgufExportType::kQ8_0, .progress = {}});
  ASSERT_FALSE(exported.ok());
  EXPECT_THAT(exported.status().message(), AllOf(HasSubstr("blk.0.ffn_down.weight"), HasSubstr("export it as f32")));
}

class GgufResume : public testing::Test {
 protected:
  GgufResume() {
    write_foreign_model(dir_ / "theirs", small_model_of("mixtral"), *find_family("mixtral"), DType::kF32);
    CHECK(import_model(local_files(), dir_ / "theirs", dir_ / "ours").ok());
    CHECK(local_files().make_directories(dir_ / "whole").ok());
    CHECK(export_gguf(local_files(), dir_ / "ours", dir_ / "whole/model.gguf").ok());
  }
  void stop_in_the_middle() const {
    const auto stopped = export_gguf(
        local_files(), dir_ / "ours", path(),
        {.type = GgufExportType::kAsStored, .progress = [](int64_t done, int64_t all) { return done < all / 2; }});
    ASSERT_FALSE(stopped.ok());
    EXPECT_EQ(stopped.status().code(), ErrorCode::kInterrupted);
    EXPECT_FALSE(local_files().stat(path()).ok());
    EXPECT_GT(local_files().stat(path() + ".part")->size_bytes, 1000);
  }
  std::string finish() const {
    const auto done = export_gguf(local_files(), dir_ / "ours", path());
    CHECK(done.ok(), done.status().message().c_str());
    EXPECT_FALSE(local_files().stat(path() + ".part").ok());
    EXPECT_FALSE(local_files().stat(path() + ".part.done").ok());
    return *read_file(local_files(), path());
  }
  std::string path() const { return dir_ / "model.gguf"; }
  std::string whole() const { return *read_file(local_files(), dir_ / "whole/model.gguf"); }

  const TemporaryDirectory dir_;
};

TEST_F(GgufResume, AnExportGoesOnWhereItWas) {
  stop_in_the_middle();
  EXPECT_TRUE(finish() == whole());
}

// What was changed behind its back in what was done stays: nobody wrote it a second time.
TEST_F(GgufResume, WhatIsDoneIsNotDoneAgain) {
  stop_in_the_middle();
  std::string part = *read_file(local_files(), path() + ".part");
  part[part.size() - 64] = static_cast<char>(part[part.size() - 64] ^ 1);
  write_text(path() + ".part", part);
  const std::string done = finish(), wanted = whole();
  ASSERT_EQ(done.size(), wanted.size());
  EXPECT_EQ(done.substr(0, part.size()), part);
  EXPECT_TRUE(done.substr(part.size()) == wanted.substr(part.size()));
}

// Bytes that were written and never synced can be anything after a power cut.
TEST_F(GgufResume, BytesBehindTheRecordAreLookedAt) {
  stop_in_the_middle();
  const std::string part = *read_file(local_files(), path() + ".part"), wanted = whole();
  write_text(path() + ".part", part + wanted.substr(part.size(), 100));
  EXPECT_TRUE(finish() == wanted);
  CHECK(local_files().remove_all(path()).ok());
  stop_in_the_middle();
  write_text(path() + ".part", part + std::string(100, '\x7F'));
  EXPECT_TRUE(finish() == wanted);
  CHECK(local_files().remove_all(path()).ok());
  stop_in_the_middle();
  write_text(path() + ".part", wanted + "and more");
  EXPECT_TRUE(finish() == wanted);
}

TEST_F(GgufResume, AnotherTypeBeginsAnew) {
  stop_in_the_middle();
  ASSERT_TRUE(export_gguf(local_files(), dir_ / "ours", path(), {.type = GgufExportType::kBF16, .progress = {}}).ok());
  const auto file = GgufFile::open(local_files(), path());
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->tensors().front().type, GgmlType::kBF16);
}

}  // namespace
}  // namespace colossus
