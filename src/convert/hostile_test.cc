// Files that are cut, contradict themselves, or were made to do harm: each is refused before memory is taken, with the
// place and what to do.

#include <gtest/gtest.h>

#include "convert/import_model.h"
#include "convert/inspect.h"
#include "convert/testing.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class Hostile : public testing::Test {
 protected:
  Hostile() { tensors_ = write_foreign_model(theirs(), model_, *find_family("llama"), DType::kF32); }

  std::string theirs() const { return dir_ / "theirs"; }
  std::string place(const std::string& name) const { return theirs() + "/" + name; }
  std::string refusal() {
    const auto imported = import_model(local_files(), theirs(), dir_ / "ours");
    if (imported.ok()) return "it was accepted";
    EXPECT_FALSE(local_files().stat(dir_ / "ours").ok());
    return imported.status().message();
  }
  // A file with this JSON as its header and so many bytes behind it.
  void write_raw(const std::string& name, const std::string& header, size_t num_bytes) const {
    std::string bytes;
    for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(header.size() >> (8 * i)));
    write_text(place(name), bytes + header + std::string(num_bytes, '\0'));
  }
  void set_config(const std::string& key, const nlohmann::json& value) {
    nlohmann::json config = write_hf_config(model_, family_of(model_), "float32");
    config[key] = value;
    write_text(place("config.json"), config.dump());
  }
  void write_index(const std::string& weight_map) const {
    write_text(place("model.safetensors.index.json"), "{\"weight_map\": " + weight_map + "}");
  }

  const TemporaryDirectory dir_;
  const ModelConfig model_ = small_model_of("llama");
  std::vector<ForeignTensor> tensors_;
};

TEST_F(Hostile, OverlappingTensors) {
  write_raw(
      "model.safetensors",
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
      12);
  EXPECT_THAT(refusal(),
              AllOf(HasSubstr("model.safetensors"), HasSubstr("\"b\" starts at byte 4"), HasSubstr("inside")));
}

TEST_F(Hostile, HolesBetweenTensors) {
  write_raw(
      "model.safetensors",
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}})",
      20);
  EXPECT_THAT(refusal(), HasSubstr("after a gap"));
}

TEST_F(Hostile, ShapeWhoseBytesOverflow) {
  write_raw("model.safetensors", R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0);
  EXPECT_THAT(refusal(), HasSubstr("more elements than any file"));
}

TEST_F(Hostile, CountsBeyondTheFile) {
  write_raw("model.safetensors", R"({"a":{"dtype":"F32","shape":[1073741824],"data_offsets":[0,4294967296]}})", 16);
  EXPECT_THAT(refusal(), AllOf(HasSubstr("the file has only 16"), HasSubstr("copy it again")));
}

TEST_F(Hostile, HeaderBeyondAHundredMegabytes) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(uint64_t{100'000'001} >> (8 * i)));
  write_text(place("model.safetensors"), bytes + "{}");
  EXPECT_THAT(refusal(), HasSubstr("100000001"));
}

TEST_F(Hostile, TensorTwiceInAHeader) {
  write_raw(
      "model.safetensors",
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
      8);
  EXPECT_THAT(refusal(), HasSubstr("\"a\" stands twice"));
}

TEST_F(Hostile, TensorInTwoFiles) {
  CHECK(local_files().remove_all(place("model.safetensors")).ok());
  write_safetensors(place("one.safetensors"), tensors_);
  write_safetensors(place("two.safetensors"), {tensors_.front()});
  EXPECT_THAT(refusal(),
              AllOf(HasSubstr("one.safetensors"), HasSubstr("two.safetensors"), HasSubstr(tensors_[0].spec.name)));
}

TEST_F(Hostile, ShardsOutsideOfTheDirectory) {
  for (const char* name : {"../x.safetensors", "/etc/x.safetensors", "a/../../x.safetensors", "..", "", "x.bin"}) {
    write_index("{\"a\": \"" + std::string(name) + "\"}");
    EXPECT_THAT(refusal(), AllOf(HasSubstr("index.json"), HasSubstr("in the same directory"))) << name;
  }
  write_index("{\"a\": 7}");
  EXPECT_THAT(refusal(), HasSubstr("in the same directory"));
}

TEST_F(Hostile, IndexThatIsNotOfTheseFiles) {
  write_index("{\"absent\": \"model.safetensors\"}");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("\"absent\""), HasSubstr("where it is not")));
  write_index("{\"" + tensors_.front().spec.name + "\": \"model.safetensors\"}");
  EXPECT_THAT(refusal(), HasSubstr("does not name"));
  write_index("{\"a\": \"missing.safetensors\"}");
  EXPECT_THAT(refusal(), HasSubstr("missing.safetensors"));
}

