// GGUF files that are cut, contradict themselves, or were made to do harm: each is refused before memory is taken, with
// the place. Those named after a CVE have the form of the files that broke other readers.

#include <gtest/gtest.h>

#include "convert/gguf_model.h"
#include "convert/gguf_testing.h"
#include "convert/import_model.h"
#include "convert/inspect.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr uint32_t kF32 = 0, kQ4_0 = 2, kQ4_K = 12;

class HostileGguf : public testing::Test {
 protected:
  std::string path() const { return dir_ / "model.gguf"; }
  // What an import says of the bytes; no trace of it stays, and to look at them is no harm either.
  std::string refusal(const std::string& bytes) {
    write_text(path(), bytes);
    return refusal();
  }
  std::string refusal(const RawGguf& file) { return refusal(file.bytes()); }
  std::string refusal() {
    const auto imported = import_model(local_files(), path(), dir_ / "ours");
    if (imported.ok()) return "it was accepted";
    EXPECT_FALSE(local_files().stat(dir_ / "ours").ok());
    const auto inspected = inspect_path(local_files(), path(), {});
    EXPECT_TRUE(inspected.ok() && !inspected->faults.empty());
    EXPECT_THAT(imported.status().message(), HasSubstr("model.gguf"));
    return imported.status().message();
  }
  // A whole model, changed by a test before it is written.
  GgufToWrite whole() const { return small_gguf(small_model_of("llama")); }
  std::string refusal(const GgufToWrite& file) {
    CHECK(local_files().remove_all(path()).ok());
    write_small_gguf(path(), file);
    return refusal();
  }

  const TemporaryDirectory dir_;
};

TEST_F(HostileGguf, WholeFilesAreAccepted) {
  GgufToWrite file = whole();
  add_small_vocabulary(file, small_model_of("llama").vocab_size);
  EXPECT_EQ(refusal(file), "it was accepted");
}

TEST_F(HostileGguf, AnotherMagicNumber) {
  EXPECT_THAT(refusal(RawGguf(0, 0, 3, "GGML")), HasSubstr("begins with 'GGML'"));
  EXPECT_THAT(refusal("GG"), HasSubstr("ends within its first four bytes"));
  EXPECT_THAT(refusal(std::string("\xFF\xFE\x00\x01", 4)), HasSubstr("begins with bytes FF FE"));
}

TEST_F(HostileGguf, VersionsThatAreNotRead) {
  for (const uint32_t version : {0U, 1U, 4U, 0xFFFFFFFFU})
    EXPECT_THAT(refusal(RawGguf(0, 0, version)), HasSubstr("needed 2 or 3")) << version;
  EXPECT_THAT(refusal(RawGguf(0, 0, 0x03000000)), HasSubstr("big-endian"));
}

TEST_F(HostileGguf, CutAnywhereInTheHeader) {
  write_small_gguf(path(), whole());
  const std::string bytes = *read_file(local_files(), path());
  const auto file = GgufFile::open(local_files(), path());
  ASSERT_TRUE(file.ok());
  for (int64_t size = 0; size < file->data_offset(); size += 7)
    EXPECT_THAT(refusal(bytes.substr(0, static_cast<size_t>(size))),
                testing::AnyOf(HasSubstr("was cut"), HasSubstr("ends within"), HasSubstr("the file has only")))
        << size;
}

TEST_F(HostileGguf, CutInTheLastTensor) {
  write_small_gguf(path(), whole());
  const std::string bytes = *read_file(local_files(), path());
  EXPECT_THAT(refusal(bytes.substr(0, bytes.size() - 40)),
              AllOf(HasSubstr("ends at byte"), HasSubstr("copy it again")));
}

// TALOS-2024-1916: the number of keys times the size of one was taken as memory.
TEST_F(HostileGguf, Cve2024_23605_NumbersOfKeysThatOverflow) {
  for (const uint64_t count : {uint64_t{0x0555555555555556}, uint64_t{1} << 63, ~uint64_t{0}, uint64_t{5}})
    EXPECT_THAT(refusal(RawGguf(0, count).data(40)), AllOf(HasSubstr("keys"), HasSubstr("more bytes"))) << count;
}

