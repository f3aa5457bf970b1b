#include "plan/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "model/model.h"
#include "plan/layout_network.h"
#include "plan/published_run.h"

namespace colossus {
namespace {

// Beside what the programs hold: libraries, communication buffers, fragments.
constexpr double kUsableMemory = 0.94;
// The ranks along the data axes in the programs that the search looks at. More change only how small the pieces of the
// update are; the layouts that win are judged with their own.
constexpr int64_t kDataRanksInSearch = 8;

// Jobs of several NVLink domains use a power of two of the GPUs of each; ranks that share cores are all in one.
NetworkSpec usable_network(const NetworkSpec& whole, const PoolSpec& pool, int64_t num_gpus) {
  NetworkSpec spec = whole;
  if (pool.processor_cores && pool.nodes == 1) spec.domain_gpus = std::max(spec.domain_gpus, num_gpus);
  if (num_gpus > spec.domain_gpus)
    spec.domain_gpus = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(spec.domain_gpus)));
  return spec;
}

// What a layout's operations cost on the question's GPUs.
class LayoutPrices {
 public:
  static Result<std::unique_ptr<LayoutPrices>> create(const PlanQuestion& question, const Calibration& calibration,
                                                      const Layout& layout) {
    const GpuSpec& gpu = question.gpu();
    const KernelRates* rates = calibration.rates_of(gpu.name);
    if (!rates)
      return invalid("[gpu] no rates are known of " + gpu.name + "; give it a name that configs/calibration.toml has");
    return std::unique_ptr<LayoutPrices>(new LayoutPrices(question, calibration, layout, *rates));
  }
  LayoutPrices(const LayoutPrices&) = delete;
  LayoutPrices& operator=(const LayoutPrices&) = delete;

  const StepPrices& get() const { return prices_; }

 private:
  LayoutPrices(const PlanQuestion& question, const Calibration& calibration, const Layout& layout,
               const KernelRates& rates)
      : kernels_(question.gpu(), rates, layout.products),
        network_(usable_network(question.cluster.network, question.gpu_pool(), layout.mesh.num_ranks())),
        groups_(network_, layout.mesh, question.model.num_experts_per_token, question.stack) {
    prices_ = {.kernels = &kernels_,
               .communication = [this](RankGroup group, Exchange exchange,
                                       double bytes) { return groups_.seconds(group, exchange, bytes); },
               .stack = question.stack,
               .straggling = calibration.straggling(layout.mesh.num_ranks()),
               .cores = question.gpu_pool().shared_cores(layout.mesh.num_ranks()),
               .clock = question.gpu_pool().clock_of(layout.mesh.num_ranks())};
  }

  const KernelTimes kernels_;
  const Network network_;
  LayoutNetwork groups_;
  StepPrices prices_;
};

// All but how well the GPUs are used. `passes`: null to find them.
Result<JudgedLayout> judge_with(const PlanQuestion& question, const Calibration& calibration, const Layout& layout,
                                const RankPieces& pieces, const RankMemory& memory, std::optional<PassTimes>& passes) {
  ASSIGN_OR_RETURN(const auto prices, LayoutPrices::create(question, calibration, layout));
  JudgedLayout judged{.layout = layout, .time = {}, .memory = memory, .num_gpus = layout.mesh.num_ranks()};
  if (!passes) passes = time_passes(layout, pieces, prices->get());
  ASSIGN_OR_RETURN(judged.time, time_of_step(question.model, layout, pieces, *passes, prices->get()));
  judged.tokens_per_second =
      static_cast<double>(layout.batch) * static_cast<double>(layout.tokens) / judged.time.seconds;
  return judged;
}

std::vector<int64_t> divisors(int64_t number, int64_t most) {
  std::vector<int64_t> found;
  for (int64_t d = 1; d <= std::min(number, most); ++d)
    if (number % d == 0) found.push_back(d);
  return found;
}

// What the programs of pieces depend on, beside how layers are cut.
struct Passage {
  int64_t microbatch;
  Recompute recompute;
  bool pipelined;
  bool split;  // backward passes in two parts, for the zero-bubble schedule
  bool operator==(const Passage&) const = default;
};
// A layout that does not fit with ZeRO 1, and how fast it can be with 2 or 3, which exchange no less: as it is now,
// were its exchanges of gradients and parameters for nothing.
struct Candidate {
  Passage passage;
  Layout layout;
  double most_tokens_per_second;
};
// What the update depends on: how layers are cut.
struct Cut {
  int64_t tensor, context, expert, expert_tensor;
  std::vector<Candidate> candidates;
};

