#include "plan/step_time.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "parallel/pipeline_schedule.h"
#include "plan/spread.h"

namespace colossus {
namespace {

void add(PassTime& sum, const PassTime& other) {
  sum.seconds += other.seconds;
  sum.compute += other.compute;
  sum.tensor += other.tensor;
  sum.context += other.context;
  sum.expert += other.expert;
  sum.data += other.data;
  sum.work += other.work;
}
PassTime scaled(const PassTime& time, double factor) {
  return {time.seconds * factor, time.compute * factor, time.tensor * factor, time.context * factor,
          time.expert * factor,  time.data * factor,    time.work * factor};
}

// `further` layers more than `few` has.
PassTime at_layers(const PassTime& few, const PassTime& more, int64_t further) {
  // few + (more - few) further
  PassTime result = scaled(few, static_cast<double>(1 - further));
  add(result, scaled(more, static_cast<double>(further)));
  // Of an end without a layer, where a layer hides what the end exchanges.
  for (double* part : {&result.seconds, &result.compute, &result.tensor, &result.context, &result.expert, &result.data})
    *part = std::max(*part, 0.0);
  return result;
}

class Pricer {
 public:
  Pricer(const StepPrices& prices, const Layout& layout) : prices_(prices), layout_(layout) {}

  PassTime time_of(const PlayableProgram& program) const {
    PassTime time;
    double waited[4] = {};
    const PlayedProgram played = play(program, [&](const KernelWork& work) {
      const double exposed = seconds(work);
      if (work.kind == WorkKind::kCommunication) waited[axis_of(work.group).first] += exposed;
      return exposed;
    });
    time.seconds = played.seconds;
    time.compute = time.work = played.compute_seconds;
    for (const KernelWork& work : program.works)
      if (work.kind == WorkKind::kCommunication) time.work += work_of_message(work);
    // What was waited for is told apart by the share of each in the communication.
    const double all = waited[0] + waited[1] + waited[2] + waited[3],
                 exposed = std::max(0.0, played.seconds - played.compute_seconds);
    if (all > 0) {
      time.tensor = exposed * waited[0] / all;
      time.context = exposed * waited[1] / all;
      time.expert = exposed * waited[2] / all;
      time.data = exposed * waited[3] / all;
    }
    return time;
  }

  double seconds(const KernelWork& work) const {
    if (work.kind != WorkKind::kCommunication) return kernel(work);
    if (work.exchange == Exchange::kSend || work.exchange == Exchange::kReceive) return 0;
    return whole(work) * (1 - axis_of(work.group).second);
  }

  // Of a communication, with nothing beside it; of a transfer between stages, too.
  double whole(const KernelWork& work) const {
    if (is_of_state(work.group)) return state_seconds(work);
    const Exchange exchange = work.exchange == Exchange::kReceive ? Exchange::kSend : work.exchange;
    return prices_.communication(work.group, exchange, work.bytes_sent);
  }

  // Of it what a core does that copies messages: not the latency, in which other ranks may have the core.
  double work_of_message(const KernelWork& work) const {
    if (work.bytes_sent == 0) return 0;
    KernelWork shortest = work;
    shortest.bytes_sent = 1;
    return std::max(0.0, whole(work) - whole(shortest));
  }

  // Of gradients and parameters among data ranks, with nothing beside it. Pieces are fp32 in our programs; others send
  // other widths.
  double state_seconds(const KernelWork& work) const {
    const bool gathers = work.exchange == Exchange::kAllGather;
    const double width = (gathers ? prices_.stack.parameter_bytes : prices_.stack.gradient_bytes) / 4;
    return prices_.communication(work.group, work.exchange, work.bytes_sent * width);
  }

  // Of what a forward pass does for the experts: putting rows in order, sending them and the products.
  PassTime of_experts(const PlayableProgram& program) const {
    PassTime time;
    for (const KernelWork& work : program.works) {
      const bool sent =
          work.kind == WorkKind::kCommunication && !is_of_state(work.group) && axis_of(work.group).first == kExpertAxis;
      if (!sent && !work.experts && !work.routing) continue;
      const double taken = seconds(work);
      time.seconds += taken;
      (sent ? time.expert : time.compute) += taken;
      if (!sent) time.work += taken;
    }
    return time;
  }

