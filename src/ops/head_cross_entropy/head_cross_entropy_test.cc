#include "ops/head_cross_entropy/head_cross_entropy.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "ops/testing/op_harness.h"

namespace colossus {
namespace {

using ::testing::HasSubstr;

struct Sizes {
  int64_t num_tokens, width, vocabulary;
};

struct Head {
  double scale = 1, softcap = 0;
};

OpCase head_case(const Sizes& size, const Head& head, int64_t left_out_every) {
  return {
      .name = fmt::format("tokens {} width {} vocabulary {} scale {} softcap {} left out every {}", size.num_tokens,
                          size.width, size.vocabulary, head.scale, head.softcap, left_out_every),
      .write =
          [=](Builder& b, DType dtype) {
            const TensorId h = b.input("h", {1, size.num_tokens, size.width}, dtype);
            const TensorId w = b.parameter("w", {size.vocabulary, size.width}, parameter_dtype(dtype));
            const TensorId targets = b.input("targets", {1, size.num_tokens}, DType::kI32);
            b.emit(HeadCrossEntropy{{.scale = head.scale, .softcap = head.softcap}}, {h, w, targets});
            const std::vector<TensorId> outputs = b.last_outputs();
            b.mark_output(outputs[HeadCrossEntropy::kLoss], "loss");
            b.mark_output(outputs[HeadCrossEntropy::kTokenLoss], "token_loss");
          },
      .fill =
          [=](const Tensor& tensor, View view) {
            for (int64_t n = 0; tensor.name == "targets" && n < size.num_tokens; ++n)
              view.set(n, left_out_every > 0 && n % left_out_every == 0
                              ? -1
                              : static_cast<double>((n * 31 + 5) % size.vocabulary));
          },
      .without_gradient = {"token_loss"},
      .fill_scale = 0.6,
  };
}

TEST(HeadCrossEntropy, Cases) {
  for (const Sizes& size : {Sizes{1, 1, 1}, Sizes{3, 7, 2}, Sizes{13, 37, 65}, Sizes{37, 16, 131}, Sizes{64, 48, 1024}})
    for (const Head& head : {Head{}, Head{.scale = 0.577, .softcap = 2}, Head{.scale = 1.5}, Head{.softcap = 30}})
      run_op_case(head_case(size, head, 0));
}

TEST(HeadCrossEntropy, NegativeTargetsAreLeftOut) {
  for (const int64_t every : {1, 2, 5})  // 1: all of them
    run_op_case(head_case({37, 16, 65}, {.scale = 0.7}, every));
}

TEST(HeadCrossEntropy, WeightsAsTheyAreStored) {
  OpCase op_case = head_case({37, 16, 65}, {.scale = 0.7}, 5);
  op_case.check_gradient = false;
  op_case.write = [](Builder& b, DType dtype) {
    const TensorId h = b.input("h", {1, 37, 16}, dtype);
    const TensorId w = b.parameter("w", {65, 16}, DType::kBF16);
    const TensorId targets = b.input("targets", {1, 37}, DType::kI32);
    b.mark_output(b.emit(HeadCrossEntropy{{.scale = 0.7}}, {h, w, targets}), "loss");
  };
  run_op_case(op_case);
}

// The mean is over the targets of other ranks too.
TEST(HeadCrossEntropy, NumTargetsIsWhatTheMeanIsOver) {
  OpCase op_case = head_case({37, 16, 65}, {.scale = 0.7}, 5);
  op_case.write = [](Builder& b, DType dtype) {
    const TensorId h = b.input("h", {1, 37, 16}, dtype);
    const TensorId w = b.parameter("w", {65, 16}, parameter_dtype(dtype));
    const TensorId targets = b.input("targets", {1, 37}, DType::kI32);
    const TensorId num_targets = b.input("num_targets", {}, DType::kI64);
    b.mark_output(b.emit(HeadCrossEntropy{{.scale = 0.7}}, {h, w, targets, num_targets}), "loss");
  };
  const auto fill_targets = op_case.fill;
  op_case.fill = [=](const Tensor& tensor, View view) {
    fill_targets(tensor, view);
    if (tensor.name == "num_targets") view.set(0, 111);
  };
  run_op_case(op_case);
}

TEST(CountTargets, Cases) {
  for (const int64_t every : {0, 1, 3}) {
    OpCase op_case = head_case({37, 1, 65}, {}, every);
    op_case.check_gradient = false;
    op_case.write = [](Builder& b, DType) {
      b.mark_output(b.emit(CountTargets{}, {b.input("targets", {1, 37}, DType::kI32)}), "num_targets");
    };
    run_op_case(op_case);
  }
}

// More tokens than a block holds, the last block shorter.
TEST(HeadCrossEntropy, SeveralBlocks) { run_op_case(head_case({2100, 5, 17}, {.softcap = 5}, 3)); }

// Gradients alone, with the loss they bring: what the fuse pass makes of a training program.
OpCase fused_case(const Sizes& size, const Head& head, int64_t left_out_every) {
  OpCase op_case = head_case(size, head, left_out_every);
  op_case.check_gradient = false;
  op_case.write = [=](Builder& b, DType dtype) {
    const TensorId h = b.input("h", {1, size.num_tokens, size.width}, dtype);
    const TensorId w = b.parameter("w", {size.vocabulary, size.width}, parameter_dtype(dtype));
    const TensorId targets = b.input("targets", {1, size.num_tokens}, DType::kI32);
    const TensorId dw = b.declare("dw", {{size.vocabulary, size.width}, parameter_dtype(dtype)}, Role::kGradient);
    const TensorId dloss = b.input("dloss", {}, parameter_dtype(dtype));
    b.emit(HeadCrossEntropyGrad{{.scale = head.scale, .softcap = head.softcap}}, {dloss, h, w, targets, dw});
    const std::vector<TensorId> outputs = b.last_outputs();
    b.mark_output(outputs[HeadCrossEntropyGrad::kDh], "dh");
    b.mark_output(outputs[HeadCrossEntropyGrad::kLoss], "loss");
    b.mark_output(outputs[HeadCrossEntropyGrad::kTokenLoss], "token_loss");
  };
  return op_case;
}

TEST(HeadCrossEntropy, FusedGradGivesTheLoss) {
  run_op_case(fused_case({37, 16, 65}, {.scale = 0.8, .softcap = 4}, 0));
}

// Rows that no processor's own memory holds, of widths that are multiples of nothing; targets at an end and in between.
TEST(HeadCrossEntropy, WideVocabularies) {
  for (const double softcap : {0.0, 3.0})
    for (const int64_t vocabulary : {8199, 57345, 60001}) {
      OpCase op_case = fused_case({3, 2, vocabulary}, {.scale = 1.5, .softcap = softcap}, 0);
      op_case.fill = [=](const Tensor& tensor, View view) {
        if (tensor.name != "targets") return;
        view.set(0, -1);
        view.set(1, static_cast<double>(vocabulary - 1));
        view.set(2, static_cast<double>(vocabulary / 2));
      };
      op_case.cancelling_terms = 0.3;  // in dh, which adds up the whole vocabulary
      run_op_case(op_case);
    }
}

// A copy in another type is kept beside a parameter; of others it is made each time.
TEST(HeadCrossEntropy, WeightsNeedNotBeParameters) {
  OpCase op_case = head_case({13, 24, 37}, {}, 0);
  op_case.check_gradient = false;
  op_case.write = [](Builder& b, DType dtype) {
    const TensorId h = b.input("h", {1, 13, 24}, dtype), w = b.input("w", {37, 24}, parameter_dtype(dtype));
    b.mark_output(b.emit(HeadCrossEntropy{}, {h, w, b.input("targets", {1, 13}, DType::kI32)}), "loss");
  };
  run_op_case(op_case);
}

// More tokens than are multiplied at once on any device, and more than their gradients are gathered for.
TEST(HeadCrossEntropy, ManyTokens) { run_op_case(fused_case({17001, 1, 2}, {}, 4)); }

TEST(HeadCrossEntropy, ErrorsNameTheOperand) {
  const auto error = [](const Shape& w, const Shape& targets) {
    return write_error([=](Builder& b) {
      b.emit(HeadCrossEntropy{},
             {b.input("h", {2, 3, 8}, DType::kF32), b.parameter("w", w), b.input("targets", targets, DType::kI32)});
    });
  };
  EXPECT_THAT(error({65, 7}, {2, 3}),
              HasSubstr("head_cross_entropy.w: got [65, 7] f32; needed size 8 in dimension 1: the columns of h"));
  EXPECT_THAT(error({65, 8}, {2, 4}), HasSubstr("head_cross_entropy.targets: got [2, 4] i32; needed [2, 3]"));
  EXPECT_THAT(write_error([](Builder& b) {
                b.emit(HeadCrossEntropy{},
                       {b.input("h", {2, 3, 8}, DType::kF32), b.parameter("w", {65, 8}),
                        b.input("targets", {2, 3}, DType::kI32), b.input("num_targets", {}, DType::kI32)});
              }),
              HasSubstr("head_cross_entropy.num_targets: got [] i32; needed i64"));
}

TEST(HeadCrossEntropy, CostOfTheGradientIsThreeProducts) {
  Builder b("test");
  const TensorId h = b.input("h", {1, 10, 8}, DType::kBF16);
  const TensorId w = b.parameter("w", {65, 8});
  const TensorId targets = b.input("targets", {1, 10}, DType::kI32);
  b.emit(HeadCrossEntropyGrad{},
         {b.input("dloss", {}, DType::kF32), h, w, targets, b.declare("dw", {{65, 8}, DType::kF32}, Role::kGradient)});
  EXPECT_EQ(total_cost(std::move(b.finish()).value()).flops, 3 * 2 * 10 * 8 * 65);
}

}  // namespace
}  // namespace colossus
