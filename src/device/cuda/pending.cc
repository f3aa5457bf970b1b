#include "device/cuda/cuda_kernel.h"
#include "program/op.h"

namespace colossus {

#define PENDING(Op)                              \
  template <>                                    \
  Status prepare_cuda(const Op&, CudaPrepare&) { \
    return unavailable("no GPU kernel: " #Op);   \
  }                                              \
  template <>                                    \
  void run_cuda(const Op&, const CudaCall&) {}

PENDING(Embedding)
PENDING(EmbeddingGrad)
PENDING(GroupedMatmul)
PENDING(GroupedMatmulGradWeight)
PENDING(LayerNorm)
PENDING(LayerNormGrad)
PENDING(Rotary)
PENDING(Attention)
PENDING(AttentionGrad)
PENDING(AttentionCached)
PENDING(Activation)
PENDING(ActivationGrad)
PENDING(GatedActivation)
PENDING(GatedActivationGrad)
PENDING(Router)
PENDING(RouterGrad)
PENDING(TokenDispatch)
PENDING(TokenDispatchGrad)
PENDING(TokenCombine)
PENDING(TokenCombineGrad)
PENDING(Dropout)
PENDING(Add)
PENDING(Scale)
PENDING(SoftCap)
PENDING(SoftCapGrad)
PENDING(Cast)
PENDING(SelectToken)
PENDING(Positions)
PENDING(ExpertCounts)
PENDING(RouterLoss)
PENDING(RouterLossGrad)
PENDING(Zeros)

}  // namespace colossus
