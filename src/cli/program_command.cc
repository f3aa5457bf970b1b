#include "cli/program_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <map>
#include <optional>

#include "cli/exit_code.h"
#include "cli/terminal.h"
#include "io/config.h"
#include "model/model.h"
#include "parallel/pipeline_cut.h"
#include "program/memory_plan.h"
#include "train/rank_model.h"
#include "train/shared_state.h"

namespace colossus {
namespace {

struct ShowArguments {
  std::string config;
  std::vector<std::string> overrides;
  std::string kind = "train";
  std::string recompute = "none";
  std::string compute = "bf16";
  int64_t batch = 1;
  int64_t seq = 0;
  std::vector<std::string> mesh;
  int64_t rank = 0;
  int64_t microbatches = 1;
  bool all = false;
};

std::vector<std::string> recompute_names() {
  std::vector<std::string> names;
  for (const auto& choice : field_choices(Recompute{})) names.emplace_back(choice.name);
  return names;
}

Result<Recompute> recompute_of(const ShowArguments& arguments) {
  for (const auto& choice : field_choices(Recompute{}))
    if (arguments.recompute == choice.name) return choice.value;
  return invalid(fmt::format("[--recompute] {}; give none, selective or full", arguments.recompute));
}

// What one rank runs.
struct ShownPrograms {
  std::vector<Program> microbatch;  // one, or those of the rank's pieces
  std::vector<Program> last;        // of each its run for a step's last microbatch, where that is another program
  Program exchange;                 // behind them; may be empty
  std::optional<Program> update;
};

// Of the rank's pieces the programs of a microbatch, and what it shares with the pipeline's other end.
Status cut_into_pieces(const RankModel& rank_model, const ModelConfig& model, const Ranks& ranks, ShownPrograms& shown,
                       std::vector<std::string>& shared) {
  const MeshConfig& mesh = ranks.mesh.config();
  const std::vector<LayerRange> layers = cut_layers(model.num_layers, mesh.pipeline * mesh.chunks);
  for (int64_t chunk = 0; chunk < mesh.chunks; ++chunk) {
    const int64_t number = chunk * mesh.pipeline + ranks.mesh.coordinate(ranks.rank, MeshAxis::kPipeline);
    ASSIGN_OR_RETURN(
        PipelinePiece piece,
        cut_pipeline_piece(
            rank_model.microbatch,
            {.layers = layers, .piece = number, .split_backward = mesh.schedule == PipelineScheduleKind::kZeroBubble}));
    shared.insert(shared.end(), piece.shared_parameters.begin(), piece.shared_parameters.end());
    for (Program* program :
         {&piece.receive_forward, &piece.forward, &piece.receive_backward, &piece.backward, &piece.backward_weight}) {
      if (program->operations.empty()) continue;
      program->name = fmt::format("{} of layers {} to {}", program->name, layers[static_cast<size_t>(number)].begin,
                                  layers[static_cast<size_t>(number)].end - 1);
      shown.microbatch.push_back(std::move(*program));
    }
  }
  return ok_status();
}

Result<ShownPrograms> write_rank_programs(const ShowArguments& arguments, const ModelConfig& model,
                                          const ProgramOptions& options) {
  RunConfig run;
  run.model = model;
  run.train.microbatch = options.batch;
  run.train.tokens = options.tokens;
  ASSIGN_OR_RETURN(run.train.recompute, recompute_of(arguments));
  ASSIGN_OR_RETURN(run.mesh, parse_config<MeshConfig>("", "--mesh", arguments.mesh));
  // As many leaves as the layout needs: they are a matter of the run.
  const int64_t data_ranks =
      std::clamp<int64_t>(run.mesh.data, 1, 1 << 20) * std::clamp<int64_t>(run.mesh.shard, 1, 1 << 20);
  run.train.reduction_leaves = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(data_ranks)));
  if (run.mesh.zero_stage > 1) run.train.batch = run.train.microbatch * run.train.reduction_leaves;
  if (run.mesh.automatic) return invalid("[--mesh] auto needs the ranks of a run; name the axes");
  RETURN_IF_ERROR(check_layout(run));
  Ranks ranks{.mesh = Mesh(run.mesh), .rank = arguments.rank};
  if (arguments.rank >= ranks.size())
    return invalid(fmt::format("[--rank] {}; the mesh has ranks 0 to {}", arguments.rank, ranks.size() - 1));
  ranks.members = groups_of(ranks.mesh, ranks.rank);
  ASSIGN_OR_RETURN(RankModel rank_model, write_rank_model(run, options.compute, ranks));
  ShownPrograms shown;
  if (arguments.kind == "forward") {
    shown.microbatch.push_back(std::move(rank_model.forward.program));
    return shown;
  }
  RankGradients gradients;
  if (run.mesh.pipeline > 1)
    RETURN_IF_ERROR(cut_into_pieces(rank_model, model, ranks, shown, gradients.shared));
  else
    shown.microbatch.push_back(rank_model.microbatch);
  for (const Program& program : shown.microbatch) gradients.programs.push_back(&program);
  const auto groups = update_groups(rank_model, gradients, run.train.reduction_leaves, ranks);
  const auto buckets = make_update_buckets(rank_model.table, {}, groups, kUpdateBucketElements);
  const LeafRange leaves = leaves_of_tree(run.train.reduction_leaves, ranks);
  for (size_t i = 0; i < shown.microbatch.size(); ++i) {
    shown.microbatch[i] = share_state(std::move(shown.microbatch[i]), buckets);
    shown.last.push_back(write_last_run(shown.microbatch[i], i, buckets, leaves));
  }
  shown.exchange = write_exchange(buckets, leaves, ExchangedBehind::kOthers);
  ASSIGN_OR_RETURN(UpdateProgram update, write_update_program(rank_model.table, {}, groups, {.world = ranks.all()}));
  shown.update = std::move(update.program);
  return shown;
}