// TALOS-2024-1914: the same with tensors.
TEST_F(HostileGguf, Cve2024_21836_NumbersOfTensorsThatOverflow) {
  for (const uint64_t count : {uint64_t{0x0333333333333334}, uint64_t{1} << 63, ~uint64_t{0}})
    EXPECT_THAT(refusal(RawGguf(count, 0).data(1000)), AllOf(HasSubstr("tensors"), HasSubstr("more bytes"))) << count;
}

TEST_F(HostileGguf, MoreKeysAndTensorsThanAnyModelHas) {
  EXPECT_THAT(refusal(RawGguf(0, 70000).data(1 << 20)), HasSubstr("at most 65536 are read"));
  EXPECT_THAT(refusal(RawGguf(70000, 0).data(1 << 22)), HasSubstr("at most 65536 are read"));
}

// TALOS-2024-1913: a length of a string plus one was taken as memory.
TEST_F(HostileGguf, Cve2024_23496_StringsLongerThanTheFile) {
  for (const uint64_t size : {~uint64_t{0}, uint64_t{1} << 63, uint64_t{1} << 40, uint64_t{1000}}) {
    EXPECT_THAT(refusal(RawGguf(0, 1).number(size).data(100)), AllOf(HasSubstr("key 0 is"), HasSubstr("bytes long")));
    EXPECT_THAT(refusal(RawGguf(0, 1).key("a", GgufValueType::kText).number(size).data(100)),
                AllOf(HasSubstr("a is"), HasSubstr("bytes long")));
    EXPECT_THAT(refusal(RawGguf(1, 0).number(size).data(100)), HasSubstr("the name of tensor 0"));
  }
}

// TALOS-2024-1912: the number of elements of an array times their size was taken as memory.
TEST_F(HostileGguf, Cve2024_21825_ArraysLongerThanTheFile) {
  for (const uint64_t count : {~uint64_t{0}, uint64_t{1} << 63, (uint64_t{1} << 61) + 1, uint64_t{1000}})
    for (const auto type : {GgufValueType::kU64, GgufValueType::kU8, GgufValueType::kText, GgufValueType::kArray})
      EXPECT_THAT(refusal(RawGguf(0, 1).array("a", type, count).data(200)),
                  AllOf(HasSubstr("a is an array of"), HasSubstr("more bytes")))
          << count << " " << gguf_type_name(type);
}

TEST_F(HostileGguf, StringsWithinArraysLongerThanTheFile) {
  EXPECT_THAT(refusal(RawGguf(0, 1).array("a", GgufValueType::kText, 2).text("b").number(~uint64_t{0}).data(100)),
              HasSubstr("bytes long, and the file has only"));
}

// TALOS-2024-1915: the product of a tensor's dimensions.
TEST_F(HostileGguf, Cve2024_21802_DimensionsWhoseProductOverflows) {
  for (const auto& sizes : std::vector<std::vector<uint64_t>>{{uint64_t{1} << 32, uint64_t{1} << 32},
                                                              {uint64_t{1} << 31, uint64_t{1} << 31, 4},
                                                              {uint64_t{1} << 61, 8},
                                                              {3, uint64_t{0x5555555555555556} >> 2, 1, 3},
                                                              {65536, 65536, 65536, 65536}})
    EXPECT_THAT(refusal(RawGguf(1, 0).tensor("a", sizes, kF32, 0).data(64)),
                HasSubstr("more elements than the file's"));
  EXPECT_THAT(refusal(RawGguf(1, 0).tensor("a", {~uint64_t{0}}, kF32, 0).data(64)), HasSubstr("has a dimension of"));
}

