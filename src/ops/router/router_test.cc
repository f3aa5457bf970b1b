#include "ops/router/router.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>

#include "device/cpu/cpu_kernel.h"
#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

OpCase router_case(const RouterAttributes& op, int64_t num_tokens, int64_t num_experts) {
  return {
      .name = fmt::format("tokens {} experts {} top_k {} softcap {} renormalize {} balance {} z {}", num_tokens,
                          num_experts, op.top_k, op.softcap, op.renormalize, op.balance_loss, op.z_loss),
      .write =
          [=](Builder& b, DType dtype) {
            b.emit(Router{op}, {b.input("logits", {1, num_tokens, num_experts}, dtype)});
            const std::vector<TensorId> outputs = b.last_outputs();
            b.mark_output(outputs[Router::kGates], "gates");
            b.mark_output(outputs[Router::kExperts], "experts");
            b.mark_output(outputs[Router::kProbs], "probs");
            b.mark_output(outputs[Router::kAux], "aux");
          },
      .without_gradient = {"probs"},
      .dtypes = {DType::kF32},
      .fill_scale = 2,
  };
}

TEST(Router, Cases) {
  for (const int64_t num_experts : {1, 7, 8, 16, 37})
    for (const int64_t top_k : {1, 2, 5})
      for (const bool renormalize : {false, true})
        if (top_k <= num_experts)
          run_op_case(router_case({.top_k = top_k, .renormalize = renormalize}, 13, num_experts));
}

TEST(Router, AuxiliaryLossesAndSoftcap) {
  for (const int64_t num_tokens : {1, 37, 300})
    for (const double softcap : {0.0, 3.0})
      for (const auto& [balance, z] : {std::pair<double, double>{0.3, 0}, {0, 0.2}, {0.3, 0.2}})
        run_op_case(
            router_case({.top_k = 2, .softcap = softcap, .renormalize = true, .balance_loss = balance, .z_loss = z},
                        num_tokens, 8));
}

// More experts than a warp has lanes, and than a lane keeps in registers.
TEST(Router, ManyExperts) {
  for (const int64_t num_experts : {128, 200, 600})
    run_op_case(router_case({.top_k = 3, .softcap = 3, .renormalize = true, .balance_loss = 0.3, .z_loss = 0.2}, 70,
                            num_experts));
}

TEST(Router, EqualLogits) {
  for (const int64_t num_experts : {8, 40}) {
    OpCase op_case = router_case({.top_k = 5, .balance_loss = 0.3}, 9, num_experts);
    op_case.check_gradient = false;
    op_case.fill = [](const Tensor&, View view) {
      for (int64_t i = 0; i < view.num_elements(); ++i) view.set(i, static_cast<double>(i * i % 5) - 2);
    };
    run_op_case(op_case);
  }
}

// Only one of gates and aux reaches a loss.
TEST(Router, PartialGradients) {
  for (const char* left_out : {"gates", "aux"}) {
    OpCase op_case = router_case({.top_k = 2, .balance_loss = 0.5, .z_loss = 0.1}, 11, 7);
    op_case.without_gradient.push_back(left_out);
    run_op_case(op_case);
  }
}

// Counts of slots that other ranks' tokens added to.
OpCase router_loss_case(const RouterAttributes& op, int64_t num_tokens, int64_t num_experts) {
  OpCase op_case = router_case(op, num_tokens, num_experts);
  op_case.without_gradient = {};
  op_case.write = [=](Builder& b, DType dtype) {
    const TensorId logits = b.input("logits", {1, num_tokens, num_experts}, dtype);
    b.mark_output(b.emit(RouterLoss{op}, {logits, b.input("counts", {num_experts}, DType::kI64)}), "aux");
  };
  op_case.fill = [=](const Tensor& tensor, View view) {
    for (int64_t e = 0; tensor.name == "counts" && e < num_experts; ++e)
      view.set(e, static_cast<double>(op.top_k * num_tokens * (e + 1)));
  };
  return op_case;
}

TEST(RouterLoss, Cases) {
  for (const int64_t num_tokens : {1, 37, 300})
    for (const int64_t num_experts : {1, 8, 37})
      for (const double softcap : {0.0, 3.0})
        for (const auto& [balance, z] : {std::pair<double, double>{0.3, 0}, {0, 0.2}, {0.3, 0.2}})
          run_op_case(router_loss_case({.top_k = 1, .softcap = softcap, .balance_loss = balance, .z_loss = z},
                                       num_tokens, num_experts));
}