TEST_F(Hostile, KeyTwiceInAnObject) {
  write_text(place("config.json"), R"({"model_type": "llama", "hidden_size": 12, "hidden_size": 13})");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("config.json"), HasSubstr("\"hidden_size\" stands twice")));
  write_index(R"({"a": "model.safetensors", "a": "model.safetensors"})");
  EXPECT_THAT(refusal(), HasSubstr("\"a\" stands twice"));
}

TEST_F(Hostile, NestingBeyondAHundredAndTwentyEight) {
  const std::string deep = "{\"model_type\":" + std::string(128, '[') + std::string(128, ']') + "}";
  write_text(place("config.json"), deep);
  EXPECT_THAT(refusal(), HasSubstr("more than 128 deep"));
  write_text(place("config.json"), std::string(10'000'000, '['));
  EXPECT_THAT(refusal(), HasSubstr("more than 128 deep"));
}

TEST_F(Hostile, JsonThatWasCut) {
  write_text(place("config.json"), R"({"model_type": "lla)");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("not JSON"), HasSubstr("line 1"), HasSubstr("missing closing quote")));
}

TEST_F(Hostile, NumbersThatNoNetworkHas) {
  for (const nlohmann::json& value : {nlohmann::json(-1), nlohmann::json(1e300), nlohmann::json("12"),
                                      nlohmann::json(9223372036854775807), nlohmann::json(1.5)}) {
    set_config("hidden_size", value);
    EXPECT_THAT(refusal(), AllOf(HasSubstr("hidden_size"), HasSubstr("whole number"))) << value;
  }
  set_config("num_attention_heads", 0);
  EXPECT_THAT(refusal(), HasSubstr("num_attention_heads"));
  set_config("num_hidden_layers", 16000000);
  EXPECT_THAT(refusal(), HasSubstr("num_layers"));
}

TEST_F(Hostile, KeysOfAnotherKind) {
  const auto said = [&](const std::string& key, const nlohmann::json& value) {
    set_config(key, value);
    return refusal();
  };
  EXPECT_THAT(said("tie_word_embeddings", "yes"), AllOf(HasSubstr("tie_word_embeddings"), HasSubstr("true or false")));
  EXPECT_THAT(said("hidden_act", 3), AllOf(HasSubstr("hidden_act"), HasSubstr("needed a string")));
  EXPECT_THAT(said("rms_norm_eps", "small"), AllOf(HasSubstr("rms_norm_eps"), HasSubstr("needed a number")));
}

TEST_F(Hostile, TensorsOfAnotherNetwork) {
  set_config("intermediate_size", 21);
  EXPECT_THAT(refusal(), AllOf(HasSubstr("mlp."), HasSubstr("[21, 12]")));
  set_config("num_hidden_layers", 3);
  EXPECT_THAT(refusal(), AllOf(HasSubstr("lack model.layers.2."), HasSubstr("more")));
  set_config("num_hidden_layers", 1);
  EXPECT_THAT(refusal(), AllOf(HasSubstr("no place for"), HasSubstr("model.layers.1.")));
}

TEST_F(Hostile, WhatTheNetworkCannotDoIsNamed) {
  const std::vector<std::pair<std::string, nlohmann::json>> cases = {
      {"attention_bias", true},
      {"mlp_bias", true},
      {"hidden_act", "gelu"},
      {"rope_parameters", {{"rope_type", "yarn"}, {"factor", 4.0}, {"rope_theta", 10000.0}}},
      {"partial_rotary_factor", 0.5},
      {"quantization_config", {{"quant_method", "gptq"}}},
      {"layer_types", {"full_attention", "sliding_attention"}}};
  for (const auto& [key, value] : cases) {
    set_config(key, value);
    EXPECT_THAT(refusal(), AllOf(HasSubstr("config.json"), HasSubstr(key))) << key;
  }
  set_config("model_type", "bert");
  nlohmann::json config = write_hf_config(model_, family_of(model_), "float32");
  config["model_type"] = "bert";
  config["architectures"] = {"BertModel"};
  write_text(place("config.json"), config.dump());
  EXPECT_THAT(refusal(), AllOf(HasSubstr("bert"), HasSubstr("mixtral")));
}

TEST_F(Hostile, PicklesAreNeverRead) {
  CHECK(local_files().remove_all(place("model.safetensors")).ok());
  write_text(place("pytorch_model.bin"), "PK\x03\x04");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("pytorch_model.bin"), HasSubstr("never run here"), HasSubstr("save_file")));
  const auto one = import_model(local_files(), place("pytorch_model.bin"), dir_ / "ours");
  ASSERT_FALSE(one.ok());
  EXPECT_THAT(one.status().message(), HasSubstr("is a pickle"));
}

