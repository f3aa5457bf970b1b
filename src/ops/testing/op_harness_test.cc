#include "ops/testing/op_harness.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <memory>

#include "base/rng.h"
#include "device/cpu/cpu_device.h"
#include "device/cuda/cuda_device.h"
#include "program/passes.h"

namespace colossus {
namespace {

// The elements of one tensor, by value.
class Values {
 public:
  explicit Values(const TensorType& type) : type_(type), bytes_(static_cast<size_t>(type.num_bytes())) {}
  View view() { return {bytes_.data(), type_.shape, type_.dtype}; }
  std::vector<double> as_doubles() {
    std::vector<double> result(static_cast<size_t>(type_.shape.num_elements()));
    for (size_t i = 0; i < result.size(); ++i) result[i] = view().get(static_cast<int64_t>(i));
    return result;
  }
  std::vector<std::byte>& bytes() { return bytes_; }
  const TensorType& type() const { return type_; }
  bool operator==(const Values& other) const { return bytes_ == other.bytes_; }

 private:
  TensorType type_;
  std::vector<std::byte> bytes_;
};

using NamedValues = std::map<std::string, Values>;

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// A function of the tensor's name, so that the forward program and its derivative see the same numbers.
Values initial_values(const OpCase& op_case, const Tensor& tensor) {
  Values values(tensor.type);
  const View view = values.view();
  uint64_t seed = 14695981039346656037ULL;  // FNV-1a
  for (const char c : tensor.name) seed = (seed ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  for (int64_t i = 0; is_float(tensor.type.dtype) && i < view.num_elements(); ++i)
    view.set(
        i, op_case.fill_scale * random_normal({.seed = seed, .purpose = RngPurpose::kTest}, static_cast<uint64_t>(i)));
  if (op_case.fill) op_case.fill(tensor, view);
  return values;
}

// A program compiled for one device, with memory for everything outside the arena.
class Machine {
 public:
  Machine(std::unique_ptr<Device> device, const OpCase& op_case, Program program)
      : device_(std::move(device)), op_case_(op_case), program_(program) {
    auto compiled = device_->compile(std::move(program));
    CHECK(compiled.ok(), compiled.ok() ? "" : compiled.status().message().c_str());
    executable_ = std::move(compiled).value();
    memories_.resize(program_.tensors.size());
    for (size_t i = 0; i < program_.tensors.size(); ++i) {
      const Tensor& tensor = program_.tensors[i];
      if (in_arena(tensor.role) || tensor.base) continue;
      memories_[i] = std::move(device_->allocate(tensor.type.num_bytes())).value();
      executable_->bind({static_cast<int32_t>(i)}, memories_[i]);
    }
  }

  void write(TensorId id, Values values) {
    device_->write(*memories_[static_cast<size_t>(id.index)], 0, values.bytes());
  }
  // Gives every bound tensor its initial values; gradients zeros when asked, else random ones to be added to.
  void write_initial_values(bool zero_gradients = false) {
    for (size_t i = 0; i < program_.tensors.size(); ++i) {
      const Tensor& tensor = program_.tensors[i];
      if (!memories_[i]) continue;
      const bool zero = zero_gradients && tensor.role == Role::kGradient;
      write({static_cast<int32_t>(i)}, zero ? Values(tensor.type) : initial_values(op_case_, tensor));
    }
  }
  // Outputs and, in their state after the run, the tensors that operations may write in place.
  NamedValues run() {
    CHECK(executable_->run().ok());
    CHECK(device_->synchronize().ok());
    NamedValues results;
    for (size_t i = 0; i < program_.tensors.size(); ++i) {
      const Tensor& tensor = program_.tensors[i];
      Values values(tensor.type);
      if (tensor.role == Role::kOutput)
        executable_->read_output({static_cast<int32_t>(i)}, values.bytes());
      else if (may_be_mutated(tensor.role) && !tensor.base)
        device_->read(*memories_[i], 0, values.bytes());
      else
        continue;
      results.emplace(tensor.name, std::move(values));
    }
    return results;
  }
  NamedValues run_from_initial_values() {
    write_initial_values();
    return run();
  }

 private:
  std::unique_ptr<Device> device_;
  const OpCase& op_case_;
  Program program_;
  std::unique_ptr<Executable> executable_;
  std::vector<std::shared_ptr<DeviceMemory>> memories_;
};

std::unique_ptr<Device> fast_device(int num_threads) { return make_cpu_device({.num_threads = num_threads}).value(); }
std::unique_ptr<Device> reference_device() { return make_cpu_device({.num_threads = 1, .reference = true}).value(); }

// The forward program as written, and with its derivative. `seeds` holds (output, its gradient) by name.
struct Written {
  Program forward;
  Program program;
  std::vector<std::pair<std::string, std::string>> seeds;
};

Result<Written> write_case(const OpCase& op_case, DType dtype) {
  Builder builder(op_case.name);
  op_case.write(builder, dtype);
  Written written;
  ASSIGN_OR_RETURN(written.forward, builder.finish());
  RETURN_IF_ERROR(verify(written.forward));
  written.program = written.forward;
  if (!op_case.check_gradient) return written;

  Builder seeded(written.forward);
  std::vector<GradientSeed> seeds;
  for (TensorId output : written.forward.with_role(Role::kOutput)) {
    const Tensor& tensor = written.forward.tensor(output);
    if (!is_float(tensor.type.dtype) || contains(op_case.without_gradient, tensor.name)) continue;
    written.seeds.emplace_back(tensor.name, "seed." + tensor.name);
    seeds.push_back({output, seeded.declare("seed." + tensor.name, tensor.type, Role::kInput)});
  }
  std::vector<TensorId> wanted;
  for (TensorId input : written.forward.with_role(Role::kInput)) {
    const Tensor& tensor = written.forward.tensor(input);
    if (is_float(tensor.type.dtype) && !contains(op_case.without_gradient, tensor.name)) wanted.push_back(input);
  }
  ASSIGN_OR_RETURN(Program with_seeds, seeded.finish());
  ASSIGN_OR_RETURN(written.program, differentiate(std::move(with_seeds), seeds, wanted));
  RETURN_IF_ERROR(verify(written.program));
  return written;
}

double rms(const std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  return x.empty() ? 0 : std::sqrt(sum / static_cast<double>(x.size()));
}

void expect_close(const std::string& name, Values& got, Values& want, const OpCase& op_case, DType activations) {
  const Tolerance tolerance = tolerance_of(activations);
  const double element_tolerance = tolerance.element * op_case.tolerance_scale;
  const std::vector<double> a = got.as_doubles(), b = want.as_doubles();
  const double size = rms(b) + op_case.cancelling_terms;
  std::vector<double> differences(a.size());
  double worst = -1;
  size_t worst_at = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    // Infinities of the same sign agree; a NaN never does.
    differences[i] = a[i] == b[i] ? 0 : a[i] - b[i];
    const double excess = std::abs(differences[i]) - element_tolerance * (std::abs(b[i]) + size);
    const double rated = std::isnan(excess) ? std::numeric_limits<double>::infinity() : excess;
    if (rated > worst) worst = rated, worst_at = i;
  }
  EXPECT_LE(worst, 0) << name << " " << want.type().shape.to_string() << ": element " << worst_at << " is "
                      << a[worst_at] << ", the reference " << b[worst_at] << ", rms " << size;
  EXPECT_LE(rms(differences), tolerance.rms * op_case.tolerance_scale * size)
      << name << ": rms error relative to rms " << size << " is " << rms(differences) / size;
}

void expect_same_bits(const NamedValues& once, const NamedValues& again, const char* what) {
  for (const auto& [name, values] : again) EXPECT_TRUE(values == once.at(name)) << name << " changed with " << what;
}

void expect_fast_agrees_with_reference(const OpCase& op_case, DType dtype) {
  auto written = write_case(op_case, dtype);
  ASSERT_TRUE(written.ok()) << written.status().message();
  const Program& program = written->program;

  NamedValues want = Machine(reference_device(), op_case, program).run_from_initial_values();
  const auto expect_agreement = [&](NamedValues& got) {
    for (auto& [name, values] : got) {
      Values& reference = want.at(name);
      if (is_float(values.type().dtype))
        expect_close(name, values, reference, op_case, dtype);
      else
        EXPECT_EQ(values.as_doubles(), reference.as_doubles()) << name;
    }
  };
  Machine two_threads(fast_device(2), op_case, program);
  NamedValues got = two_threads.run_from_initial_values();
  expect_agreement(got);
  expect_same_bits(got, two_threads.run_from_initial_values(), "a second run");
  expect_same_bits(got, Machine(fast_device(1), op_case, program).run_from_initial_values(), "1 thread");
  expect_same_bits(got, Machine(fast_device(3), op_case, program).run_from_initial_values(), "3 threads");
  // The kernels for GPUs, once: they do not know the processor's instruction set.
  if (std::getenv("COLOSSUS_ISA")) return;
  SCOPED_TRACE("GPU");
  Machine gpu(make_cuda_device().value(), op_case, program);
  NamedValues on_gpu = gpu.run_from_initial_values();
  expect_agreement(on_gpu);
  expect_same_bits(on_gpu, gpu.run_from_initial_values(), "another order of blocks");
}

// Sum over seeded outputs of seed * output: the scalar whose gradient the derivative program computes.
double seeded_sum(const Written& written, NamedValues outputs,
                  const std::map<std::string, std::vector<double>>& seeds) {
  double sum = 0;
  for (const auto& [output, seed] : written.seeds) {
    const std::vector<double> values = outputs.at(output).as_doubles();
    const std::vector<double>& weights = seeds.at(seed);
    for (size_t i = 0; i < values.size(); ++i) sum += values[i] * weights[i];
  }
  return sum;
}

void expect_numerical_gradients(const OpCase& op_case) {
  constexpr int64_t kSamples = 12;  // of each tensor
  constexpr double kStep = 1e-5;
  auto written = write_case(op_case, DType::kF64);
  ASSERT_TRUE(written.ok()) << written.status().message();
  Machine derivative(reference_device(), op_case, written->program);
  derivative.write_initial_values(/*zero_gradients=*/true);
  NamedValues gradients = derivative.run();
  std::map<std::string, std::vector<double>> seeds;
  for (const auto& [output, seed] : written->seeds)
    seeds[seed] = initial_values(op_case, written->program.tensor(written->program.find(seed))).as_doubles();

  Machine forward(reference_device(), op_case, written->forward);
  forward.write_initial_values();
  int num_checked = 0;
  for (size_t t = 0; t < written->forward.tensors.size(); ++t) {
    const Tensor& tensor = written->forward.tensors[t];
    const auto found = gradients.find("grad." + tensor.name);
    if (found == gradients.end()) {
      EXPECT_NE(tensor.role, Role::kParameter) << tensor.name << " has no gradient";
      continue;
    }
    const TensorId id{static_cast<int32_t>(t)};
    const std::vector<double> analytic = found->second.as_doubles();
    const double size = rms(analytic);
    const Values initial = initial_values(op_case, tensor);
    const auto sum_with = [&](int64_t i, double step) {
      Values moved = initial;
      moved.view().set(i, moved.view().get(i) + step);
      forward.write(id, moved);
      return seeded_sum(*written, forward.run(), seeds);
    };
    const int64_t count = tensor.type.shape.num_elements(), samples = std::min(count, kSamples);
    for (int64_t s = 0; s < samples; ++s) {
      const int64_t i = samples == count ? s : (s * count + count / 2) / samples;
      const double numerical = (sum_with(i, kStep) - sum_with(i, -kStep)) / (2 * kStep);
      const double exact = analytic[static_cast<size_t>(i)];
      EXPECT_NEAR(exact, numerical, kNumericalGradientTolerance * (std::abs(numerical) + size + 1e-3))
          << "gradient of " << tensor.name << " " << tensor.type.shape.to_string() << ", element " << i;
      ++num_checked;
    }
    forward.write(id, initial);
  }
  EXPECT_GT(num_checked, 0) << "nothing has a gradient: set check_gradient = false";
}

}  // namespace

void run_op_case(const OpCase& op_case) {
  for (const DType dtype : op_case.dtypes) {
    SCOPED_TRACE(fmt::format("{}, {}", op_case.name, dtype_name(dtype)));
    expect_fast_agrees_with_reference(op_case, dtype);
  }
  if (!op_case.check_gradient) return;
  SCOPED_TRACE(fmt::format("{}, numerical gradient", op_case.name));
  expect_numerical_gradients(op_case);
}

std::string write_error(const std::function<void(Builder&)>& write) {
  Builder builder("test");
  write(builder);
  EXPECT_FALSE(builder.status().ok()) << "the program was accepted";
  return builder.status().ok() ? "" : builder.status().message();
}

}  // namespace colossus