class Search {
 public:
  Search(const PlanQuestion& question, const Calibration& calibration, const SearchOptions& options)
      : question_(question), calibration_(calibration), options_(options), num_gpus_(question.gpus_to_use()) {}

  // First with ZeRO 1; of what then does not fit, what could be among the fastest with 2 or 3.
  Result<SearchResult> run() {
    list_cuts();
    next_ = 0;
    in_threads([&] {
      for (size_t at = next_++; at < cuts_.size(); at = next_++) look_at(cuts_[at]);
    });
    trim(kept());
    drop_slow_candidates();
    next_ = 0;
    in_threads([&] {
      for (size_t at = next_++; at < cuts_.size(); at = next_++) share_more(cuts_[at]);
    });
    return finish();
  }

 private:
  template <class Work>
  void in_threads(const Work& work) const {
    const int threads = options_.num_threads > 0 ? options_.num_threads
                                                 : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    std::vector<std::thread> workers;
    for (int i = 0; i < threads; ++i) workers.emplace_back(work);
    for (std::thread& worker : workers) worker.join();
  }

  void list_cuts() {
    const ModelConfig& model = question_.model;
    const NetworkSpec& network = question_.cluster.network;
    const int64_t most_tensor = std::min<int64_t>(network.domain_gpus, 16);
    for (const int64_t tensor : divisors(model.num_kv_heads, most_tensor))
      for (const int64_t context : {1, 2, 4, 8})
        for (const int64_t expert : model.num_experts > 0 ? divisors(model.num_experts, 128) : std::vector<int64_t>{1})
          for (const int64_t expert_tensor : std::set<int64_t>{1, tensor})
            if (expert_tensor == 1 || model.num_experts > 0)
              cuts_.push_back({.tensor = tensor,
                               .context = context,
                               .expert = expert,
                               .expert_tensor = expert_tensor,
                               .candidates = {}});
  }

