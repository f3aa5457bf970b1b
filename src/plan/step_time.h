// How long a training step takes: the programs of the ranks that differ, played on a clock, and the schedule of the
// pipeline that runs them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "plan/rank_pieces.h"

namespace colossus {

// Prices one communication: seconds for an exchange that sends so many bytes from each rank of a group.
using CommunicationPrice = std::function<double(RankGroup group, Exchange exchange, double bytes_sent)>;

struct StepPrices {
  const KernelTimes* kernels = nullptr;
  CommunicationPrice communication;
  StackConfig stack;
  // The backward pass does all again that the forward pass did for the experts, beside what the layout's recomputation
  // says: some stacks may. With a pipeline, whose forward passes are programs of their own.
  bool experts_again = false;
  double straggling = 0;  // the slowest of all ranks takes so much longer than the typical one, as a share
  // Cores that all ranks share (PoolSpec::shared_cores); 0: each rank has a GPU of its own.
  int64_t cores = 0;
  double clock = 1;  // of kernels (PoolSpec::clock_of)
};

// Of the slowest stage unless it says otherwise, in seconds.
struct StepTime {
  double seconds = 0;
  // What they are made of, on the stage that computes longest.
  double compute = 0;         // kernels of all microbatches
  double exposed_tensor = 0;  // waits for the tensor, context and expert axes
  double exposed_context = 0;
  double exposed_expert = 0;
  double bubble = 0;        // waits for other stages
  double exposed_data = 0;  // waits for gradients and parameters
  double update = 0;        // the optimizer's kernels
  double straggling = 0;
  double waiting_for_cores = 0;  // that other ranks have

  double model_flops_utilization = 0;  // filled by who knows the model
};

// Of one operation, as the stack runs it: a kernel, or what is exposed of a communication; 0 for a transfer between
// stages, which is the schedule's.
double seconds_of_work(const StepPrices& prices, const Layout& layout, const KernelWork& work);

// The share of what data ranks exchange once a step, behind all microbatches, that can run beside computation: of
// gradients beside the backward pass of the last microbatch, of new parameters beside the forward pass of the first.
// Of other stacks it was fitted, or is known (StackConfig::data_overlap). Our own programs exchange gradients of a
// bucket when its last one is there, and parameters in the update; what ZeRO 2 and 3 send beside the passes is in the
// programs of these, and is played there.
struct ExchangeOverlap {
  double gradients = 0, parameters = 0;
};
ExchangeOverlap exchange_overlap(const StackConfig& stack, const MeshConfig& mesh);

// Seconds of a program, or of a piece of so many layers, and where they go.
struct PassTime {
  double seconds = 0, compute = 0, tensor = 0, context = 0, expert = 0, data = 0;  // the last four: waited for
  double work = 0;  // of all lanes, whatever runs beside what: what a core has to do
};
// Of pieces with a few layers and with one more, by kind: forward, backward, and the weights' gradients where they are
// apart. The same for all layouts that differ in data ranks and stages alone.
struct PassTimes {
  std::array<std::array<std::array<PassTime, 2>, 3>, kNumPieceKinds> of;
};
PassTimes time_passes(const Layout& layout, const RankPieces& pieces, const StepPrices& prices);

Result<StepTime> time_of_step(const ModelConfig& model, const Layout& layout, const RankPieces& pieces,
                              const PassTimes& passes, const StepPrices& prices);
Result<StepTime> time_of_step(const ModelConfig& model, const Layout& layout, const RankPieces& pieces,
                              const StepPrices& prices);

}  // namespace colossus