TEST(ExpertCounts, Cases) {
  for (const int64_t num_experts : {1, 8, 37}) {
    OpCase op_case = router_case({.top_k = 1}, 37, num_experts);
    op_case.check_gradient = false;
    op_case.write = [=](Builder& b, DType) {
      const TensorId experts = b.input("experts", {1, 37, 2}, DType::kI32);
      b.mark_output(b.emit(ExpertCounts{.num_experts = num_experts}, {experts}), "counts");
    };
    op_case.fill = [=](const Tensor&, View view) {
      for (int64_t i = 0; i < view.num_elements(); ++i) view.set(i, static_cast<double>(i * i % num_experts));
    };
    run_op_case(op_case);
  }
}

struct Routed {
  std::vector<int32_t> experts;
  std::vector<float> gates;
};

Routed route(std::vector<float> logits, int64_t top_k, bool reference) {
  const auto num_experts = static_cast<int64_t>(logits.size());
  Routed routed{std::vector<int32_t>(static_cast<size_t>(top_k)), std::vector<float>(static_cast<size_t>(top_k))};
  std::vector<float> probs(logits.size());
  float aux = 0;
  const auto view = [](auto& values, Shape shape, DType dtype) {
    return View{reinterpret_cast<std::byte*>(values.data()), shape, dtype};
  };
  const View inputs[] = {view(logits, {1, num_experts}, DType::kF32)};
  const View outputs[] = {view(routed.gates, {1, top_k}, DType::kF32), view(routed.experts, {1, top_k}, DType::kI32),
                          view(probs, {1, num_experts}, DType::kF32),
                          View{reinterpret_cast<std::byte*>(&aux), {}, DType::kF32}};
  ThreadPool pool(1);
  std::vector<std::byte> workspace(1 << 16);
  const CpuCall call(pool, inputs, 1, outputs, 4, workspace.data(), nullptr);
  const Router op{{.top_k = top_k, .balance_loss = 1, .z_loss = 1}};
  if (reference)
    run_reference(op, call);
  else
    run_cpu(op, call);
  return routed;
}

TEST(Router, TiesGoToTheLowerIndex) {
  for (const bool reference : {false, true}) {
    EXPECT_THAT(route({1, 3, 3, 3, 2}, 3, reference).experts, ElementsAre(1, 2, 3));
    EXPECT_THAT(route({0, 0, 0, 0}, 2, reference).experts, ElementsAre(0, 1));
    EXPECT_THAT(route({-1, 2, -1, 2}, 3, reference).experts, ElementsAre(1, 3, 0));
  }
}

// Experts stay distinct and in range, and the gates tell that something is wrong.
TEST(Router, NaNLogits) {
  const float nan = std::nanf("");
  const float infinity = INFINITY;
  for (const bool reference : {false, true}) {
    EXPECT_THAT(route({nan, 1, 2}, 2, reference).experts, ElementsAre(2, 1));
    EXPECT_THAT(route({1, nan, nan, -infinity}, 3, reference).experts, ElementsAre(0, 3, 1));
    const Routed all = route({nan, nan, nan}, 2, reference);
    EXPECT_THAT(all.experts, ElementsAre(0, 1));
    EXPECT_TRUE(std::isnan(all.gates[0]));
    EXPECT_THAT(route({-infinity, -infinity}, 2, reference).experts, ElementsAre(0, 1));
  }
}

TEST(Router, ErrorsNameTheOperand) {
  const auto error = [](const RouterAttributes& op, DType dtype) {
    return write_error([=](Builder& b) { b.emit(Router{op}, {b.input("logits", {2, 3, 8}, dtype)}); });
  };
  EXPECT_THAT(error({.top_k = 9}, DType::kF32), HasSubstr("router.top_k: got 9; needed 1 to 8"));
  EXPECT_THAT(error({.top_k = 0}, DType::kF32), HasSubstr("router.top_k: got 0"));
  EXPECT_THAT(error({}, DType::kBF16), HasSubstr("router.logits: got [2, 3, 8] bf16; needed f32"));
  EXPECT_THAT(write_error([](Builder& b) {
                b.emit(RouterLoss{}, {b.input("logits", {2, 3, 8}, DType::kF32), b.input("counts", {7}, DType::kI64)});
              }),
              HasSubstr("router_loss.counts: got [7] i64; needed [8]: one count for each expert"));
}

}  // namespace
}  // namespace colossus