  void look_at(Cut& cut) {
    for (const auto& [pipelined, split] : {std::pair{false, false}, {true, false}, {true, true}}) {
      UpdatesOfStages updates;
      for (const int64_t microbatch : {1, 2, 4})
        for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull})
          look_at(cut, {microbatch, recompute, pipelined, split}, updates);
    }
  }

  Layout layout_of(const Cut& cut, const Passage& passage) const {
    Layout layout;
    layout.mesh.tensor = cut.tensor;
    layout.mesh.context = cut.context;
    layout.mesh.expert = cut.expert;
    layout.mesh.expert_tensor = cut.expert_tensor;
    layout.microbatch = passage.microbatch;
    layout.recompute = passage.recompute;
    layout.tokens = question_.sequence_tokens();
    layout.products = question_.products;
    return layout;
  }

  // The batch nearest to what was asked that all data ranks share evenly.
  bool set_batch(Layout& layout) const {
    const double wanted = question_.tokens_of_batch() / static_cast<double>(layout.tokens);
    const int64_t unit = layout.microbatch * layout.mesh.shard;
    const auto rounds = static_cast<int64_t>(std::llround(wanted / static_cast<double>(unit)));
    // As far off as a third is another question.
    if (rounds < 1 || std::abs(static_cast<double>(rounds * unit) / wanted - 1) > 0.34) return false;
    layout.batch = rounds * unit;
    return true;
  }

  // By ZeRO's stage: the update of a cut; programs of one of its passages. The times of the passes are the same for all
  // layouts.
  using UpdatesOfStages = std::array<std::shared_ptr<const RankUpdate>, 3>;
  struct Programs {
    std::optional<RankPieces> pieces;
    std::optional<PassTimes> passes;
    bool refused = false;
  };
  struct SmallLayout {
    Layout layout;
    UpdatesOfStages& updates;
    std::array<Programs, 3> programs;
  };

  SmallLayout small_layout_of(const Cut& cut, const Passage& passage, UpdatesOfStages& updates) const {
    SmallLayout small{.layout = layout_of(cut, passage), .updates = updates, .programs = {}};
    const int64_t least_data =
        (cut.expert * cut.expert_tensor + cut.tensor * cut.context - 1) / (cut.tensor * cut.context);
    MeshConfig& mesh = small.layout.mesh;
    mesh.shard = std::max(kDataRanksInSearch, static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(least_data))));
    mesh.pipeline = passage.pipelined ? 2 : 1;
    if (passage.split) mesh.schedule = PipelineScheduleKind::kZeroBubble;
    small.layout.batch = small.layout.microbatch * mesh.shard;
    return small;
  }

  void look_at(Cut& cut, const Passage& passage, UpdatesOfStages& updates) {
    SmallLayout small = small_layout_of(cut, passage, updates);
    const int64_t layers = question_.model.num_layers;
    for (int64_t pipeline = small.layout.mesh.pipeline; pipeline <= (passage.pipelined ? layers + 2 : 1); ++pipeline) {
      Layout layout = layout_of(cut, passage);
      layout.mesh.pipeline = pipeline;
      const int64_t of_model = pipeline * cut.tensor * cut.context;
      if (of_model > num_gpus_) break;
      // Stages of whole numbers of layers, with or without the ends counted as such.
      if (layers % pipeline != 0 && (layers + 2) % pipeline != 0) continue;
      layout.mesh.shard = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(num_gpus_ / of_model)));
      if (layout.mesh.shard * cut.tensor * cut.context % (cut.expert * cut.expert_tensor) != 0) continue;
      if (!set_batch(layout)) continue;
      for (int64_t chunks = 1; chunks * pipeline <= layers + 2; ++chunks) {
        if (chunks > 1 && (passage.split || pipeline == 1 || layers % (chunks * pipeline) != 0)) continue;
        layout.mesh.chunks = chunks;
        layout.mesh.schedule = passage.split ? PipelineScheduleKind::kZeroBubble
                               : chunks > 1  ? PipelineScheduleKind::kInterleaved
                                             : PipelineScheduleKind::kOneForwardOneBackward;
        if (auto candidate = consider(passage, layout, small)) cut.candidates.push_back(std::move(*candidate));
      }
    }
  }

  // Null where the model cannot be cut like this.
  Programs* programs_of(SmallLayout& small, int64_t zero_stage) const {
    Programs& programs = small.programs[static_cast<size_t>(zero_stage - 1)];
    if (programs.pieces) return &programs;
    if (programs.refused) return nullptr;
    Layout layout = small.layout;
    layout.mesh.zero_stage = zero_stage;
    auto written = update_of(small, zero_stage) ? write_rank_pieces(question_.model, layout, question_.stack,
                                                                    small.updates[static_cast<size_t>(zero_stage - 1)])
                                                : invalid("no update");
    programs.refused = !written.ok();
    if (programs.refused) return nullptr;
    programs.pieces = std::move(*written);
    return &programs;
  }
  const RankUpdate* update_of(SmallLayout& small, int64_t zero_stage) const {
    std::shared_ptr<const RankUpdate>& update = small.updates[static_cast<size_t>(zero_stage - 1)];
    if (update) return update.get();
    Layout layout = small.layout;
    layout.mesh.zero_stage = zero_stage;
    auto written = write_rank_update(question_.model, layout, question_.stack);
    if (written.ok()) update = std::make_shared<const RankUpdate>(std::move(*written));
    return update.get();
  }

  // With ZeRO 1. What does not fit with it is a candidate for its other stages.
  std::optional<Candidate> consider(const Passage& passage, const Layout& layout, SmallLayout& small) {
    const StashCounts* stashes = stashes_of(layout);
    Programs* const programs = stashes ? programs_of(small, 1) : nullptr;
    if (!programs) return std::nullopt;
    const auto memory = memory_of(question_.model, layout, *programs->pieces, *stashes, question_.state);
    if (!memory.ok()) return std::nullopt;
    const bool fits = memory->total() <= usable_bytes(question_.gpu());
    std::optional<JudgedLayout> judged;
    if (fits || can_share_more(layout)) {
      judged = judge_small(layout, *programs, *memory);
      if (!judged) return std::nullopt;
    }
    const std::lock_guard lock(mutex_);
    ++result_.legal;
    if (fits) {
      add(std::move(*judged));
      return std::nullopt;
    }
    if (!judged) ++result_.too_large;
    note_small({.layout = layout, .time = {}, .memory = *memory, .num_gpus = layout.mesh.num_ranks()});
    if (!judged) return std::nullopt;
    const StepTime& time = judged->time;
    const double without_straggling = time.seconds - time.straggling;
    return Candidate{passage, layout,
                     judged->tokens_per_second * without_straggling / (without_straggling - time.exposed_data)};
  }

  // Slower than all that will be listed: nothing is asked of them any more.
  void drop_slow_candidates() {
    if (result_.best.size() < kept()) return;
    const double least = result_.best.back().tokens_per_second;
    for (Cut& cut : cuts_)
      result_.too_slow += static_cast<int64_t>(std::erase_if(
          cut.candidates, [&](const Candidate& candidate) { return candidate.most_tokens_per_second < least; }));
  }

  void share_more(const Cut& cut) {
    UpdatesOfStages updates;
    std::optional<SmallLayout> small;
    const Passage* passage = nullptr;  // of `small`
    for (const Candidate& candidate : cut.candidates) {
      if (!passage || !(*passage == candidate.passage)) {
        if (!passage || passage->pipelined != candidate.passage.pipelined || passage->split != candidate.passage.split)
          updates = {};
        small.emplace(small_layout_of(cut, candidate.passage, updates));
        passage = &candidate.passage;
      }
      share_more(candidate.layout, *small);
    }
  }

  // With the first of ZeRO's other stages that fits.
  void share_more(Layout layout, SmallLayout& small) {
    const double room = usable_bytes(question_.gpu());
    for (const int64_t zero_stage : {2, 3}) {
      layout.mesh.zero_stage = zero_stage;
      if (!update_of(small, zero_stage)) break;
      const StashCounts& stashes = *stashes_of(layout);
      const auto bound = least_memory_of(layout, stashes, small);
      if (!bound.ok()) break;
      if (bound->total() > most_of_interest(room)) continue;
      Programs* const programs = programs_of(small, zero_stage);
      if (!programs) break;
      const auto memory = memory_of(question_.model, layout, *programs->pieces, stashes, question_.state);
      if (!memory.ok()) break;
      if (memory->total() <= room) {
        auto judged = judge_small(layout, *programs, *memory);
        const std::lock_guard lock(mutex_);
        if (judged) add(std::move(*judged));
        return;
      }
      const std::lock_guard lock(mutex_);
      note_small({.layout = layout, .time = {}, .memory = *memory, .num_gpus = layout.mesh.num_ranks()});
    }
    const std::lock_guard lock(mutex_);
    ++result_.too_large;
  }

  // What a layout takes whatever its programs hold.
  Result<RankMemory> least_memory_of(const Layout& layout, const StashCounts& stashes, const SmallLayout& small) const {
    const RankPieces without_programs{.has_pipeline = layout.mesh.pipeline > 1,
                                      .pieces = {},
                                      .is_own = question_.stack.is_own(),
                                      .update = small.updates[static_cast<size_t>(layout.mesh.zero_stage - 1)]};
    return memory_of(question_.model, layout, without_programs, stashes, question_.state);
  }

  // A layout that takes more cannot be an answer: it does not fit, nor is it the smallest where nothing fits.
  double most_of_interest(double room) {
    const std::lock_guard lock(mutex_);
    if (!result_.best.empty() || !result_.smallest) return room;
    return std::max(room, result_.smallest->memory.total());
  }

  // Our own programs then want a leaf of the gradients' tree for each microbatch.
  bool can_share_more(const Layout& layout) const {
    return layout.mesh.shard > 1 &&
           (!question_.stack.is_own() || std::has_single_bit(static_cast<uint64_t>(layout.batch / layout.microbatch)));
  }

  // None, and an error of the search, where it cannot be played.
  std::optional<JudgedLayout> judge_small(const Layout& layout, Programs& programs, const RankMemory& memory) {
    if (layout.mesh.zero_stage > 1) programs.passes.reset();  // they wait for the data ranks, whose number changes
    auto judged = judge_with(question_, calibration_, layout, *programs.pieces, memory, programs.passes);
    if (judged.ok()) return std::move(*judged);
    const std::lock_guard lock(mutex_);
    if (error_.ok())
      error_ = Status(judged.status().code(), fmt::format("[{}] {}", layout_text(layout), judged.status().message()));
    return std::nullopt;
  }

  // With `mutex_` held.
  void add(JudgedLayout judged) {
    result_.best.push_back(std::move(judged));
    if (result_.best.size() > 2 * kept()) trim(kept());
  }
  void note_small(JudgedLayout judged) {
    if (!result_.smallest || judged.memory.total() < result_.smallest->memory.total())
      result_.smallest = std::move(judged);
  }

  // Far more than are asked for: what the small programs say of two layouts may be wrong by a little.
  size_t kept() const { return 4 * options_.keep + 16; }

  // A matter of the schedule alone: found once. Null: no such schedule.
  const StashCounts* stashes_of(const Layout& layout) {
    const std::array<int64_t, 4> key = {static_cast<int64_t>(layout.mesh.schedule), layout.mesh.pipeline,
                                        layout.mesh.chunks, layout.num_microbatches()};
    const std::lock_guard lock(stashes_mutex_);
    const auto found = stashes_.find(key);
    if (found != stashes_.end()) return found->second ? &*found->second : nullptr;
    auto counted = count_stashes(layout);
    auto& entry = stashes_[key];
    if (counted.ok()) entry = std::move(*counted);
    return entry ? &*entry : nullptr;
  }

  void trim(size_t keep) {
    std::sort(result_.best.begin(), result_.best.end(), [](const JudgedLayout& a, const JudgedLayout& b) {
      if (a.tokens_per_second != b.tokens_per_second) return a.tokens_per_second > b.tokens_per_second;
      return order_of(a.layout) < order_of(b.layout);  // the same list whichever thread came first
    });
    if (result_.best.size() > keep) result_.best.resize(keep);
  }
  static std::array<int64_t, 10> order_of(const Layout& l) {
    return {l.mesh.tensor,
            l.mesh.context,
            l.mesh.pipeline,
            l.mesh.chunks,
            static_cast<int64_t>(l.mesh.schedule),
            l.mesh.expert,
            l.mesh.expert_tensor,
            l.microbatch,
            static_cast<int64_t>(l.recompute),
            l.mesh.zero_stage};
  }

  Result<SearchResult> finish() {
    RETURN_IF_ERROR(error_);
    trim(kept());
    std::vector<JudgedLayout> exact;
    for (size_t i = 0; i < result_.best.size() && exact.size() < 2 * options_.keep; ++i) {
      ASSIGN_OR_RETURN(JudgedLayout judged, judge(question_, calibration_, result_.best[i].layout));
      if (judged.memory.total() <= usable_bytes(question_.gpu())) {
        exact.push_back(std::move(judged));
      } else {
        ++result_.too_large;  // by what fewer data ranks do not show
        note_small(std::move(judged));
      }
    }
    result_.best = std::move(exact);
    trim(options_.keep);
    return std::move(result_);
  }

  const PlanQuestion& question_;
  const Calibration& calibration_;
  const SearchOptions options_;
  const int64_t num_gpus_;
  std::vector<Cut> cuts_;
  std::atomic<size_t> next_ = 0;
  std::mutex stashes_mutex_;
  std::map<std::array<int64_t, 4>, std::optional<StashCounts>> stashes_;
  std::mutex mutex_;
  SearchResult result_;
  Status error_;
};

}  // namespace