TEST_F(Hostile, PartsOfOneRankAreNoModel) {
  ASSERT_TRUE(local_files().rename(place("model.safetensors"), place("pytorch-00001-TP-003.safetensors")).ok());
  EXPECT_THAT(refusal(), AllOf(HasSubstr("pytorch-00001-TP-003.safetensors"), HasSubstr("tensor-parallel rank's part"),
                               HasSubstr("join the parts")));
}

TEST_F(Hostile, DirectoriesWithoutTensors) {
  ASSERT_TRUE(local_files().remove_all(place("model.safetensors")).ok());
  EXPECT_THAT(refusal(), AllOf(HasSubstr("theirs"), HasSubstr("holds no *.safetensors; needed the directory of")));
}

TEST_F(Hostile, TypesThatAreNotImported) {
  tensors_[0].spec.dtype = "I32";
  write_safetensors(place("model.safetensors"), tensors_);
  EXPECT_THAT(refusal(), AllOf(HasSubstr(tensors_[0].spec.name), HasSubstr("I32"), HasSubstr("needed F32")));
}

TEST_F(Hostile, PartsOfTwoTypes) {
  const ModelConfig model = small_model_of("mixtral");
  auto tensors = write_foreign_model(theirs(), model, *find_family("mixtral"), DType::kF32);
  for (ForeignTensor& tensor : tensors)
    if (tensor.spec.name == "model.layers.0.block_sparse_moe.experts.1.w1.weight") {
      tensor.spec.dtype = "BF16";
      tensor.bytes.resize(tensor.bytes.size() / 2);
    }
  write_safetensors(place("model.safetensors"), tensors);
  EXPECT_THAT(refusal(), AllOf(HasSubstr("experts.1.w1"), HasSubstr("of one type")));
}

TEST_F(Hostile, Llama2cHeadersThatAreNone) {
  const std::string path = dir_ / "model.bin";
  const auto refuse = [&](const std::vector<int32_t>& header, size_t num_bytes) {
    std::string bytes(reinterpret_cast<const char*>(header.data()), header.size() * 4);
    bytes.resize(num_bytes, '\0');
    write_text(path, bytes);
    const auto imported = import_model(local_files(), path, dir_ / "ours");
    return imported.ok() ? std::string("it was accepted") : imported.status().message();
  };
  EXPECT_THAT(refuse({1 << 24, 1 << 24, 1 << 24, 1, 1, 1 << 24, 1 << 24}, 28), HasSubstr("more numbers than any file"));
  EXPECT_THAT(refuse({64, 172, 5, 8, 4, 512, 512}, 5000), AllOf(HasSubstr("5000 bytes"), HasSubstr("cut")));
  EXPECT_THAT(refuse({64, 172, 5, 7, 4, 512, 512}, 5000), HasSubstr("n_kv_heads must divide"));
  EXPECT_THAT(refuse({-64, 172, 5, 8, 4, 512, 512}, 5000), HasSubstr("not a llama2.c model"));
  EXPECT_THAT(refuse({0x616b3432, 2, 64, 172, 5, 8, 4, 512, 512}, 5000), HasSubstr("version 2"));
  EXPECT_THAT(refuse({}, 3), HasSubstr("model.bin"));
}

// What stops an import is what inspect tells.
TEST_F(Hostile, InspectTellsTheFault) {
  auto inspection = inspect_path(local_files(), theirs(), {.checksums = true});
  ASSERT_TRUE(inspection.ok());
  EXPECT_TRUE(inspection->faults.empty());
  ASSERT_EQ(inspection->tensors.size(), tensors_.size());
  EXPECT_EQ(inspection->tensors.front().checksum, checksum(std::span<const std::byte>(tensors_.front().bytes)));
  set_config("attention_bias", true);
  inspection = inspect_path(local_files(), theirs(), {});
  ASSERT_TRUE(inspection.ok());
  ASSERT_EQ(inspection->faults.size(), 1U);
  EXPECT_THAT(inspection->faults[0], HasSubstr("attention_bias"));
  EXPECT_THAT(inspection_text(*inspection), HasSubstr("fault: "));
  write_raw("model.safetensors", "{", 0);
  inspection = inspect_path(local_files(), place("model.safetensors"), {});
  ASSERT_TRUE(inspection.ok());
  EXPECT_EQ(inspection->faults.size(), 1U);
}

}  // namespace
}  // namespace colossus