Result<ShownPrograms> write_programs(const ShowArguments& arguments, const ModelConfig& model,
                                     const ProgramOptions& options) {
  if (arguments.kind != "decode") return write_rank_programs(arguments, model, options);
  if (!arguments.mesh.empty()) return invalid("[--mesh] decoding runs on one rank; leave --mesh out");
  ShownPrograms shown;
  ASSIGN_OR_RETURN(Program program, write_decode_program(model, options, model.context));
  shown.microbatch.push_back(std::move(program));
  return shown;
}

// A layer is much like the next: show one of each.
bool is_later_layer(const Operation& operation) {
  return operation.scope.starts_with("layers.") && !operation.scope.starts_with("layers.0");
}

void print_operations(const Program& program, bool all, int64_t num_layers) {
  Program shown = program;
  if (!all) std::erase_if(shown.operations, is_later_layer);
  std::fputs(to_string(shown, {.costs = true, .tensors = false}).c_str(), stdout);
  if (!all && num_layers > 1)
    std::printf("  (layers 1 to %lld are like layer 0: %zu of %zu operations shown; --all shows every one)\n",
                static_cast<long long>(num_layers - 1), shown.operations.size(), program.operations.size());
}

void print_costs(const Program& program) {
  struct Row {
    int64_t count = 0;
    Cost cost;
  };
  std::map<std::string, Row> rows;
  Cost total;
  for (const Operation& operation : program.operations) {
    const Cost cost = cost_of(program, operation);
    Row& row = rows[std::string(op_name(operation.op))];
    ++row.count;
    row.cost += cost;
    total += cost;
  }
  std::printf("\n%-24s %8s %14s %7s %12s %12s\n", "operation", "count", "TFLOP", "share", "GB read", "GB written");
  for (const auto& [name, row] : rows)
    std::printf("%-24s %8lld %14.4f %6.1f%% %12.3f %12.3f\n", name.c_str(), static_cast<long long>(row.count),
                row.cost.flops * 1e-12, 100 * row.cost.flops / std::max(total.flops, 1.0), row.cost.bytes_read * 1e-9,
                row.cost.bytes_written * 1e-9);
  std::printf("%-24s %8zu %14.4f %6.1f%% %12.3f %12.3f\n", "all", program.operations.size(), total.flops * 1e-12, 100.0,
              total.bytes_read * 1e-9, total.bytes_written * 1e-9);
}

// What a rank sends, by the ranks it talks to and the operation.
struct Volume {
  int64_t count = 0;
  double bytes = 0;
};
using Volumes = std::map<std::pair<std::string, std::string>, Volume>;

void add_volumes(const Program& program, int64_t runs, Volumes& volumes) {
  if (runs == 0) return;
  for (const Operation& operation : program.operations) {
    const RankGroup* group = group_of(operation.op);
    if (!group) continue;
    const std::string ranks = *group == RankGroup() ? "all ranks" : group->name();
    Volume& volume = volumes[{ranks, std::string(op_name(operation.op))}];
    volume.count += runs;
    volume.bytes += static_cast<double>(runs) * cost_of(program, operation).bytes_sent;
  }
}

void print_volumes(const std::string& title, const Volumes& volumes) {
  if (volumes.empty()) return;
  std::printf("\n%-40s %-24s %8s %12s\n", title.c_str(), "operation", "count", "GB sent");
  double total = 0;
  for (const auto& [name, volume] : volumes) {
    std::printf("%-40s %-24s %8lld %12.4f\n", name.first.c_str(), name.second.c_str(),
                static_cast<long long>(volume.count), volume.bytes * 1e-9);
    total += volume.bytes;
  }
  std::printf("%-40s %-24s %8s %12.4f\n", "all", "", "", total * 1e-9);
}