double usable_bytes(const GpuSpec& gpu) { return kUsableMemory * gpu.memory_gb * 1e9; }

Result<JudgedLayout> judge(const PlanQuestion& question, const Calibration& calibration, const Layout& layout) {
  ASSIGN_OR_RETURN(const RankPieces pieces, write_rank_pieces(question.model, layout, question.stack));
  return judge(question, calibration, layout, pieces);
}

Result<JudgedLayout> judge(const PlanQuestion& question, const Calibration& calibration, const Layout& layout,
                           const RankPieces& pieces) {
  ASSIGN_OR_RETURN(const RankMemory memory, memory_of(question.model, layout, pieces, question.state));
  std::optional<PassTimes> passes;
  ASSIGN_OR_RETURN(JudgedLayout judged, judge_with(question, calibration, layout, pieces, memory, passes));
  judged.utilization = model_flops_of_step(question.model, layout) /
                       (judged.time.seconds * static_cast<double>(judged.num_gpus) * question.gpu().bf16_tflops * 1e12);
  return judged;
}

Status write_trace_of(const PlanQuestion& question, const Calibration& calibration, const Layout& layout,
                      FileSystem& files, const std::string& path) {
  ASSIGN_OR_RETURN(const auto prices, LayoutPrices::create(question, calibration, layout));
  return write_step_trace(files, question.model, layout, prices->get(), {.path = path});
}

Result<std::vector<StageTimeline>> timeline_of(const PlanQuestion& question, const Calibration& calibration,
                                               const Layout& layout, const TimelineOptions& options) {
  ASSIGN_OR_RETURN(const auto prices, LayoutPrices::create(question, calibration, layout));
  return play_timeline(question.model, layout, prices->get(), options);
}

Result<SearchResult> search_layouts(const PlanQuestion& question, const Calibration& calibration,
                                    const SearchOptions& options) {
  return Search(question, calibration, options).run();
}

}  // namespace colossus
