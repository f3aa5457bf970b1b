// Fits configs/calibration.toml to published runs, and prints what it comes to as TOML:
//
//   build/main/bin/fit_calibration configs/validation/training_runs.csv --rounds 20 > configs/calibration.toml
//   build/main/bin/fit_calibration configs/validation/own_runs.csv 20 configs/calibration.toml so_far.toml "CPU core"
//
// The second line fits the parameters whose names begin so, and leaves all others. Coordinate descent on the mean
// |log(predicted / published)| of the rows that are used to fit. Every number keeps to bounds that are physical, and is
// pulled a little towards where it began: what no row speaks of stays there.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>

#include "io/config.h"
#include "plan/validation.h"

namespace colossus {
namespace {

struct Parameter {
  std::string name;
  std::vector<double*> values;  // that are one number
  std::vector<size_t> rows;     // whose time it changes
  double low, high;
  double start = 0;
  double step = 0.1;  // of the logarithm
};

class Fit {
 public:
  // `only`: how the names of the parameters begin that are fitted.
  Fit(Calibration& calibration, std::vector<RunToPlay> runs, std::string only)
      : calibration_(calibration), runs_(std::move(runs)), only_(std::move(only)) {
    add_machines();
    add_kernels_of_stacks();
    add_stacks();
    add("rank_deviation", {&calibration_.rank_deviation}, 0.0005, 0.03);
  }

  // With the rows' errors as they were, but for those of `rows`.
  double loss_of(const std::vector<size_t>& rows) {
    for (const size_t row : rows) errors_[row] = error_of(runs_[row]);
    double sum = 0;
    for (const double error : errors_) sum += error;
    double pull = 0;
    for (const Parameter& parameter : parameters_)
      pull += std::pow(std::log(*parameter.values[0] / parameter.start), 2);
    return sum / static_cast<double>(errors_.size()) + 0.0005 * pull;
  }

  // Called after each round: what was found so far.
  void on_round(std::function<void()> call) { on_round_ = std::move(call); }