// Sizes that are each allowed and whose padded sum is not.
TEST_F(HostileGguf, Cve2025_53630_SumsOfTensorsThatOverflow) {
  const uint64_t half = uint64_t{1} << 62;
  EXPECT_THAT(refusal(RawGguf(3, 0)
                          .tensor("a", {half / 4}, kF32, 0)
                          .tensor("b", {half / 4}, kF32, half)
                          .tensor("c", {1}, kF32, half * 2)
                          .data(64)),
              HasSubstr("a has more elements than the file's"));
  EXPECT_THAT(refusal(RawGguf(2, 0).tensor("a", {8}, kF32, 0).tensor("b", {8}, kF32, ~uint64_t{31}).data(64)),
              HasSubstr("b begins at byte"));
}

// The memory of all tensors and what is kept of each, added up.
TEST_F(HostileGguf, Cve2026_27940_TensorsAndTheirTableBeyondMemory) {
  const uint64_t all = ~uint64_t{0} / 4 - 64;
  EXPECT_THAT(refusal(RawGguf(1, 0).tensor("a", {all}, kF32, 0).data(64)),
              testing::AnyOf(HasSubstr("more elements"), HasSubstr("has a dimension of")));
}

// Bytes of a tensor that wrap around to few.
TEST_F(HostileGguf, Cve2026_33298_BytesOfATensorThatWrapAround) {
  EXPECT_THAT(refusal(RawGguf(1, 0).tensor("a", {uint64_t{1} << 62, 1, 1, 1}, kF32, 0).data(64)),
              HasSubstr("more elements"));
  EXPECT_THAT(refusal(RawGguf(1, 0).tensor("a", {256, uint64_t{1} << 56}, kQ4_K, 0).data(64)),
              HasSubstr("more elements"));
}

TEST_F(HostileGguf, DimensionsThatNoTensorHas) {
  EXPECT_THAT(refusal(RawGguf(1, 0).tensor("a", {}, kF32, 0).data(64)), HasSubstr("0 dimensions"));
  EXPECT_THAT(refusal(RawGguf(1, 0).tensor("a", {1, 1, 1, 1, 1}, kF32, 0).data(64)), HasSubstr("5 dimensions"));
  EXPECT_THAT(refusal(RawGguf(1, 0).text("a").number(~uint32_t{0}).data(64)), HasSubstr("4294967295 dimensions"));
  EXPECT_THAT(refusal(RawGguf(1, 0).tensor("a", {8, 0}, kF32, 0).data(64)), HasSubstr("a dimension of 0"));
}

TEST_F(HostileGguf, RowsThatAreNoWholeBlocks) {
  EXPECT_THAT(refusal(RawGguf(1, 0).tensor("a", {33, 2}, kQ4_0, 0).data(64)), HasSubstr("multiple of 32"));
  EXPECT_THAT(refusal(RawGguf(1, 0).tensor("a", {128, 2}, kQ4_K, 0).data(4096)), HasSubstr("multiple of 256"));
}

TEST_F(HostileGguf, ArraysWithinArrays) {
  const auto nested = [](int depth) {
    RawGguf file(0, 1);
    file.array("a", GgufValueType::kArray, 1);
    for (int i = 1; i < depth; ++i) file.number(static_cast<uint32_t>(GgufValueType::kArray)).number(uint64_t{1});
    file.number(static_cast<uint32_t>(GgufValueType::kU8)).number(uint64_t{1}).number(uint8_t{7});
    return file;
  };
  EXPECT_THAT(refusal(nested(127)), HasSubstr("general.architecture is not there"));  // all of it was read
  EXPECT_THAT(refusal(nested(128)), HasSubstr("more than 128 deep"));
  EXPECT_THAT(refusal(nested(100000)), HasSubstr("more than 128 deep"));
}

