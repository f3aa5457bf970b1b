// Every model family beside an independent implementation in fp64 PyTorch (tests/oracle): logits, losses and gradients.

#include <gtest/gtest.h>

#include "device_of_test.h"
#include "model/model.h"
#include "oracle/golden.h"

namespace colossus {
namespace {

// Of fp32 the largest error over the largest value of a tensor; of bf16 the rms of both. docs/numerics.md repeats the
// table. What bf16 loses here lies in what is stored between operations, not in the kernels: the reference kernels,
// which compute in fp64 and round only that, come to the same errors within a few percent.
struct OracleTolerance {
  double loss, logits, gradient;
};
constexpr OracleTolerance tolerance_of(DType compute) {
  return compute == DType::kBF16 ? OracleTolerance{.loss = 1e-2, .logits = 3e-2, .gradient = 0.15}
                                 : OracleTolerance{.loss = 1e-6, .logits = 1e-5, .gradient = 1e-5};
}
double error_of(DType compute, const std::vector<float>& got, const std::vector<float>& expected, double floor = 0) {
  return compute == DType::kBF16 ? relative_rms_error(got, expected, floor) : relative_error(got, expected, floor);
}
// Gradients smaller than this share of the largest of all are compared with that: some are zero but for rounding.
constexpr double kGradientFloor = 1e-2;

struct OracleCase {
  const char* golden;
  DType compute;
  TestDevice device;
};

std::string case_name(const testing::TestParamInfo<OracleCase>& info) {
  return std::string(info.param.golden) + "_" + std::string(dtype_name(info.param.compute)) + "_" +
         test_device_name(info.param.device);
}

class OracleFamilies : public testing::TestWithParam<OracleCase> {
 protected:
  OracleFamilies()
      : golden_(GetParam().golden),
        config_(golden_.model()),
        tolerance_(tolerance_of(GetParam().compute)),
        device_(device_of_test(GetParam().device)) {
    const auto& shape = golden_.entry("input.tokens").shape;
    options_ = {.batch = shape[0],
                .tokens = shape[1],
                .compute = GetParam().compute,
                .document_mask = golden_.has("input.document_start")};
  }

  // The program compiled, every outside tensor made, parameters from the golden.
  std::unique_ptr<Executable> compile(Result<Program> program, TensorSet& tensors) {
    CHECK(program.ok(), program.status().message().c_str());
    const Status added = tensors.add_all(*device_, *program);
    CHECK(added.ok(), added.message().c_str());
    auto executable = device_->compile(std::move(*program));
    CHECK(executable.ok(), executable.status().message().c_str());
    tensors.bind_to(**executable);
    write_golden_parameters(*device_, tensors, golden_);
    return std::move(*executable);
  }

  void write_batch(const TensorSet& tensors) {
    for (const char* name : {"tokens", "targets", "document_start"})
      if (tensors.find(name))
        write_tensor(*device_, tensors, name, golden_.values<int32_t>(std::string("input.") + name));
  }

