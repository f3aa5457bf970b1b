#include "device/cuda/gemm.h"

#include <vector>

#include "base/check.h"
#include "device/cuda/emulated/emulated_gpu.h"

namespace colossus::gpu {
namespace {

float load(const std::byte* matrix, DType dtype, int64_t at) {
  if (dtype == DType::kBF16) return to_float(reinterpret_cast<const BFloat16*>(matrix)[at]);
  return reinterpret_cast<const float*>(matrix)[at];
}

void multiply(const GemmSpec& spec, const GemmOperands& operands) {
  const auto row_step = [](int64_t given, int64_t columns) { return given > 0 ? given : columns; };
  const int64_t ld_a = row_step(spec.ld_a, spec.transpose_a ? spec.m : spec.k);
  const int64_t ld_b = row_step(spec.ld_b, spec.transpose_b ? spec.k : spec.n);
  const int64_t ld_d = row_step(spec.ld_d, spec.n);
  for (int64_t which = 0; which < spec.batch; ++which) {
    for (int64_t i = 0; i < spec.m; ++i) {
      for (int64_t j = 0; j < spec.n; ++j) {
        double sum = 0;
        for (int64_t p = 0; p < spec.k; ++p) {
          const int64_t a = which * spec.stride_a + (spec.transpose_a ? p * ld_a + i : i * ld_a + p);
          const int64_t b = which * spec.stride_b + (spec.transpose_b ? j * ld_b + p : p * ld_b + j);
          sum += static_cast<double>(load(operands.a, spec.operands, a)) * load(operands.b, spec.operands, b);
        }
        const int64_t d = which * spec.stride_d + i * ld_d + j;
        float value = operands.alpha * static_cast<float>(sum);
        if (spec.has_bias) value += load(operands.bias, spec.result, j);
        if (spec.has_addend) value += load(operands.addend, spec.result, d);
        if (spec.result == DType::kBF16)
          reinterpret_cast<BFloat16*>(operands.d)[d] = to_bf16(value);
        else
          reinterpret_cast<float*>(operands.d)[d] = value;
      }
    }
  }
}

}  // namespace

struct Gemms::State {
  std::map<GemmSpec, int> numbers;
  std::vector<GemmSpec> specs;
};

Gemms::Gemms() : state_(std::make_unique<State>()) {}
Gemms::~Gemms() = default;
Result<std::unique_ptr<Gemms>> Gemms::make() { return std::unique_ptr<Gemms>(new Gemms); }

Result<int> Gemms::prepare(const GemmSpec& spec) {
  CHECK(spec.operands == DType::kBF16 || spec.result == DType::kF32);
  const auto [found, is_new] = state_->numbers.emplace(spec, static_cast<int>(state_->specs.size()));
  if (is_new) state_->specs.push_back(spec);
  return found->second;
}

void Gemms::run(Stream stream, int prepared, const GemmOperands& operands) {
  const GemmSpec spec = state_->specs.at(static_cast<size_t>(prepared));
  CHECK(!spec.has_bias || operands.bias);
  CHECK(!spec.has_addend || operands.addend);
  enqueue(stream, [spec, operands] { multiply(spec, operands); });
}

Status Gemms::status() const { return ok_status(); }

}  // namespace colossus::gpu
