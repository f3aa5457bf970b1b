// A golden file as the oracle tests read it (tests/oracle/README.md says what is in one).
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "device/tensor_set.h"
#include "device_of_test.h"
#include "io/safetensors.h"
#include "model/model_config.h"

namespace colossus {

class Golden {
 public:
  explicit Golden(const std::string& name) : file_(open(name)) {}

  bool has(const std::string& name) const { return file_.find(name) != nullptr; }
  const std::vector<SafetensorsEntry>& tensors() const { return file_.tensors(); }
  nlohmann::json metadata(const std::string& key) const { return nlohmann::json::parse(file_.metadata().at(key)); }
  const SafetensorsEntry& entry(const std::string& name) const {
    const SafetensorsEntry* found = file_.find(name);
    CHECK(found != nullptr, name.c_str());
    return *found;
  }

  template <class T>
  std::vector<T> values(const std::string& name) const {
    const SafetensorsEntry& found = entry(name);
    CHECK(found.size_bytes % static_cast<int64_t>(sizeof(T)) == 0);
    std::vector<T> result(static_cast<size_t>(found.size_bytes) / sizeof(T));
    const Status status = file_.read(found, 0, std::as_writable_bytes(std::span(result)));
    CHECK(status.ok(), status.message().c_str());
    return result;
  }
  double scalar(const std::string& name) const { return values<double>(name).front(); }

  ModelConfig model() const {
    const nlohmann::json j = metadata("config");
    const auto integer = [&](const char* key) { return j.at(key).get<int64_t>(); };
    const auto number = [&](const char* key) { return j.at(key).get<double>(); };
    const std::string family = j.at("family");
    ModelConfig c;
    c.family = family == "grok-1"   ? Family::kGrok1
               : family == "grok-2" ? Family::kGrok2
               : family == "llama"  ? Family::kLlama
                                    : Family::kGpt2;
    c.activation = c.family == Family::kLlama ? ActivationKind::kSilu : ActivationKind::kGeluTanh;
    c.biases = c.family == Family::kGpt2;
    c.num_layers = integer("num_layers");
    c.width = integer("width");
    c.num_heads = integer("num_heads");
    c.num_kv_heads = integer("num_kv_heads");
    c.head_dim = integer("head_dim");
    c.ffn_width = integer("ffn_width");
    c.num_experts = integer("num_experts");
    c.num_experts_per_token = integer("num_experts_per_token");
    c.expert_width = integer("expert_width");
    c.vocab_size = integer("vocab_size");
    c.context = integer("context");
    c.tie_embeddings = j.at("tie_embeddings");
    c.rope_theta = number("rope_theta");
    c.norm_eps = number("norm_eps");
    c.embedding_scale = number("embedding_scale");
    c.logit_scale = number("logit_scale");
    c.attn_softcap = number("attn_softcap");
    c.router_softcap = number("router_softcap");
    c.logit_softcap = number("logit_softcap");
    c.attn_temperature_len = integer("attn_temperature_len");
    c.window = integer("window");
    c.balance_loss = number("balance_loss");
    c.z_loss = number("z_loss");
    return c;
  }

 private:
  static SafetensorsFile open(const std::string& name) {
    auto file =
        SafetensorsFile::open(local_files(), project_directory() + "/tests/oracle/goldens/" + name + ".safetensors");
    CHECK(file.ok(), file.status().message().c_str());
    return std::move(file).value();
  }

  SafetensorsFile file_;
};

template <class T>
void write_tensor(Device& device, const TensorSet& tensors, const std::string& name, const std::vector<T>& values) {
  const TensorSet::Entry& entry = tensors.at(name);
  CHECK(entry.type.num_bytes() == static_cast<int64_t>(values.size() * sizeof(T)), name.c_str());
  device.write(*entry.memory, entry.offset_bytes, std::as_bytes(std::span(values)));
}

inline std::vector<float> read_tensor(Device& device, const TensorSet& tensors, const std::string& name) {
  const TensorSet::Entry& entry = tensors.at(name);
  std::vector<float> values(static_cast<size_t>(entry.type.shape.num_elements()));
  device.read(*entry.memory, entry.offset_bytes, std::as_writable_bytes(std::span(values)));
  return values;
}

inline std::vector<float> read_output(Executable& executable, const char* name) {
  const TensorId id = executable.program().find(name);
  CHECK(id, name);
  std::vector<float> values(static_cast<size_t>(executable.program().tensor(id).type.shape.num_elements()));
  executable.read_output(id, std::as_writable_bytes(std::span(values)));
  return values;
}

// Every parameter of the golden into `tensors`, which must hold the same ones.
inline void write_golden_parameters(Device& device, const TensorSet& tensors, const Golden& golden) {
  size_t num_parameters = 0;
  for (const auto& [name, entry] : tensors.entries()) {
    // Buckets are no parameters: these are views of them.
    if (entry.role != Role::kParameter || name.starts_with("parameters.")) continue;
    ASSERT_TRUE(golden.has("param." + name)) << name;
    const auto sizes = entry.type.shape.sizes();
    ASSERT_EQ(golden.entry("param." + name).shape, std::vector<int64_t>(sizes.begin(), sizes.end())) << name;
    write_tensor(device, tensors, name, golden.values<float>("param." + name));
    ++num_parameters;
  }
  size_t num_stored = 0;
  for (const SafetensorsEntry& entry : golden.tensors()) num_stored += entry.name.rfind("param.", 0) == 0;
  ASSERT_EQ(num_parameters, num_stored);
}

inline double largest(const std::vector<float>& values) {
  double result = 0;
  for (float value : values) result = std::max(result, std::abs(static_cast<double>(value)));
  return result;
}

// The largest error over the largest value, or over `floor` where that is more. NaN counts as an infinite error.
inline double relative_error(const std::vector<float>& got, const std::vector<float>& expected, double floor = 0) {
  CHECK(got.size() == expected.size());
  double error = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double difference = std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i]));
    error = std::isnan(difference) ? HUGE_VAL : std::max(error, difference);
  }
  return error / std::max(largest(expected), floor);
}

// rms(got - expected) over rms(expected), or over `floor` where that is more: for roundings that are many and
// independent, whose largest says little.
inline double relative_rms_error(const std::vector<float>& got, const std::vector<float>& expected, double floor = 0) {
  CHECK(got.size() == expected.size());
  double error = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += std::pow(static_cast<double>(got[i]) - static_cast<double>(expected[i]), 2);
    size += std::pow(static_cast<double>(expected[i]), 2);
  }
  const double count = static_cast<double>(got.size());
  return std::isnan(error) ? HUGE_VAL : std::sqrt(error / count) / std::max(std::sqrt(size / count), floor);
}

}  // namespace colossus