TEST_F(HostileGguf, AlignmentsThatAreNone) {
  for (const uint32_t alignment : {0U, 3U, 31U, 0xFFFFFFFFU})
    EXPECT_THAT(refusal(RawGguf(1, 1)
                            .key("general.alignment", GgufValueType::kU32)
                            .number(alignment)
                            .tensor("a", {8}, kF32, 0)
                            .data(64)),
                HasSubstr("needed a power of two"))
        << alignment;
  EXPECT_THAT(refusal(RawGguf(0, 1).key("general.alignment", GgufValueType::kU64).number(uint64_t{32}).data(64)),
              HasSubstr("as u32"));
  // So large that the file ends before the tensors.
  EXPECT_THAT(refusal(RawGguf(1, 1)
                          .key("general.alignment", GgufValueType::kU32)
                          .number(uint32_t{1} << 31)
                          .tensor("a", {8}, kF32, 0)
                          .data(64)),
              HasSubstr("ends at byte 2147483680"));
}

TEST_F(HostileGguf, OverlappingTensors) {
  EXPECT_THAT(refusal(RawGguf(2, 0).tensor("a", {16}, kF32, 0).tensor("b", {16}, kF32, 32).data(128)),
              AllOf(HasSubstr("b begins at byte 32"), HasSubstr("inside of the one before")));
  EXPECT_THAT(refusal(RawGguf(2, 0).tensor("a", {16}, kF32, 0).tensor("b", {16}, kF32, 0).data(128)),
              HasSubstr("inside of the one before"));
}

TEST_F(HostileGguf, HolesBetweenTensors) {
  EXPECT_THAT(refusal(RawGguf(2, 0).tensor("a", {8}, kF32, 0).tensor("b", {8}, kF32, 64).data(128)),
              HasSubstr("after a gap from 32"));
  EXPECT_THAT(refusal(RawGguf(1, 0).tensor("a", {8}, kF32, 32).data(128)), HasSubstr("after a gap from 0"));
}

TEST_F(HostileGguf, OffsetsOutOfRange) {
  EXPECT_THAT(refusal(RawGguf(1, 0).tensor("a", {8}, kF32, ~uint64_t{0}).data(64)), HasSubstr("a begins at byte"));
  EXPECT_THAT(refusal(RawGguf(1, 0).tensor("a", {8}, kF32, 16).data(64)), HasSubstr("a multiple of 32"));
  EXPECT_THAT(refusal(RawGguf(1, 0).tensor("a", {8}, kF32, 0).data(16)), HasSubstr("the file has only"));
}

TEST_F(HostileGguf, KeysThatStandTwice) {
  const auto type = GgufValueType::kU8;
  EXPECT_THAT(refusal(RawGguf(0, 2).key("a.b", type).number(uint8_t{1}).key("a.b", type).number(uint8_t{2})),
              HasSubstr("a.b stands twice"));
}

TEST_F(HostileGguf, TensorsThatStandTwice) {
  EXPECT_THAT(refusal(RawGguf(2, 0).tensor("a", {8}, kF32, 0).tensor("a", {8}, kF32, 32).data(64)),
              HasSubstr("the tensor a stands twice"));
}

TEST_F(HostileGguf, TypesThatAreNotKnown) {
  for (const uint32_t type : {4U, 5U, 31U, 1000U, 0xFFFFFFFFU})
    EXPECT_THAT(refusal(RawGguf(1, 0).tensor("a", {256}, type, 0).data(4096)), HasSubstr("which is not known")) << type;
  EXPECT_THAT(refusal(RawGguf(0, 1).text("a").number(uint32_t{13}).data(64)), HasSubstr("a is of the type 13"));
  EXPECT_THAT(refusal(RawGguf(0, 1).text("a").number(uint32_t{9}).number(uint32_t{99}).number(uint64_t{0}).data(64)),
              HasSubstr("an array of the type 99"));
}

TEST_F(HostileGguf, NamesThatAreNone) {
  EXPECT_THAT(refusal(RawGguf(0, 1).text("").number(uint32_t{0}).number(uint8_t{0}).data(64)),
              HasSubstr("needed printable characters"));
  EXPECT_THAT(refusal(RawGguf(0, 1).text("a\nb").number(uint32_t{0}).number(uint8_t{0}).data(64)),
              HasSubstr("needed printable characters"));
  EXPECT_THAT(refusal(RawGguf(1, 0).tensor("\x1B[2J", {8}, kF32, 0).data(64)),
              HasSubstr("needed printable characters"));
  EXPECT_THAT(refusal(RawGguf(1, 0).tensor(std::string(300, 'a'), {8}, kF32, 0).data(64)), HasSubstr("at most 255"));
  EXPECT_THAT(refusal(RawGguf(0, 1).text(std::string(70000, 'a')).number(uint32_t{0}).data(64)),
              HasSubstr("at most 65535"));
}

