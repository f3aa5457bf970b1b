#include <cmath>
#include <cstdlib>

#include "device/cpu/cpu_kernel.h"
#include "device/cpu/elements.h"
#include "device/cpu/simd.h"
#include "ops/rotary/rotary.h"
#include "ops/rotary/rotary_simd.h"

namespace colossus {
namespace {

// Floats of workspace, in pieces of whole cache lines: the frequencies, then each thread's cosines and sines of one
// token.
int64_t piece_floats(const Rotary& op) { return (op.head_dim / 2 + 15) / 16 * 16; }

// theta^(-2 i / D) by repeated products: in double they round to the same floats as the powers do.
void write_frequencies(const Rotary& op, float* frequencies) {
  const double ratio = std::pow(op.theta, -2.0 / static_cast<double>(op.head_dim));
  double frequency = 1;
  for (int64_t i = 0; i < op.head_dim / 2; ++i, frequency *= ratio)
    frequencies[i] = static_cast<float>(op.stretched.stretch(frequency));
}

void exact_angles(float position, const float* frequencies, int64_t count, float* cosines, float* sines) {
  for (int64_t i = 0; i < count; ++i) {
    const double phase = position * frequencies[i];
    cosines[i] = static_cast<float>(std::cos(phase));
    sines[i] = static_cast<float>(std::sin(phase));
  }
}

template <class T>
class RotaryRun {
 public:
  RotaryRun(const Rotary& op, const CpuCall& call)
      : op_(op),
        call_(call),
        x_(call.input(Rotary::kX)),
        half_(op.head_dim / 2),
        piece_(piece_floats(op)),
        frequencies_(reinterpret_cast<float*>(call.workspace)),
        kernels_(select_isa(rotary_kernels<Avx512, T>(), rotary_kernels<Avx2, T>())) {
    write_frequencies(op, frequencies_);
  }

  // Without positions a column's angles serve all samples.
  void run() {
    const bool own_positions = call_.has_input(Rotary::kPositions);
    const int64_t B = x_.shape[0], T_tokens = x_.shape[1], num_angles = own_positions ? B * T_tokens : T_tokens;
    const int num_threads = call_.pool.num_threads();
    const auto part_of_angles = [&](int part) {
      for (int64_t at = num_angles * part / num_threads; at < num_angles * (part + 1) / num_threads; ++at) {
        write_angles(own_positions ? call_.input(Rotary::kPositions).as<int32_t>()[at] : at, part);
        for (int64_t b = 0; b < (own_positions ? 1 : B); ++b) turn(b * T_tokens + at, part);
      }
    };
    constexpr int64_t kWorthThreads = 8192;  // elements
    if (x_.num_elements() >= kWorthThreads) return call_.pool.run(part_of_angles);
    for (int part = 0; part < num_threads; ++part) part_of_angles(part);
  }

 private:
  float* cosines(int part) const { return frequencies_ + piece_ * (1 + 2 * part); }
  float* sines(int part) const { return cosines(part) + piece_; }

  void write_angles(int64_t position, int part) const {
    // Turning back is turning by the opposite angle.
    const auto signed_position = static_cast<float>(op_.inverse ? -position : position);
    const bool fits = std::abs(position) <= kMostRotaryPosition && op_.theta >= 1;
    const auto angles = fits ? kernels_.angles : exact_angles;
    angles(signed_position, frequencies_, half_, cosines(part), sines(part));
  }
  void turn(int64_t token, int part) const {
    const int64_t width = x_.shape[2], at = token * width;
    kernels_.turn(elements<T>(x_) + at, cosines(part), sines(part), width / op_.head_dim, half_,
                  elements<T>(call_.output(Rotary::kY)) + at);
  }

  const Rotary& op_;
  const CpuCall& call_;
  const View& x_;
  const int64_t half_, piece_;
  float* const frequencies_;
  const RotaryKernels<T>& kernels_;
};

}  // namespace

template <>
void prepare_cpu(const Rotary& op, CpuPrepare& prepare) {
  prepare.workspace_bytes = piece_floats(op) * (1 + 2 * prepare.num_threads) * int64_t{sizeof(float)};
}

template <>
void run_cpu(const Rotary& op, const CpuCall& call) {
  visit_elements(call.input(Rotary::kX).dtype, [&]<class T>() { RotaryRun<T>(op, call).run(); });
}

}  // namespace colossus
