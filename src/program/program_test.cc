#include "program/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "program/builder.h"
#include "program/memory_plan.h"
#include "program/passes.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

// y = x + relu2(norm(x) @ w), then its mean loss is seeded by the input dy.
Program residual_block(Builder& b, TensorId* y_out = nullptr) {
  const TensorId x = b.input("x", {2, 3, 8}, DType::kF32), dy = b.input("dy", {2, 3, 8}, DType::kF32);
  const TensorId scale = b.parameter("scale", {8}), w = b.parameter("w", {8, 8});
  TensorId y, norm;
  {
    Scope scope(b, "layers.0");
    norm = b.emit(RmsNorm{}, {x, scale});
    y = b.emit(Activation{{.kind = ActivationKind::kRelu2}}, {b.emit(Matmul{}, {norm, w})});
    y = b.emit(Add{}, {x, y});
  }
  b.mark_output(y, "y");
  if (y_out) *y_out = y;
  (void)dy;
  auto program = b.finish();
  EXPECT_TRUE(program.ok()) << program.status().message();
  return *program;
}

int count_ops(const Program& program, std::string_view name) {
  int count = 0;
  for (const Operation& operation : program.operations) count += op_name(operation.op) == name;
  return count;
}

TEST(Builder, NamesOperationAndOperandOfAWrongShape) {
  Builder b("p");
  const TensorId x = b.input("x", {2, 3, 8}, DType::kF32), w = b.parameter("w", {7, 5});
  Scope scope(b, "layers.3.attn");
  EXPECT_FALSE(b.emit(Matmul{}, {x, w}));
  EXPECT_THAT(b.status().message(), HasSubstr("matmul.b"));
  EXPECT_THAT(b.status().message(), HasSubstr("[7, 5]"));
  EXPECT_THAT(b.status().message(), HasSubstr("layers.3.attn"));
}

TEST(Builder, FirstErrorStays) {
  Builder b("p");
  const TensorId x = b.input("x", {4}, DType::kF32), y = b.input("y", {5}, DType::kF32);
  b.emit(Add{}, {x, y});
  const std::string first = b.status().message();
  b.emit(Add{}, {x, TensorId{}});
  EXPECT_EQ(b.status().message(), first);
  EXPECT_FALSE(b.finish().ok());
}

TEST(Builder, MissingOperandIsNamed) {
  Builder b("p");
  b.emit(Add{}, {b.input("x", {4}, DType::kF32)});
  EXPECT_THAT(b.status().message(), HasSubstr("add.b: got nothing"));
}

TEST(Builder, RedeclaringWithAnotherShapeFails) {
  Builder b("p");
  EXPECT_EQ(b.parameter("w", {2, 2}), b.parameter("w", {2, 2}));
  b.parameter("w", {2, 3});
  EXPECT_THAT(b.status().message(), HasSubstr("declared twice"));
}

TEST(Verify, AcceptsWhatTheBuilderWrites) {
  Builder b("p");
  EXPECT_TRUE(verify(residual_block(b)).ok());
}

