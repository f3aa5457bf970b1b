// Every operation there is. Executors and passes are one std::visit; one that lacks an operation does not build.
#pragma once

#include <span>
#include <string_view>
#include <variant>

#include "ops/activation/activation.h"
#include "ops/adamw/adamw.h"
#include "ops/attention/attention.h"
#include "ops/collective/collective.h"
#include "ops/dropout/dropout.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/expert_exchange/expert_exchange.h"
#include "ops/grad_norm/grad_norm.h"
#include "ops/grouped_matmul/grouped_matmul.h"
#include "ops/head_cross_entropy/head_cross_entropy.h"
#include "ops/layer_norm/layer_norm.h"
#include "ops/matmul/matmul.h"
#include "ops/muon/muon.h"
#include "ops/pieces/pieces.h"
#include "ops/positions/positions.h"
#include "ops/rms_norm/rms_norm.h"
#include "ops/rotary/rotary.h"
#include "ops/router/router.h"
#include "ops/select_token/select_token.h"
#include "ops/token_dispatch/token_dispatch.h"
#include "ops/transfer/transfer.h"
#include "ops/zeros/zeros.h"

namespace colossus {

using Op =
    std::variant<Embedding, EmbeddingGrad, Matmul, BiasGrad, GroupedMatmul, GroupedMatmulGradWeight, RmsNorm,
                 RmsNormGrad, LayerNorm, LayerNormGrad, Rotary, Attention, AttentionGrad, AttentionCached, Activation,
                 ActivationGrad, GatedActivation, GatedActivationGrad, Router, RouterGrad, TokenDispatch,
                 TokenDispatchGrad, TokenCombine, TokenCombineGrad, HeadCrossEntropy, HeadCrossEntropyGrad, Dropout,
                 Add, Scale, SoftCap, SoftCapGrad, Cast, SumOfSquares, ExactSumValue, ClipScale, AdamW, MuonMomentum,
                 Muon, SelectToken, AllReduce, AllGather, ReduceScatter, RowsToExperts, RowsFromExperts, AddBias,
                 Positions, CountTargets, ExpertCounts, RouterLoss, RouterLossGrad, ExchangePieces, TreeSum,
                 GatherPieces, CollectPieces, Zeros, Send, Receive>;

template <class T>
concept Differentiable = requires(const T& op, Adjoint& a) {
  adjoint(op, a);
};

// Has a rule how ranks share it.
template <class T>
concept Partitionable = requires(const T& op, Partition& p) {
  partition(op, p);
};

std::string_view op_name(const Op& op);
std::span<const Operand> input_operands(const Op& op);
std::span<const Operand> output_operands(const Op& op);
// The i-th input's description; a variadic last operand stands for all further inputs.
const Operand& input_operand(const Op& op, size_t i);
Lane lane_of(const Op& op);
// Of an operation that talks to other ranks the group it talks to; null for all others.
const RankGroup* group_of(const Op& op);

template <class T>
concept Communicates = requires(const T& op) {
  { op.group } -> std::convertible_to<RankGroup>;
};

}  // namespace colossus