TEST_F(HostileGguf, BoolsThatAreNone) {
  EXPECT_THAT(refusal(RawGguf(0, 1).key("a", GgufValueType::kBool).number(uint8_t{2}).data(64)),
              HasSubstr("needed 0 or 1"));
}

TEST_F(HostileGguf, TokenIdsOutOfRange) {
  for (const char* key : {"bos", "eos", "eot", "unknown"})
    for (const int64_t id : {int64_t{19}, int64_t{0xFFFFFFFF}}) {
      GgufToWrite file = whole();
      add_small_vocabulary(file, 19);
      file.metadata[fmt::format("tokenizer.ggml.{}_token_id", key)] = gguf_u32(id);
      EXPECT_THAT(refusal(file), AllOf(HasSubstr(key), HasSubstr("the vocabulary has 19 tokens")));
    }
}

TEST_F(HostileGguf, VocabulariesOfAnotherSize) {
  GgufToWrite file = whole();
  add_small_vocabulary(file, 20);
  EXPECT_THAT(refusal(file), AllOf(HasSubstr("20 tokens"), HasSubstr("embedding 19 rows")));
  file.lists["tokenizer.ggml.tokens"] = std::vector<float>(19);
  EXPECT_THAT(refusal(file), HasSubstr("tokenizer.ggml.tokens: it is an array of 19 f32"));
  file.metadata["tokenizer.ggml.merges"] = gguf_u32(3);
  file.lists.erase("tokenizer.ggml.tokens");
  EXPECT_THAT(refusal(file), HasSubstr("tokenizer.ggml.merges is a u32"));
}

TEST_F(HostileGguf, NumbersThatNoNetworkHas) {
  const std::vector<std::pair<std::string, GgufValue>> cases = {
      {"llama.block_count", gguf_u32(0xFFFFFFFF)},
      {"llama.block_count", {GgufValueType::kU64, ~uint64_t{0}}},
      {"llama.embedding_length", {GgufValueType::kI32, int64_t{-12}}},
      {"llama.attention.head_count", gguf_u32(0)},
      {"llama.attention.head_count", gguf_text("four")},
      {"llama.attention.key_length", gguf_u32(8)},
      {"llama.rope.freq_base", {GgufValueType::kF32, static_cast<double>(std::nanf(""))}},
      {"llama.context_length", gguf_bool(true)},
      {"llama.attention.causal", gguf_u32(1)},   // no bool
      {"llama.rope.scaling.type", gguf_u32(1)},  // no text
      {"llama.expert_count", gguf_u32(1 << 25)}};
  const std::map<std::string, Shape> shapes = {{"token_embd.weight", {19, 12}}};
  for (const auto& [key, value] : cases) {
    GgufMetadata metadata = whole().metadata;
    metadata[key] = value;
    const auto read = read_gguf_config(metadata, shapes, {});
    ASSERT_FALSE(read.ok()) << key;
    EXPECT_THAT(read.status().message(), HasSubstr("llama.")) << key;
  }
}

TEST_F(HostileGguf, WhatTheNetworkCannotDoIsNamed) {
  const std::vector<std::pair<std::string, GgufValue>> cases = {
      {"general.architecture", gguf_text("mamba")},  {"llama.rope.scaling.type", gguf_text("yarn")},
      {"llama.rope.scaling.factor", gguf_f32(2)},    {"llama.rope.dimension_count", gguf_u32(2)},
      {"llama.attention.value_length", gguf_u32(8)}, {"llama.attention.causal", gguf_bool(false)},
      {"llama.embedding_scale", gguf_f32(12)},       {"llama.attention.scale", gguf_f32(0.1)}};
  for (const auto& [key, value] : cases) {
    GgufToWrite file = whole();
    file.metadata[key] = value;
    EXPECT_THAT(refusal(file), HasSubstr(key)) << key;
  }
  GgufToWrite file = whole();
  file.metadata.erase("llama.feed_forward_length");
  EXPECT_THAT(refusal(file), HasSubstr("llama.feed_forward_length: it is not there"));
}