TEST(Verify, FindsEveryFault) {
  Builder b("p");
  const Program good = residual_block(b);
  Program use_before_write = good;
  std::swap(use_before_write.operations[0], use_before_write.operations[1]);
  EXPECT_THAT(verify(use_before_write).message(), HasSubstr("before it is written"));

  Program written_twice = good;
  written_twice.operations.push_back(written_twice.operations[0]);
  EXPECT_THAT(verify(written_twice).message(), HasSubstr("again"));

  Program wrong_type = good;
  wrong_type.tensor(wrong_type.operations[1].outputs[0]).type.shape = {2, 3, 9};
  EXPECT_THAT(verify(wrong_type).message(), HasSubstr("the operation makes [2, 3, 8]"));

  Program foreign = good;
  foreign.operations[0].inputs[0] = {1000};
  EXPECT_THAT(verify(foreign).message(), HasSubstr("names no tensor"));

  Program missing = good;
  missing.operations[0].inputs[RmsNorm::kScale] = {};
  EXPECT_THAT(verify(missing).message(), HasSubstr("required operand scale is absent"));

  Program mutates_input = good;
  Operation bad{BiasGrad{}, {good.find("x"), good.find("x")}, {}, "", Phase::kBackward};
  mutates_input.operations.push_back(bad);
  EXPECT_THAT(verify(mutates_input).message(), HasSubstr("in place"));

  Program twins = good;
  twins.tensors[1].name = twins.tensors[0].name;
  EXPECT_THAT(verify(twins).message(), HasSubstr("two tensors are called"));

  // Of a stash, what another program wrote may be read, but nothing twice and nothing too early.
  Program stashed = good;
  stashed.tensor(good.operations[1].outputs[0]).role = Role::kStash;
  EXPECT_TRUE(verify(stashed).ok()) << verify(stashed).message();
  Program rest = stashed;
  rest.operations.erase(rest.operations.begin(), rest.operations.begin() + 2);
  EXPECT_TRUE(verify(rest).ok()) << verify(rest).message();
  std::swap(stashed.operations[1], stashed.operations[2]);
  EXPECT_THAT(verify(stashed).message(), HasSubstr("which was read before"));

  Program unwritten = good;
  unwritten.operations.pop_back();
  EXPECT_THAT(verify(unwritten).message(), HasSubstr("output y is never written"));
}

TEST(Differentiate, WritesGradientsOfParametersOnly) {
  Builder b("p");
  TensorId y;
  Program forward = residual_block(b, &y);
  const GradientSeed seeds[] = {{y, forward.find("dy")}};
  const auto program = differentiate(forward, seeds);
  ASSERT_TRUE(program.ok()) << program.status().message();
  EXPECT_TRUE(verify(*program).ok()) << verify(*program).message();
  EXPECT_TRUE(program->find("grad.w"));
  EXPECT_TRUE(program->find("grad.scale"));
  EXPECT_FALSE(program->find("grad.x"));
  EXPECT_EQ(program->tensor(program->find("grad.w")).role, Role::kGradient);
}

TEST(Differentiate, SumsOverUsesOfAWantedInput) {
  Builder b("p");
  TensorId y;
  Program forward = residual_block(b, &y);
  const GradientSeed seeds[] = {{y, forward.find("dy")}};
  const TensorId wanted[] = {forward.find("x")};
  const auto program = differentiate(forward, seeds, wanted);
  ASSERT_TRUE(program.ok()) << program.status().message();
  EXPECT_EQ(program->tensor(program->find("grad.x")).role, Role::kOutput);
  EXPECT_EQ(count_ops(*program, "add"), 2);  // the residual, and the sum of x's two gradients
}

TEST(Differentiate, RefusesAnOperationWithoutAdjoint) {
  Builder b("p");
  const TensorId x = b.parameter("x", {2, 3, 8});
  const TensorId y = b.emit(SelectToken{}, {x, b.input("index", {2}, DType::kI32)});
  const TensorId dy = b.input("dy", {2, 1, 8}, DType::kF32);
  b.mark_output(y, "y");
  const GradientSeed seeds[] = {{y, dy}};
  EXPECT_THAT(differentiate(*b.finish(), seeds).status().message(), HasSubstr("select_token"));
}

TEST(Fuse, ActivationJoinsItsMatmulOnlyWithoutAdjoint) {
  Builder b("p");
  TensorId y;
  const Program forward = residual_block(b, &y);
  EXPECT_EQ(count_ops(fuse(forward), "activation"), 0);
  const GradientSeed seeds[] = {{y, forward.find("dy")}};
  EXPECT_EQ(count_ops(fuse(*differentiate(forward, seeds)), "activation"), 1);
}