Status print_program(const ShowArguments& arguments, const ModelConfig& model, const Program& program) {
  RETURN_IF_ERROR(verify(program));
  print_operations(program, arguments.all, model.num_layers);
  print_costs(program);
  Volumes volumes;
  add_volumes(program, 1, volumes);
  print_volumes("among ranks along", volumes);
  std::printf("\n%s\n", to_string(plan_memory(program), program).c_str());
  return ok_status();
}

// Programs of the last microbatch are shown where they are asked for: they are the others, with the exchange.
Status print_programs(const ShowArguments& arguments, const ModelConfig& model, const ShownPrograms& shown) {
  if (arguments.kind == "update") {
    if (!shown.exchange.operations.empty()) RETURN_IF_ERROR(print_program(arguments, model, shown.exchange));
    return print_program(arguments, model, *shown.update);
  }
  for (size_t i = 0; i < shown.microbatch.size(); ++i) {
    const bool last = arguments.kind == "last" && !shown.last[i].operations.empty();
    RETURN_IF_ERROR(print_program(arguments, model, last ? shown.last[i] : shown.microbatch[i]));
  }
  return ok_status();
}

Status show(const ShowArguments& arguments) {
  ASSIGN_OR_RETURN(ModelConfig model, load_config<ModelConfig>(local_files(), arguments.config, arguments.overrides));
  if (model.vocab_size == 0) model.vocab_size = 65536;
  ProgramOptions options{.batch = arguments.batch, .tokens = arguments.seq > 0 ? arguments.seq : model.context};
  const auto compute = dtype_from_name(arguments.compute);
  if (!compute || !is_float(*compute))
    return invalid(fmt::format("[--compute] {}; give bf16 or f32", arguments.compute));
  options.compute = *compute;
  ASSIGN_OR_RETURN(const ShownPrograms shown, write_programs(arguments, model, options));
  ASSIGN_OR_RETURN(const auto counts, count_parameters(model));
  ASSIGN_OR_RETURN(const double flops, training_flops_per_token(model, options.tokens));
  RETURN_IF_ERROR(print_programs(arguments, model, shown));
  if (shown.update) {
    Volumes step;
    for (size_t i = 0; i < shown.microbatch.size(); ++i) {
      const bool has_last = !shown.last[i].operations.empty();
      add_volumes(shown.microbatch[i], arguments.microbatches - (has_last ? 1 : 0), step);
      add_volumes(shown.last[i], 1, step);
    }
    add_volumes(shown.exchange, 1, step);
    add_volumes(*shown.update, 1, step);
    print_volumes(
        fmt::format("in a step of {} microbatch{}", arguments.microbatches, arguments.microbatches == 1 ? "" : "es"),
        step);
  }
  const auto grouped = [](int64_t value) {
    std::string text = std::to_string(value);
    for (auto at = static_cast<int64_t>(text.size()) - 3; at > 0; at -= 3) text.insert(static_cast<size_t>(at), 1, ',');
    return text;
  };
  std::printf(
      "\nparameters           %s\nactive per token     %s\ntraining FLOPs/token %.4g (6 * matmul parameters + 12 * L * "
      "C * T)\n",
      grouped(counts.total).c_str(), grouped(counts.active).c_str(), flops);
  return ok_status();
}

}  // namespace

void add_program_command(Command root) {
  auto arguments = std::make_shared<ShowArguments>();
  Command shown =
      root.add_command("program", "Look at the programs that run")
          .add_command("show", "Operations, shapes, memory, FLOPs and parameters of a model, without running it");
  shown.option("config", arguments->config, "a model, for example configs/models/grok-1.toml", {.required = true});
  shown.option("--set", arguments->overrides, "a=value over the model's configuration; repeatable");
  shown.option("--kind", arguments->kind, "which program; last: of a step's last microbatch",
               {.choices = {"forward", "train", "last", "update", "decode"}});
  shown.option("--batch", arguments->batch, "sequences", {.min = 1, .max = 1 << 20});
  shown.option("--seq", arguments->seq, "tokens of a sequence; 0: the model's context", {.min = 0, .max = 1 << 24});
  shown.option("--recompute", arguments->recompute, "activations computed again instead of kept",
               {.choices = recompute_names()});
  shown.option("--compute", arguments->compute, "type of activations", {.choices = {"bf16", "f32"}});
  shown.option("--mesh", arguments->mesh,
               "axis=ranks of a layout, for example tensor=8: one rank's program; repeatable");
  shown.option("--microbatches", arguments->microbatches, "of a rank in a step, for what it sends", {.min = 1});
  shown.option("--rank", arguments->rank, "which rank of the layout", {.min = 0});
  shown.flag("--all", arguments->all, "every layer's operations");
  shown.run([arguments] { return show(*arguments); });
}

}  // namespace colossus