TEST_F(HostileGguf, HeadsThatDoNotDivideTheWidth) {
  GgufMetadata metadata = whole().metadata;
  metadata["llama.attention.head_count"] = gguf_u32(5);
  metadata.erase("llama.attention.key_length");
  EXPECT_THAT(read_gguf_config(metadata, {{"token_embd.weight", {19, 12}}}, {}).status().message(),
              HasSubstr("llama.attention.head_count: 5 does not divide embedding_length = 12"));
}

TEST_F(HostileGguf, ListsWhereTheNetworkHasOneNumber) {
  GgufMetadata metadata = whole().metadata;
  metadata["llama.feed_forward_length"] = {GgufValueType::kArray,
                                           GgufArray{.element = GgufValueType::kU32, .count = 2}};
  EXPECT_THAT(
      read_gguf_config(metadata, {{"token_embd.weight", {19, 12}}}, {}).status().message(),
      AllOf(HasSubstr("llama.feed_forward_length"), HasSubstr("layers that differ from one another are not there")));
}

TEST_F(HostileGguf, ExpertsThatAreChosenOtherwiseAreNamed) {
  const std::map<std::string, Shape> shapes = {{"token_embd.weight", {19, 12}}};
  const auto say = [&](const ModelConfig& model, const std::string& key, const GgufValue& value) {
    GgufMetadata metadata = gguf_config(model);
    metadata[key] = value;
    return read_gguf_config(metadata, shapes, {}).status().message();
  };
  const std::vector<std::tuple<std::string, GgufValue, std::string>> cases = {
      {"expert_gating_func", gguf_u32(2), "not chosen by a softmax"},
      {"expert_weights_scale", gguf_f32(2.5), "needed 1"},
      {"expert_shared_count", gguf_u32(1), "experts that see every token"},
      {"expert_shared_feed_forward_length", gguf_u32(8), "experts that see every token"},
      {"expert_group_count", gguf_u32(4), "groups of experts"},
      {"leading_dense_block_count", gguf_u32(1), "layers without experts"}};
  for (const auto& [key, value, reason] : cases)
    EXPECT_THAT(say(small_model_of("mixtral"), "llama." + key, value), AllOf(HasSubstr("llama."), HasSubstr(reason)))
        << key;
  EXPECT_THAT(say(small_model_of("qwen3"), "qwen3.expert_count", gguf_u32(3)), HasSubstr("qwen3"));
  EXPECT_THAT(say(small_model_of("qwen3_moe"), "qwen3moe.expert_count", gguf_u32(0)), HasSubstr("needed at least 1"));
  EXPECT_THAT(say(small_model_of("grok-1"), "grok.expert_count", gguf_u32(0)), HasSubstr("needed at least 1"));
  EXPECT_THAT(say(small_model_of("grok-1"), "grok.attention.output_scale", gguf_f32(0.3)),
              HasSubstr("needed 1 / sqrt(4), the size of a head"));
  EXPECT_THAT(say(small_model_of("gpt2"), "gpt2.attention.head_count_kv", gguf_u32(2)),
              HasSubstr("heads must fill embedding_length"));
}

TEST_F(HostileGguf, FrequenciesOfArchitecturesThatHaveNone) {
  const std::map<std::string, Shape> shapes = {{"token_embd.weight", {19, 12}}};
  const std::vector<float> table = {1, 8};
  EXPECT_THAT(read_gguf_config(gguf_config(small_model_of("qwen3")), shapes, table).status().message(),
              HasSubstr("rope_freqs.weight is only known in files of the architecture llama"));
  EXPECT_THAT(read_gguf_config(gguf_config(small_model_of("llama")), shapes, {1, 8, 8}).status().message(),
              AllOf(HasSubstr("llama.rope.freq_base"), HasSubstr("has 3 numbers; needed 2")));
}