  double kernel(const KernelWork& work) const {
    const bool is_attention = work.kind == WorkKind::kAttention || work.kind == WorkKind::kAttentionGrad;
    KernelWork asked = work;
    if (!prices_.stack.is_own()) asked.bytes *= work.eager;
    if (work.experts && prices_.stack.fused_expert_rounding) asked.rounded = 0;
    double seconds = prices_.kernels->seconds(asked);
    if (is_attention)
      seconds = prices_.stack.fused_attention
                    ? seconds / prices_.stack.attention
                    : prices_.kernels->unfused_attention_seconds(work, prices_.stack.attention_dropout);
    if (work.experts)
      seconds *= 1 + prices_.stack.expert_deviation / std::sqrt(static_cast<double>(work.count)) *
                         largest_of_normals(layout_.mesh.expert);
    if (work.routing)
      seconds = seconds * prices_.stack.routing_passes +
                (prices_.stack.routing_kernels - prices_.stack.routing_passes) * prices_.kernels->launch_seconds();
    // The head's gradient is one operation of three products.
    if (work.head && work.count > 1 && prices_.stack.loss_passes > 0) {
      const KernelWork logits{.bytes = 4 * prices_.stack.loss_passes * static_cast<double>(work.m * work.n)};
      seconds += prices_.kernels->seconds(logits);
    }
    seconds /= prices_.stack.efficiency * prices_.clock;
    // Without sequence parallelism every tensor rank does what lies between the products for all tokens.
    if (work.kind == WorkKind::kMemory && !prices_.stack.sequence_parallel)
      seconds *= static_cast<double>(layout_.mesh.tensor);
    return seconds;
  }

 private:
  static constexpr int kExpertAxis = 2;
  // Beside the passes.
  static bool is_of_state(RankGroup group) { return group.link == Link::kGradients || group.link == Link::kParameters; }
  std::pair<int, double> axis_of(RankGroup group) const {
    if (is_of_state(group)) return {3, 0};
    if (group.contains(MeshAxis::kExpert) || group.contains(MeshAxis::kExpertTensor))
      return {kExpertAxis, prices_.stack.expert_overlap};
    if (group.contains(MeshAxis::kContext)) return {1, prices_.stack.context_overlap};
    return {0, prices_.stack.tensor_overlap};
  }