  void run(int rounds) {
    const auto started = std::chrono::steady_clock::now();
    find_rows();
    double best = loss_of(all_);
    std::fprintf(stderr, "%zu parameters, %.2f s for one look at all rows\n", parameters_.size(),
                 std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
    for (int round = 0; round < rounds; ++round) {
      const double before = best;
      for (Parameter& parameter : parameters_) {
        const double old = *parameter.values[0];
        const std::vector<double> errors = errors_;
        bool moved = false;
        for (const double direction : {1.0, -1.0}) {
          const double next = std::clamp(old * std::exp(direction * parameter.step), parameter.low, parameter.high);
          set(parameter, next);
          const double now = next == old ? best : loss_of(parameter.rows);
          if (now < best - 1e-7) {
            best = now;
            moved = true;
            break;
          }
        }
        if (!moved) {
          set(parameter, old);
          errors_ = errors;
        }
        parameter.step = moved ? std::min(0.3, parameter.step * 1.5) : std::max(0.002, parameter.step * 0.5);
      }
      std::fprintf(stderr, "round %d: %.5f\n", round, best);
      if (on_round_) on_round_();
      if (before - best < 1e-6 && round > 8) break;
    }
  }

 private:
  double error_of(const RunToPlay& run) const {
    const PlayedRun played = run.play(calibration_);
    if (!played.refused.empty()) return 0;
    // One row that something else is wrong with does not decide.
    return std::min(std::abs(std::log(played.time.seconds / played.run.step_seconds)), 0.7);
  }
  // A number of a machine or of a stack changes the rows that are played with them.
  void find_rows() {
    errors_.assign(runs_.size(), 0);
    for (size_t row = 0; row < runs_.size(); ++row) all_.push_back(row);
    const auto lies_in = [](const double* value, const void* object, size_t bytes) {
      const auto* const at = reinterpret_cast<const char*>(value);
      const auto* const begin = static_cast<const char*>(object);
      return !std::less<>()(at, begin) && std::less<>()(at, begin + bytes);
    };
    for (const size_t row : all_) {
      const PlayedRun played = runs_[row].play(calibration_);
      const KernelRates* rates = calibration_.rates_of(played.gpu);
      const StackRule* rule = calibration_.rule_of(played.run.source, played.run.note, played.run.gpu);
      for (Parameter& parameter : parameters_)
        if (std::ranges::any_of(parameter.values, [&](const double* value) {
              return value == &calibration_.rank_deviation || lies_in(value, rates, sizeof(KernelRates)) ||
                     (rule && lies_in(value, rule, sizeof(StackRule))) ||
                     std::ranges::any_of(calibration_.recipes, [&](const RecipeRule& recipe) {
                       return lies_in(value, &recipe, sizeof(RecipeRule)) &&
                              played.run.recipe.find(recipe.recipe) != std::string::npos;
                     });
            }))
          parameter.rows.push_back(row);
    }
  }
  void add_machines() {
    const auto machine = [&](std::string_view gpu) -> MachineRates* {
      const auto found = std::ranges::find(calibration_.machines, gpu, &MachineRates::gpu);
      return found == calibration_.machines.end() ? nullptr : &*found;
    };
    // Parts with the same units are one part at other clocks, which their power allows. The newer Blackwell has other
    // units for the softmax of attention.
    MachineRates* hopper = machine("H");
    MachineRates* bounded = machine("H100-SXM-500W");
    MachineRates* blackwell = machine("GB200");
    MachineRates* ultra = machine("GB300");
    MachineRates* hgx = machine("B200");
    MachineRates* hgx_ultra = machine("B300");
    for (const auto& [name, alone] : {std::pair{"A100", machine("A100")}, {"CPU core", machine("CPU core")}})
      if (alone) add_rates(name, {alone}, {alone}, {alone});
    if (hopper && bounded) add_rates("H", {hopper, bounded}, {hopper, bounded}, {hopper, bounded});
    if (blackwell && ultra && hgx && hgx_ultra) {
      add_rates("Blackwell", {blackwell, ultra, hgx, hgx_ultra}, {blackwell, hgx}, {blackwell, ultra});
      add_rates("Ultra", {}, {ultra, hgx_ultra}, {});
      add_rates("HGX", {}, {}, {hgx, hgx_ultra});
      add("GB300.clock", {&ultra->rates.clock}, 0.8, 1.25);
      add("B200.clock", {&hgx->rates.clock}, 0.8, 1.25);
      add("B300.clock", {&hgx_ultra->rates.clock}, 0.8, 1.25);
    }
    if (!grouped_.empty()) add("grouped", grouped_, 0.3, 1);
    if (bounded) add("H100-SXM-500W.clock", {&bounded->rates.clock}, 0.5, 1);
  }
  // What stands around routing and the loss.
  void add_kernels_of_stacks() {
    std::vector<double*> passes, kernels;
    for (StackRule& rule : calibration_.stacks) {
      StackConfig& stack = rule.stack;
      if (stack.routing_passes > 1) passes.push_back(&stack.routing_passes);
      if (stack.routing_kernels > 1) kernels.push_back(&stack.routing_kernels);
    }
    if (!passes.empty()) add("routing_passes", passes, 1.01, 20);
    if (!kernels.empty()) add("routing_kernels", kernels, 1.01, 400);
    for (RecipeRule& recipe : calibration_.recipes) {
      const auto of = [&](const char* what, std::optional<double>& value, double low, double high) {
        if (value) add(recipe.recipe + "." + what, {&*value}, low, high);
      };
      of("routing_passes", recipe.routing_passes, 1.01, 60);
      of("routing_kernels", recipe.routing_kernels, 1.01, 400);
      of("expert_deviation", recipe.expert_deviation, 0.01, 3);
      of("expert_overlap", recipe.expert_overlap, 0.05, 0.95);
      of("layer_host_ms", recipe.layer_host_ms, 0.1, 100);
      of("attention", recipe.attention, 1, 2);
    }
    std::vector<double*> loss, torch_loss;
    for (StackRule& rule : calibration_.stacks)
      if (rule.stack.loss_passes > 0) (is_torch(rule.stack) ? torch_loss : loss).push_back(&rule.stack.loss_passes);
    if (!loss.empty()) add("loss_passes", loss, 0.1, 20);
    if (!torch_loss.empty()) add("torch.loss_passes", torch_loss, 0.1, 20);
  }
  void add_stacks() {
    std::map<std::string, Parameter> efficiencies, attentions;
    std::map<std::string, Parameter> tensor;
    for (StackRule& rule : calibration_.stacks) {
      StackConfig& stack = rule.stack;
      // Variants of one release have one efficiency.
      const std::string release = stack.name.substr(0, stack.name.starts_with("torchtitan") ? 10 : std::string::npos);
      efficiencies[release].values.push_back(&stack.efficiency);
      if (stack.attention != 1) attentions[release].values.push_back(&stack.attention);
      if (stack.tensor_overlap > 0)
        tensor[stack.name.starts_with("torch") ? "torchtitan"
               : stack.name == "nemo-25.05"    ? stack.name
                                               : "megatron"]
            .values.push_back(&stack.tensor_overlap);
    }
    for (auto& [name, parameter] : efficiencies) add(name + ".efficiency", parameter.values, 0.6, 1.4);
    for (auto& [name, parameter] : attentions) add(name + ".attention", parameter.values, 0.3, 1.2);
    for (auto& [name, parameter] : tensor) add(name + ".tensor_overlap", parameter.values, 0.05, 0.95);
  }
  static bool is_torch(const StackConfig& stack) {
    return stack.name.starts_with("llm-foundry") || stack.name.starts_with("torchtitan");
  }
  using Machines = std::vector<MachineRates*>;
  // One number each for these machines' products and memory, for their attention, and for what launches their kernels.
  void add_rates(const std::string& name, const Machines& units, const Machines& attention, const Machines& hosts) {
    const bool processor = name == "CPU core";
    const auto fit = [&](const char* field, double KernelRates::*of, const Machines& machines, double low,
                         double high) {
      if (machines.empty()) return;
      std::vector<double*> values;
      for (MachineRates* machine : machines) values.push_back(&(machine->rates.*of));
      add(name + "." + field, std::move(values), low, high);
    };
    fit("matmul_bf16", &KernelRates::matmul_bf16, units, 0.4, 0.98);
    if (name != "A100") fit("matmul_fp8", &KernelRates::matmul_fp8, units, 0.3, 0.98);
    if (name == "Blackwell") fit("matmul_fp4", &KernelRates::matmul_fp4, units, 0.2, 0.98);
    fit("attention", &KernelRates::attention, attention, 0.2, processor ? 1 : 0.85);
    fit("attention_grad", &KernelRates::attention_grad, attention, 0.15, processor ? 1 : 0.85);
    fit("memory", &KernelRates::memory, units, 0.4, 0.95);
    if (processor)
      fit("grouped", &KernelRates::grouped, units, 0.3, 1);
    else if (name != "A100")
      for (MachineRates* machine : units) grouped_.push_back(&machine->rates.grouped);
    fit("half_k", &KernelRates::half_k, units, 16, 1500);
    fit("launch_us", &KernelRates::launch_us, hosts, 0.5, 15);
  }
  void add(const std::string& name, std::vector<double*> values, double low, double high) {
    if (!name.starts_with(only_)) return;
    for (double* value : values) *value = *values[0];
    parameters_.push_back({.name = name, .values = std::move(values), .low = low, .high = high});
    parameters_.back().start = *parameters_.back().values[0];
  }
  static void set(Parameter& parameter, double value) {
    for (double* v : parameter.values) *v = value;
  }

  Calibration& calibration_;
  std::vector<RunToPlay> runs_;
  const std::string only_;
  std::vector<Parameter> parameters_;
  std::vector<double> errors_;  // of the rows, as logarithms
  std::vector<size_t> all_;
  std::vector<double*> grouped_;  // one number for all machines
  std::function<void()> on_round_;
};

int main_of(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: fit_calibration RUNS.csv ROUNDS [CALIBRATION.toml [SO_FAR.toml [ONLY]]]\n");
    return 2;
  }
  const std::string path = argc > 3 ? argv[3] : "configs/calibration.toml";
  auto calibration = load_config<Calibration>(local_files(), path);
  if (!calibration.ok()) {
    std::fprintf(stderr, "%s\n", calibration.status().message().c_str());
    return 2;
  }
  const auto text = read_file(local_files(), argv[1]);
  const auto table = text.ok() ? CsvTable::parse(*text, argv[1]) : Result<CsvTable>(text.status());
  if (!table.ok()) {
    std::fprintf(stderr, "%s\n", table.status().message().c_str());
    return 2;
  }
  std::vector<RunToPlay> all, used;
  for (size_t row = 0; row < table->num_rows(); ++row) {
    all.push_back(RunToPlay::create(*table, row, *calibration, local_files(), "configs/clusters"));
    if (all.back().used_to_fit() && !all.back().refused()) used.push_back(all.back());
  }
  Fit fit(*calibration, used, argc > 5 ? argv[5] : "");
  if (argc > 4)
    fit.on_round([&] { static_cast<void>(write_file_atomically(local_files(), argv[4], print_config(*calibration))); });
  fit.run(std::atoi(argv[2]));
  std::vector<PlayedRun> fitted, checked;
  for (const RunToPlay& run : all) {
    PlayedRun played = run.play(*calibration);
    (played.used_to_fit ? fitted : checked).push_back(played);
    if (!played.refused.empty()) {
      std::fprintf(stderr, "- %-44s %s\n", played.name.c_str(), played.refused.substr(0, 90).c_str());
      continue;
    }
    const MeshConfig& m = played.run.layout.mesh;
    std::fprintf(stderr,
                 "%c %-44s %-22s %5ld t%ld p%ld v%ld c%ld e%ld d%ld z%ld mb%ld n%ld | %8.3f %8.3f %+6.1f%% | comp %.2f "
                 "tp %.2f cp %.2f ep "
                 "%.2f bub %.2f dp %.2f upd %.3f\n",
                 played.used_to_fit ? 'f' : 'c', played.name.c_str(), played.stack.c_str(), played.run.num_gpus,
                 m.tensor, m.pipeline, m.chunks, m.context, m.expert, m.shard, m.zero_stage,
                 played.run.layout.microbatch, played.run.layout.num_microbatches(), played.run.step_seconds,
                 played.time.seconds, 100 * played.error(), played.time.compute, played.time.exposed_tensor,
                 played.time.exposed_context, played.time.exposed_expert, played.time.bubble, played.time.exposed_data,
                 played.time.update);
  }
  for (const auto& [name, runs] : {std::pair{"used to fit", fitted}, {"only checked", checked}}) {
    const ValidationSummary s = summarize(runs);
    std::fprintf(stderr, "%s: rows %zu, refused %zu, mean |error| %.1f %%, 90th percentile %.1f %%\n", name, s.rows,
                 s.refused, 100 * s.mean_error, 100 * s.worst_decile);
  }
  std::fputs(print_config(*calibration).c_str(), stdout);
  return 0;
}

}  // namespace
}  // namespace colossus

int main(int argc, char** argv) { return colossus::main_of(argc, argv); }
