#include "parallel/pipeline_cut.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "program/builder.h"
#include "program/passes.h"

namespace colossus {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// An embedding e, three layers, a norm and a head. Layer 1 is h + e @ w alone, so that e goes from the first piece to
// the second, and the gradient of h comes out of the layer as it went in.
Program microbatch(bool e_in_layer_2 = false) {
  Builder b("microbatch");
  const TensorId tokens = b.input("tokens", {1, 4}, DType::kI32), targets = b.input("targets", {1, 4}, DType::kI32);
  const TensorId loss_grad = b.input("loss_grad", {}, DType::kF32);
  const TensorId e = b.emit(Embedding{}, {b.parameter("embedding", {10, 8}), tokens}, "e");
  TensorId h = e;
  for (int layer = 0; layer < 3; ++layer) {
    Scope scope(b, "layers." + std::to_string(layer));
    const TensorId w = b.parameter(b.scope() + ".w", {8, 8});
    const bool plain = layer == 1 && !e_in_layer_2;
    const TensorId x =
        plain || (layer == 2 && e_in_layer_2) ? e : b.emit(RmsNorm{}, {h, b.parameter(b.scope() + ".norm", {8})}, "x");
    h = b.emit(Add{}, {h, b.emit(Matmul{}, {x, w}, "y")}, "h");
  }
  const TensorId last = b.emit(RmsNorm{}, {h, b.parameter("final_norm", {8})});
  b.emit(HeadCrossEntropy{}, {last, b.parameter("head", {10, 8}), targets});
  b.mark_output(b.last_outputs()[HeadCrossEntropy::kLoss], "loss");
  Program program = *b.finish();
  const GradientSeed seeds[] = {{program.find("loss"), loss_grad}};
  return eliminate_dead(fuse(*differentiate(std::move(program), seeds)));
}

const std::vector<LayerRange> kOneEach = {{0, 1}, {1, 2}, {2, 3}};

std::vector<const Program*> programs_of(const PipelinePiece& piece) {
  std::vector<const Program*> programs = {&piece.forward, &piece.backward};
  for (const Program* program : {&piece.backward_weight, &piece.receive_forward, &piece.receive_backward})
    if (!program->operations.empty()) programs.push_back(program);
  return programs;
}

std::vector<std::string> operations_of(const Program& program) {
  std::vector<std::string> names;
  for (const Operation& operation : program.operations) {
    names.emplace_back(op_name(operation.op));
    const RankGroup* group = group_of(operation.op);
    if (group) names.back() += group->name().substr(group->name().find('.'));
  }
  return names;
}

// What goes over a link, in order, as types.
std::vector<TensorType> transfers(const Program& program, Link link) {
  std::vector<TensorType> types;
  for (const Operation& operation : program.operations)
    if (const RankGroup* group = group_of(operation.op); group && group->link == link)
      types.push_back(program.tensor(operation.inputs.empty() ? operation.outputs[0] : operation.inputs[0]).type);
  return types;
}

TEST(PipelineCut, PiecesDoTogetherWhatTheWholeDoes) {
  const std::vector<std::vector<LayerRange>> cuts = {
      {{0, 3}}, {{0, 1}, {1, 3}}, kOneEach, {{0, 0}, {0, 2}, {2, 2}, {2, 3}, {3, 3}}};
  for (bool e_in_layer_2 : {false, true}) {
    const Program whole = microbatch(e_in_layer_2);
    for (const auto& layers : cuts)
      for (bool split : {false, true}) {
        double flops = 0;
        std::multiset<std::string> gradients, expected;
        std::vector<PipelinePiece> pieces;
        for (size_t i = 0; i < layers.size(); ++i) {
          auto piece =
              cut_pipeline_piece(whole, {.layers = layers, .piece = static_cast<int64_t>(i), .split_backward = split});
          ASSERT_TRUE(piece.ok()) << piece.status().message();
          for (const Program* program : programs_of(*piece)) {
            EXPECT_TRUE(verify(*program).ok()) << verify(*program).message();
            for (const Operation& operation : program->operations)
              if (!std::holds_alternative<Scale>(operation.op)) flops += cost_of(*program, operation).flops;
            for (const TensorId id : program->with_role(Role::kGradient)) gradients.insert(program->tensor(id).name);
          }
          EXPECT_THAT(piece->shared_parameters, IsEmpty());
          pieces.push_back(std::move(*piece));
        }
        for (const TensorId id : whole.with_role(Role::kGradient)) expected.insert(whole.tensor(id).name);
        EXPECT_EQ(flops, total_cost(whole).flops);
        EXPECT_EQ(gradients, expected);
        for (size_t i = 0; i + 1 < pieces.size(); ++i) {
          const auto activations = transfers(pieces[i].forward, Link::kToNext);
          EXPECT_FALSE(activations.empty());
          EXPECT_EQ(activations, transfers(pieces[i + 1].receive_forward, Link::kFromPrevious));
          const auto grads = transfers(pieces[i + 1].backward, Link::kToPrevious);
          EXPECT_FALSE(grads.empty());
          EXPECT_EQ(grads, transfers(pieces[i].receive_backward, Link::kFromNext));
        }
      }
  }
}

TEST(PipelineCut, SendsWhatNeighboursReadAndNoMore) {
  const Program whole = microbatch();
  const PipelinePiece first = *cut_pipeline_piece(whole, {.layers = kOneEach, .piece = 0});
  // e first: it was written first.
  EXPECT_THAT(operations_of(first.forward),
              ElementsAre("embedding", "send.to_next", "rms_norm", "matmul", "send.to_next"));
  const PipelinePiece last = *cut_pipeline_piece(whole, {.layers = kOneEach, .piece = 2});
  EXPECT_THAT(operations_of(last.receive_forward), ElementsAre("receive.from_previous"));
  EXPECT_THAT(operations_of(last.receive_backward), IsEmpty());
  EXPECT_THAT(operations_of(last.forward), ElementsAre("rms_norm", "matmul", "rms_norm"));
  EXPECT_THAT(operations_of(last.backward), ElementsAre("head_cross_entropy_grad", "rms_norm_grad", "matmul", "matmul",
                                                        "rms_norm_grad", "send.to_previous"));
  EXPECT_EQ(last.backward.tensor(last.backward.find("loss")).role, Role::kOutput);
  // Kept are the operands of the norms (twice h and rstd), of the matmul and of the head; what is sent is not. The
  // first h came from the neighbour, and stays where it came to.
  EXPECT_EQ(last.stashes[StashKind::kForwardBackward].num_bytes, 3 * 128 + 2 * 64);
  EXPECT_EQ(last.stashes[StashKind::kInboxForwardBackward].num_bytes, 128);
  EXPECT_EQ(last.stashes[StashKind::kInbox].num_bytes, 0);
  EXPECT_EQ(last.stashes[StashKind::kOutbox].num_bytes, 128);
  // e is sent from where its norm needs it.
  EXPECT_EQ(first.stashes[StashKind::kOutbox].num_bytes, 128);
}

// A piece between hands on what it does not read.
TEST(PipelineCut, PiecesBetweenHandOn) {
  const PipelinePiece middle = *cut_pipeline_piece(microbatch(true), {.layers = kOneEach, .piece = 1});
  EXPECT_THAT(operations_of(middle.receive_forward), ElementsAre("receive.from_previous", "receive.from_previous"));
  // As a copy: the inbox is the next one's before the neighbour has taken it.
  EXPECT_THAT(operations_of(middle.forward),
              ElementsAre("scale", "send.to_next", "rms_norm", "matmul", "send.to_next"));
  EXPECT_EQ(transfers(middle.receive_backward, Link::kFromNext).size(), 2u);
  EXPECT_EQ(transfers(middle.backward, Link::kToPrevious).size(), 2u);
}

// The gradient that layer 1 passes on unchanged is also read by its weight's gradient: it is sent as a copy, so that
// its place in the stash is free for another microbatch whether it has been taken or not.
TEST(PipelineCut, WhatStaysAndLeavesIsSentAsACopy) {
  const PipelineCut cut{.layers = kOneEach, .piece = 1, .split_backward = true};
  const PipelinePiece middle = *cut_pipeline_piece(microbatch(), cut);
  EXPECT_THAT(operations_of(middle.backward), ElementsAre("scale", "send.to_previous", "matmul", "send.to_previous"));
  EXPECT_THAT(operations_of(middle.backward_weight), ElementsAre("matmul"));
  for (const Operation& operation : middle.backward.operations)
    if (std::holds_alternative<Send>(operation.op)) {
      const Tensor& sent = middle.backward.tensor(operation.inputs[Send::kX]);
      EXPECT_EQ(middle.backward.tensor(sent.base).name, "outbox.f32");
    }
}

TEST(PipelineCut, OnlyGradientsOfWeightsAreSetApart) {
  const Program whole = microbatch();
  const PipelinePiece last = *cut_pipeline_piece(whole, {.layers = kOneEach, .piece = 2, .split_backward = true});
  EXPECT_THAT(operations_of(last.backward),
              ElementsAre("head_cross_entropy_grad", "rms_norm_grad", "matmul", "rms_norm_grad", "send.to_previous"));
  EXPECT_THAT(operations_of(last.backward_weight), ElementsAre("matmul"));
}

// Programs of a piece agree on where the tensors of the stash lie, and no two of them share a place.
TEST(PipelineCut, StashesAreTheSameForAllProgramsOfAPiece) {
  const PipelineCut cut{.layers = {{0, 2}, {2, 3}}, .piece = 0, .split_backward = true};
  const PipelinePiece piece = *cut_pipeline_piece(microbatch(), cut);
  std::map<std::string, std::map<std::string, std::pair<int64_t, int64_t>>> places;  // bytes, by part and tensor
  for (const Program* program : programs_of(piece))
    for (const Tensor& tensor : program->tensors) {
      if (tensor.role != Role::kStash || !tensor.base) continue;
      const std::string& part = program->tensor(tensor.base).name;
      if (part == "outbox.f32") continue;
      const int64_t begin = tensor.offset * dtype_bytes(tensor.type.dtype);
      EXPECT_EQ(begin % 64, 0) << tensor.name;
      const auto [place, fresh] = places[part].try_emplace(tensor.name, begin, begin + tensor.type.num_bytes());
      EXPECT_EQ(place->second.first, begin) << tensor.name;
    }
  ASSERT_EQ(places.size(), 4u);
  for (const auto& [part, tensors] : places)
    for (const auto& [name, a] : tensors)
      for (const auto& [other, b] : tensors)
        EXPECT_TRUE(name == other || a.second <= b.first || b.second <= a.first) << name << " and " << other;
  // The gradient that passes both layers' weights on its way came from the neighbour, that of e did not.
  EXPECT_EQ(piece.stashes[StashKind::kInboxBackwardWeight].num_bytes, 128);
  EXPECT_EQ(piece.stashes[StashKind::kBackwardWeight].num_bytes, 128);
}

TEST(PipelineCut, FaultsNameTheTensor) {
  const auto error = [](auto change, const std::vector<LayerRange>& layers = kOneEach) {
    Program whole = microbatch();
    change(whole);
    const auto piece = cut_pipeline_piece(whole, {.layers = layers, .piece = 0});
    EXPECT_FALSE(piece.ok());
    return piece.status().message();
  };
  const auto nothing = [](Program&) {};
  EXPECT_THAT(error(nothing, {{0, 1}, {1, 2}}), HasSubstr("[microbatch] has a layer 2; the pieces have 2"));
  EXPECT_THAT(error([](Program& p) { p.operations[1].scope = "layers.2"; }),
              HasSubstr("layers.0.x goes back within the forward pass"));
  EXPECT_THAT(error([](Program& p) { p.operations[0].phase = Phase::kBackward; }),
              HasSubstr("e comes out of the backward pass and goes forward"));
  EXPECT_THAT(error([](Program& p) { p.operations.back().phase = Phase::kUpdate; }), HasSubstr("updates parameters"));
  EXPECT_THAT(error([](Program& p) {
                for (Operation& operation : p.operations) operation.scope.clear();
              }),
              HasSubstr("no layers"));
}

}  // namespace
}  // namespace colossus