  const StepPrices& prices_;
  const Layout& layout_;
};

struct PieceTime {
  PassTime forward, backward, backward_weight;
  double seconds() const { return forward.seconds + backward.seconds + backward_weight.seconds; }
};

PieceTime piece_time(const PassTimes& passes, PieceKind kind, int64_t further) {
  const auto& of = passes.of[static_cast<size_t>(kind)];
  return {at_layers(of[0][0], of[0][1], further), at_layers(of[1][0], of[1][1], further),
          at_layers(of[2][0], of[2][1], further)};
}

struct UpdateTime {
  double gradients = 0, parameters = 0, compute = 0;
  double all() const { return gradients + parameters + compute; }
};

// What is left of a communication of which a share runs beside work.
double exposed(double communication, double beside, double share) {
  return std::max(communication * (1 - share), communication - beside * share);
}

// All of its communication: what of it is waited for says exchange_overlap().
UpdateTime update_time(const Pricer& pricer, const PlayableProgram& program) {
  UpdateTime time;
  for (const KernelWork& work : program.works) {
    if (work.kind != WorkKind::kCommunication)
      time.compute += pricer.kernel(work);
    else
      (work.exchange == Exchange::kAllGather ? time.parameters : time.gradients) += pricer.state_seconds(work);
  }
  return time;
}

// Of our own program, as its lanes run it: the exchange of one bucket goes on while the one before is added up. What is
// waited for, shared out by the kind of communication.
UpdateTime played_update_time(const Pricer& pricer, const PlayableProgram& program) {
  UpdateTime time = update_time(pricer, program);
  const PlayedProgram played = play(program, [&](const KernelWork& work) {
    return work.kind == WorkKind::kCommunication ? pricer.state_seconds(work) : pricer.kernel(work);
  });
  const double all = time.gradients + time.parameters;
  if (all == 0) return time;
  const double waited = (played.seconds - time.compute) / all;
  time.gradients *= waited;
  time.parameters *= waited;
  return time;
}

// With parameters cut over the data ranks (ZeRO 3, Rajbhandari et al. 2020), each microbatch gathers every layer's
// before its forward and again before its backward pass, and sums its gradients behind that: one layer's exchange
// beside the computation of the layer before.
// What one microbatch waits, through all layers.
double sharded_seconds(const StepPrices& prices, const Layout& layout, const RankPieces& pieces, double layers,
                       double layer_seconds) {
  const auto ranks = static_cast<double>(layout.mesh.data * layout.mesh.shard * layout.mesh.context);
  const RankGroup group = RankGroup::along({MeshAxis::kShard, MeshAxis::kContext});
  const auto seconds_of = [&](double elements) -> std::pair<double, double> {
    const double sent = elements * (ranks - 1) / ranks;
    return {prices.communication(group, Exchange::kAllGather, sent * prices.stack.parameter_bytes),
            prices.communication(group, Exchange::kReduceScatter, sent * prices.stack.gradient_bytes)};
  };
  const auto [gather, scatter] = seconds_of(static_cast<double>(pieces.update->layer.all()));
  const auto [first_gather, first_scatter] = seconds_of(static_cast<double>(pieces.update->first.all()));
  const double hidden = prices.stack.data_overlap.value_or(0);
  const bool again = layout.recompute == Recompute::kFull;
  const double forward = layer_seconds / (again ? 4 : 3), backward = layer_seconds - forward;
  // Nothing runs beside the first and the last.
  return layers * (exposed(gather, forward, hidden) + exposed(gather + scatter, backward, hidden)) + first_gather +
         first_scatter + gather + scatter;
}

// Of a stage with so many layers and the ends it has; `share` of what lies outside the layers.
UpdateTime update_of_stage(const UpdateTime& one, const UpdateTime& two, double layers, double share) {
  const auto of = [&](double UpdateTime::*part) {
    const double layer = two.*part - one.*part;
    return layer * layers + std::max(0.0, one.*part - layer) * share;
  };
  return {of(&UpdateTime::gradients), of(&UpdateTime::parameters), of(&UpdateTime::compute)};
}

// Steps repeat themselves in the middle of a long schedule: it is played for so many microbatches, and for one round of
// the pipeline more.
constexpr int64_t kPlayedRounds = 6;

Result<double> play_schedule(const Layout& layout, const std::vector<PieceTimes>& pieces, double transfer) {
  const int64_t stages = layout.mesh.pipeline, whole = layout.num_microbatches();
  const auto seconds_of = [&](int64_t microbatches) -> Result<double> {
    const PipelineShape shape{.kind = layout.mesh.schedule,
                              .num_stages = static_cast<int>(stages),
                              .num_chunks = static_cast<int>(layout.mesh.chunks),
                              .num_microbatches = microbatches};
    ASSIGN_OR_RETURN(const auto lists, write_pipeline_schedule(shape));
    ASSIGN_OR_RETURN(const PipelineFigures figures,
                     play_pipeline_schedule(shape, lists, {.pieces = pieces, .transfer = transfer}));
    return figures.makespan;
  };
  const int64_t played = kPlayedRounds * stages;
  if (whole <= played + stages) return seconds_of(whole);
  // As long a last round as the whole schedule has.
  const int64_t rest = whole % stages;
  ASSIGN_OR_RETURN(const double shorter, seconds_of(played + rest));
  ASSIGN_OR_RETURN(const double longer, seconds_of(played + rest + stages));
  return shorter + (longer - shorter) * static_cast<double>(whole - played - rest) / static_cast<double>(stages);
}

// No pass is done sooner than the host has launched its kernels: a third of them are the forward pass's.
void wait_for_host(bool has_pipeline, double host_seconds, PieceTime& time) {
  const auto at_least = [](double seconds, PassTime& pass) { pass.seconds = std::max(pass.seconds, seconds); };
  at_least(has_pipeline ? host_seconds / 3 : host_seconds, time.forward);
  if (has_pipeline) at_least(host_seconds * 2 / 3, time.backward);
}

// A chunk's gradients are there when the last microbatches have passed it, and its parameters wanted when the first
// come to it. With chunks in turns all but one wait meanwhile for a round of microbatches, one for each stage, that the
// other chunks work on.
double microbatches_beside_exchange(const StackConfig& stack, const Layout& layout) {
  if (stack.is_own()) return 1;  // ours exchange beside the last microbatch alone
  const auto stages = static_cast<double>(std::min(layout.mesh.pipeline, layout.num_microbatches())),
             chunks = static_cast<double>(layout.mesh.chunks);
  return (stages * (chunks - 1) + 1) / chunks;
}

// A layout's pieces, in order. `host_seconds`: that the host takes for a layer.
std::vector<PieceTime> time_pieces(const RankPieces& pieces, const PassTimes& passes,
                                   const std::vector<LayerRange>& ranges, double host_seconds) {
  std::vector<PieceTime> times;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const int64_t layers = ranges[i].end - ranges[i].begin;
    const PieceKind kind = !pieces.has_pipeline     ? PieceKind::kWhole
                           : i == 0                 ? PieceKind::kFirst
                           : i + 1 == ranges.size() ? PieceKind::kLast
                                                    : PieceKind::kMiddle;
    times.push_back(piece_time(passes, kind, layers - pieces.fewest_layers));
    wait_for_host(pieces.has_pipeline, static_cast<double>(layers) * host_seconds, times.back());
  }
  return times;
}

// Of all microbatches on all stages.
Result<double> microbatches_seconds(const Layout& layout, const RankPieces& pieces, const std::vector<PieceTime>& times,
                                    const StepPrices& prices) {
  if (!pieces.has_pipeline) return times.front().seconds() * static_cast<double>(layout.num_microbatches());
  std::vector<PieceTimes> of_schedule;
  for (const PieceTime& time : times)
    of_schedule.push_back({time.forward.seconds, time.backward.seconds, time.backward_weight.seconds});
  double sent = 0;
  for (const KernelWork& work : pieces.of(PieceKind::kMiddle)[0].forward.works.works)
    if (work.exchange == Exchange::kSend) sent += work.bytes_sent;
  const double transfer = prices.communication(RankGroup::to(Link::kToNext), Exchange::kSend, sent);
  return play_schedule(layout, of_schedule, transfer * (1 - prices.stack.pipeline_overlap));
}

// What a microbatch takes on the stage with most work.
PassTime busiest_stage(const Layout& layout, const std::vector<PieceTime>& times) {
  PassTime busiest;
  for (int64_t stage = 0; stage < layout.mesh.pipeline; ++stage) {
    PassTime all;
    for (int64_t chunk = 0; chunk < layout.mesh.chunks; ++chunk) {
      const PieceTime& piece = times[static_cast<size_t>(chunk * layout.mesh.pipeline + stage)];
      for (const PassTime* pass : {&piece.forward, &piece.backward, &piece.backward_weight}) add(all, *pass);
    }
    if (all.seconds > busiest.seconds) busiest = all;
  }
  return busiest;
}

// By stage.
std::vector<UpdateTime> stage_updates(const Layout& layout, const RankPieces& pieces,
                                      const std::vector<LayerRange>& ranges, const UpdateTime& one,
                                      const UpdateTime& two) {
  const int64_t stages = layout.mesh.pipeline;
  const auto first = static_cast<double>(pieces.update->first.all()),
             last = static_cast<double>(pieces.update->last.all());
  const auto again = static_cast<double>(stages > 1 ? pieces.update->first.tied : 0);
  std::vector<UpdateTime> updates;
  for (int64_t stage = 0; stage < stages; ++stage) {
    double layers = 0;
    for (int64_t chunk = 0; chunk < layout.mesh.chunks; ++chunk) {
      const LayerRange& range = ranges[static_cast<size_t>(chunk * stages + stage)];
      layers += static_cast<double>(range.end - range.begin);
    }
    const double ends = (stage == 0 ? first : 0) + (stage == stages - 1 ? last + again : 0);
    updates.push_back(update_of_stage(one, two, layers, first + last == 0 ? 0 : ends / (first + last)));
  }
  return updates;
}

// The update of the stage on which it takes longest.
UpdateTime longest_update(const Layout& layout, const RankPieces& pieces, const Pricer& pricer,
                          const StepPrices& prices, const std::vector<LayerRange>& ranges) {
  const auto time_of = prices.stack.is_own() ? played_update_time : update_time;
  return std::ranges::max(stage_updates(layout, pieces, ranges, time_of(pricer, pieces.update->programs[0].works),
                                        time_of(pricer, pieces.update->programs[1].works)),
                          {}, &UpdateTime::all);
}

// What all ranks have to do in a step, over the cores that they share: no order of it is done sooner.
double seconds_on_cores(const StepPrices& prices, const Layout& layout, const RankPieces& pieces, const Pricer& pricer,
                        const std::vector<PieceTime>& times, const std::vector<LayerRange>& ranges) {
  double of_stages = 0;
  for (const PieceTime& time : times)
    for (const PassTime* pass : {&time.forward, &time.backward, &time.backward_weight}) of_stages += pass->work;
  of_stages *= static_cast<double>(layout.num_microbatches());
  for (const UpdateTime& update :
       stage_updates(layout, pieces, ranges, update_time(pricer, pieces.update->programs[0].works),
                     update_time(pricer, pieces.update->programs[1].works)))
    of_stages += update.all();
  return of_stages * static_cast<double>(layout.mesh.stage_ranks()) / static_cast<double>(prices.cores);
}

}  // namespace