TEST(Fuse, AdditionsJoinWhatMadeATerm) {
  Builder b("p");
  const TensorId x = b.input("x", {2, 8}, DType::kF32), w = b.parameter("w", {8, 8});
  const TensorId y = b.emit(Add{}, {x, b.emit(Matmul{}, {x, w})});
  const TensorId z = b.emit(Add{}, {y, b.emit(RmsNorm{}, {y, b.parameter("scale", {8})})});
  b.mark_output(z, "z");
  const Program fused = fuse(*b.finish());
  EXPECT_EQ(count_ops(fused, "add"), 0);
  EXPECT_TRUE(verify(fused).ok()) << verify(fused).message();
}

TEST(EliminateDead, KeepsWhatIsReadOrChangesMemory) {
  Builder b("p");
  const TensorId x = b.input("x", {2, 8}, DType::kF32);
  b.emit(Scale{.factor = 2}, {x});
  b.emit(BiasGrad{}, {x, b.declare("grad.bias", {{8}, DType::kF32}, Role::kGradient)});
  b.mark_output(b.emit(Scale{.factor = 3}, {x}), "y");
  const Program program = eliminate_dead(*b.finish());
  EXPECT_EQ(count_ops(program, "scale"), 1);
  EXPECT_EQ(count_ops(program, "bias_grad"), 1);
}

TEST(Recompute, SelectiveMakesNormsAgainAndKeepsMatmuls) {
  Builder b("p");
  TensorId y;
  const Program forward = residual_block(b, &y);
  const GradientSeed seeds[] = {{y, forward.find("dy")}};
  const Program program = fuse(*differentiate(forward, seeds));
  const Program again = recompute(program, Recompute::kSelective);
  EXPECT_TRUE(verify(again).ok()) << verify(again).message();
  EXPECT_EQ(count_ops(again, "rms_norm"), count_ops(program, "rms_norm") + 1);
  EXPECT_EQ(count_ops(again, "matmul"), count_ops(program, "matmul"));
  EXPECT_GT(count_ops(recompute(program, Recompute::kFull), "matmul"), count_ops(program, "matmul"));
}

// No two blocks that live at the same time may share a byte.
TEST(MemoryPlan, LiveTensorsNeverOverlap) {
  Builder b("p");
  TensorId y;
  const Program forward = residual_block(b, &y);
  const GradientSeed seeds[] = {{y, forward.find("dy")}};
  const Program program = *differentiate(forward, seeds);
  const MemoryPlan plan = plan_memory(program, [](int at) { return int64_t{100} * (at % 3); });
  std::vector<int> first(program.tensors.size(), -1), last(program.tensors.size(), -1);
  for (size_t at = 0; at < program.operations.size(); ++at)
    for (const auto* ids : {&program.operations[at].inputs, &program.operations[at].outputs})
      for (TensorId id : *ids)
        if (id) {
          auto& f = first[static_cast<size_t>(id.index)];
          if (f < 0) f = static_cast<int>(at);
          last[static_cast<size_t>(id.index)] = static_cast<int>(at);
        }
  int64_t checked = 0;
  for (size_t i = 0; i < program.tensors.size(); ++i)
    for (size_t j = i + 1; j < program.tensors.size(); ++j) {
      if (plan.tensor_offset[i] < 0 || plan.tensor_offset[j] < 0 || last[i] < first[j] || last[j] < first[i]) continue;
      const int64_t i_end = plan.tensor_offset[i] + program.tensors[i].type.num_bytes();
      const int64_t j_end = plan.tensor_offset[j] + program.tensors[j].type.num_bytes();
      EXPECT_TRUE(i_end <= plan.tensor_offset[j] || j_end <= plan.tensor_offset[i])
          << program.tensors[i].name << " and " << program.tensors[j].name;
      ++checked;
    }
  EXPECT_GT(checked, 3);
  EXPECT_GE(plan.arena_bytes, plan.live_peak_bytes);
  EXPECT_EQ(plan.parameter_bytes, (8 + 64) * 4);
}

}  // namespace
}  // namespace colossus