  const Golden golden_;
  const ModelConfig config_;
  const OracleTolerance tolerance_;
  const std::unique_ptr<Device> device_;
  ProgramOptions options_;
};

// The training program gives the same loss and gradients as autograd does, whatever is computed again.
TEST_P(OracleFamilies, LossAndGradients) {
  for (const Recompute policy : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
    SCOPED_TRACE(recompute_name(policy));
    TensorSet tensors;
    const auto executable = compile(write_training_program(config_, options_, policy), tensors);
    write_batch(tensors);
    write_tensor(*device_, tensors, "loss_grad", std::vector<float>{1});
    CHECK(executable->run().ok());
    const double cross_entropy = golden_.scalar("output.cross_entropy"), total = golden_.scalar("output.total");
    EXPECT_NEAR(read_output(*executable, "loss")[0] / cross_entropy, 1, tolerance_.loss);
    if (config_.balance_loss > 0 || config_.z_loss > 0) {
      EXPECT_NEAR(read_output(*executable, "aux_loss")[0] / (total - cross_entropy), 1, tolerance_.loss);
    }
    double largest_of_all = 0;
    for (const SafetensorsEntry& entry : golden_.tensors())
      if (entry.name.rfind("grad.", 0) == 0)
        largest_of_all = std::max(largest_of_all, largest(golden_.values<float>(entry.name)));
    for (const auto& [name, entry] : tensors.entries()) {
      if (entry.role != Role::kGradient) continue;
      const double error = error_of(options_.compute, read_tensor(*device_, tensors, name), golden_.values<float>(name),
                                    kGradientFloor * largest_of_all);
      EXPECT_LE(error, tolerance_.gradient) << name;
    }
  }
}

// The forward program has no logits, but with every token of the vocabulary as the target in turn it has
// log-probabilities.
TEST_P(OracleFamilies, LogProbabilitiesOfTheLossProgram) {
  TensorSet tensors;
  const auto executable = compile(write_loss_program(config_, options_), tensors);
  write_batch(tensors);
  const auto logits = golden_.values<float>("output.logits");  // (B, T, V)
  const auto vocab = static_cast<size_t>(config_.vocab_size);
  const size_t num_rows = logits.size() / vocab;
  std::vector<float> expected(logits.size()), got(logits.size());
  for (size_t row = 0; row < num_rows; ++row) {
    double sum = 0;
    for (size_t v = 0; v < vocab; ++v) sum += std::exp(static_cast<double>(logits[row * vocab + v]));
    for (size_t v = 0; v < vocab; ++v)
      expected[row * vocab + v] = static_cast<float>(logits[row * vocab + v] - std::log(sum));
  }
  for (size_t v = 0; v < vocab; ++v) {
    write_tensor(*device_, tensors, "targets", std::vector<int32_t>(num_rows, static_cast<int32_t>(v)));
    CHECK(executable->run().ok());
    const auto token_loss = read_output(*executable, "token_loss");
    for (size_t row = 0; row < num_rows; ++row) got[row * vocab + v] = -token_loss[row];
  }
  EXPECT_LE(error_of(options_.compute, got, expected), tolerance_.logits);
}

// The decode program, all tokens at once, once for each position whose logits are wanted.
TEST_P(OracleFamilies, LogitsOfTheDecodeProgram) {
  if (options_.document_mask) GTEST_SKIP() << "a decoded sequence is one document";
  TensorSet tensors;
  const int64_t num_tokens = options_.tokens;
  const auto executable = compile(write_decode_program(config_, options_, num_tokens + 3), tensors);
  write_batch(tensors);
  std::vector<int32_t> positions;
  for (int64_t b = 0; b < options_.batch; ++b)
    for (int64_t t = 0; t < num_tokens; ++t) positions.push_back(static_cast<int32_t>(t));
  write_tensor(*device_, tensors, "positions", positions);
  const auto expected = golden_.values<float>("output.logits");  // (B, T, V)
  std::vector<float> got(expected.size());
  for (int64_t t = 0; t < num_tokens; ++t) {
    write_tensor(*device_, tensors, "last",
                 std::vector<int32_t>(static_cast<size_t>(options_.batch), static_cast<int32_t>(t)));
    CHECK(executable->run().ok());
    const auto logits = read_output(*executable, "logits");  // (B, 1, V)
    for (int64_t b = 0; b < options_.batch; ++b)
      std::copy_n(logits.begin() + b * config_.vocab_size, config_.vocab_size,
                  got.begin() + (b * num_tokens + t) * config_.vocab_size);
  }
  EXPECT_LE(error_of(options_.compute, got, expected), tolerance_.logits);
}

std::vector<OracleCase> all_cases() {
  std::vector<OracleCase> cases;
  for (const char* golden : {"grok_1", "grok_2", "grok_2_aux", "llama", "llama_masked", "gpt_2"})
    for (const DType compute : {DType::kF32, DType::kBF16})
      for (const TestDevice device : {TestDevice::kCpu, TestDevice::kGpu}) cases.push_back({golden, compute, device});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Goldens, OracleFamilies, testing::ValuesIn(all_cases()), case_name);

}  // namespace
}  // namespace colossus