ExchangeOverlap exchange_overlap(const StackConfig& stack, const MeshConfig& mesh) {
  if (stack.data_overlap) return {.gradients = *stack.data_overlap, .parameters = *stack.data_overlap};
  return {.gradients = mesh.zero_stage == 1 ? 1.0 : 0.0, .parameters = 0};
}

double seconds_of_work(const StepPrices& prices, const Layout& layout, const KernelWork& work) {
  return Pricer(prices, layout).seconds(work);
}

PassTimes time_passes(const Layout& layout, const RankPieces& pieces, const StepPrices& prices) {
  const Pricer pricer(prices, layout);
  PassTimes passes;
  for (size_t kind = 0; kind < kNumPieceKinds; ++kind)
    for (size_t layers = 0; layers < 2; ++layers) {
      const PiecePrograms& programs = pieces.pieces[kind][layers];
      passes.of[kind][0][layers] = pricer.time_of(programs.forward.works);
      passes.of[kind][1][layers] = pricer.time_of(programs.backward.works);
      if (prices.experts_again && pieces.has_pipeline)
        add(passes.of[kind][1][layers], pricer.of_experts(programs.forward.works));
      passes.of[kind][2][layers] = pricer.time_of(programs.backward_weight.works);
    }
  return passes;
}

Result<StepTime> time_of_step(const ModelConfig& model, const Layout& layout, const RankPieces& pieces,
                              const StepPrices& prices) {
  return time_of_step(model, layout, pieces, time_passes(layout, pieces, prices), prices);
}