TEST_F(HostileGguf, ScalingThatGrok2DoesNotDoIsPassedOver) {
  const std::map<std::string, Shape> shapes = {{"token_embd.weight", {19, 12}}, {"blk.0.ffn_up.weight", {14, 12}}};
  GgufMetadata metadata = gguf_config(small_model_of("grok-2"));
  metadata["grok.rope.scaling.type"] = gguf_text("yarn");
  metadata["grok.rope.scaling.factor"] = gguf_f32(16);
  metadata["grok.rope.scaling.yarn_beta_fast"] = gguf_f32(8);
  const auto read = read_gguf_config(metadata, shapes, {});
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->config.rope_factor, 1);
  EXPECT_THAT(read->notes, testing::Contains(HasSubstr("grok.rope.scaling is passed over")));
}

TEST_F(HostileGguf, TensorsOfAnotherNetwork) {
  GgufToWrite file = whole();
  file.metadata["llama.feed_forward_length"] = gguf_u32(24);
  EXPECT_THAT(refusal(file), AllOf(HasSubstr("blk.0.ffn_gate.weight is [20, 12]"), HasSubstr("[24, 12]")));
  file = whole();
  file.tensors.erase(file.tensors.begin() + 3);
  EXPECT_THAT(refusal(file), HasSubstr("lack blk.0."));
  file = whole();
  file.tensors.push_back(file.tensors.back());
  file.tensors.back().name = "blk.0.attn_q.bias";
  EXPECT_THAT(refusal(file), HasSubstr("no place for blk.0.attn_q.bias"));
  file = whole();
  file.tensors.push_back(file.tensors.back());
  file.tensors.back().name = "rope_freqs.weight";
  EXPECT_THAT(refusal(file), HasSubstr("rope_freqs.weight"));
}

TEST_F(HostileGguf, TypesThatCannotBeDequantized) {
  write_small_gguf(path(), whole());
  std::string bytes = *read_file(local_files(), path());
  const size_t name = bytes.find("blk.0.attn_norm.weight");
  bytes[name + 22 + 4 + 8] = 26;  // I32: as many bytes as fp32
  EXPECT_THAT(refusal(bytes), AllOf(HasSubstr("blk.0.attn_norm.weight is I32"), HasSubstr("Q4_K")));
}

TEST_F(HostileGguf, PartsThatDoNotBelongTogether) {
  GgufToWrite file = whole();
  file.metadata["split.no"] = gguf_u32(0);
  file.metadata["split.count"] = gguf_u32(2);
  EXPECT_THAT(refusal(file), HasSubstr("must then end in -00001-of-00002.gguf"));
  file.metadata["split.count"] = gguf_u32(65535);
  EXPECT_THAT(refusal(file), HasSubstr("of-65535.gguf"));
  file.metadata["split.no"] = gguf_u32(65535);
  EXPECT_THAT(refusal(file), HasSubstr("counted from 0"));
  file.metadata["split.no"] = gguf_u32(0);
  file.metadata["split.count"] = gguf_u32(2);
  const std::string first = dir_ / "m-00001-of-00002.gguf", second = dir_ / "m-00002-of-00002.gguf";
  write_small_gguf(first, file);
  const auto say = [&] { return open_gguf_files(local_files(), first).status().message(); };
  EXPECT_THAT(say(), HasSubstr("m-00002-of-00002.gguf"));
  write_small_gguf(second, file);
  EXPECT_THAT(say(), HasSubstr("does not say that it is part 2 of 2"));
  file.metadata["split.no"] = gguf_u32(1);
  CHECK(local_files().remove_all(second).ok());
  write_small_gguf(second, file);
  EXPECT_THAT(say(), HasSubstr("each must be in one file"));
}

}  // namespace
}  // namespace colossus