Result<StepTime> time_of_step(const ModelConfig& model, const Layout& layout, const RankPieces& pieces,
                              const PassTimes& passes, const StepPrices& prices) {
  const Pricer pricer(prices, layout);
  const auto microbatches = static_cast<double>(layout.num_microbatches());
  const std::vector<LayerRange> ranges = cut_layers(model.num_layers, layout.mesh.pipeline * layout.mesh.chunks);
  const std::vector<PieceTime> piece_times = time_pieces(pieces, passes, ranges, prices.stack.layer_host_ms * 1e-3);
  StepTime time;
  ASSIGN_OR_RETURN(time.seconds, microbatches_seconds(layout, pieces, piece_times, prices));
  const PassTime busiest = busiest_stage(layout, piece_times);
  time.compute = busiest.compute * microbatches;
  time.exposed_tensor = busiest.tensor * microbatches;
  time.exposed_context = busiest.context * microbatches;
  time.exposed_expert = busiest.expert * microbatches;
  time.bubble = time.seconds - busiest.seconds * microbatches;
  // Two thirds of a microbatch's passes are backward. What is not hidden comes on top.
  const UpdateTime update = longest_update(layout, pieces, pricer, prices, ranges);
  time.exposed_data = busiest.data * microbatches;
  double behind = 0;
  if (layout.mesh.zero_stage == 3 && !prices.stack.is_own()) {
    const double layers = static_cast<double>(model.num_layers) / static_cast<double>(layout.mesh.pipeline);
    behind = microbatches * sharded_seconds(prices, layout, pieces, layers, busiest.seconds / layers);
  } else {
    const ExchangeOverlap overlap = exchange_overlap(prices.stack, layout.mesh);
    const double beside = busiest.seconds * microbatches_beside_exchange(prices.stack, layout);
    behind = exposed(update.gradients, beside * 2 / 3, overlap.gradients) +
             exposed(update.parameters, beside / 3, overlap.parameters);
  }
  time.exposed_data += behind;
  time.update = update.compute;
  time.seconds += behind + time.update;
  if (prices.cores > 0) {
    const double on_cores = seconds_on_cores(prices, layout, pieces, pricer, piece_times, ranges);
    time.waiting_for_cores = std::max(0.0, on_cores - time.seconds);
    time.seconds += time.waiting_for_cores;
  }
  time.straggling = time.seconds * prices.straggling;
  time.seconds += time.straggling;
  return time;
}

}  // namespace colossus
