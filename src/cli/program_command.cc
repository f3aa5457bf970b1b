#include "cli/program_command.h"

#include <fmt/format.h>

#include <cstdio>
#include <map>

#include "cli/exit_code.h"
#include "cli/terminal.h"
#include "io/config.h"
#include "model/model.h"
#include "parallel/mesh.h"
#include "parallel/partition.h"
#include "program/memory_plan.h"
#include "train/rank_model.h"

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
  bool all = false;
};

std::vector<std::string> recompute_names() {
  std::vector<std::string> names;
  for (const auto& choice : field_choices(Recompute{})) names.emplace_back(choice.name);
  return names;
}

// What one rank of a layout runs of the forward pass.
Result<Program> write_rank_program(const ShowArguments& arguments, const ModelConfig& model,
                                   const ProgramOptions& options) {
  ASSIGN_OR_RETURN(const MeshConfig config, parse_config<MeshConfig>("", "--mesh", arguments.mesh));
  // As many leaves as the layout has data ranks: how gradients are summed is a matter of the run.
  RETURN_IF_ERROR(check_mesh(config, mesh_limits(model, options.tokens, config.data * config.shard)));
  if (config.pipeline > 1) return invalid("[mesh.pipeline] shown are programs of whole models; leave it at 1");
  const Mesh mesh(config);
  if (arguments.rank >= mesh.size())
    return invalid(fmt::format("[--rank] {}; the mesh has ranks 0 to {}", arguments.rank, mesh.size() - 1));
  ASSIGN_OR_RETURN(const Program whole, write_loss_program(model, options));
  ASSIGN_OR_RETURN(const auto parameters, parameter_table(model));
  ASSIGN_OR_RETURN(RankProgram part, partition(whole, placements_of(parameters), mesh.position(arguments.rank)));
  return std::move(part.program);
}

Result<Program> write_program(const ShowArguments& arguments, const ModelConfig& model, const ProgramOptions& options) {
  if (!arguments.mesh.empty() && arguments.kind != "decode") {
    ASSIGN_OR_RETURN(Program forward, write_rank_program(arguments, model, options));
    if (arguments.kind == "forward") return forward;
    for (const auto& choice : field_choices(Recompute{}))
      if (arguments.recompute == choice.name) return write_training_program(std::move(forward), choice.value);
  }
  if (!arguments.mesh.empty()) return invalid("[--mesh] decoding runs on one rank; leave --mesh out");
  if (arguments.kind == "forward") return write_loss_program(model, options);
  if (arguments.kind == "decode") return write_decode_program(model, options, model.context);
  for (const auto& choice : field_choices(Recompute{}))
    if (arguments.recompute == choice.name) return write_training_program(model, options, choice.value);
  return invalid(fmt::format("[--recompute] {}; give none, selective or full", arguments.recompute));
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

// What a rank sends in one microbatch, by the ranks it talks to.
void print_communication(const Program& program) {
  struct Row {
    int64_t count = 0;
    double bytes = 0;
  };
  std::map<std::pair<std::string, std::string>, Row> rows;
  for (const Operation& operation : program.operations) {
    const RankGroup* group = group_of(operation.op);
    if (!group) continue;
    Row& row = rows[{group->name(), std::string(op_name(operation.op))}];
    ++row.count;
    row.bytes += cost_of(program, operation).bytes_sent;
  }
  if (rows.empty()) return;
  std::printf("\n%-24s %-24s %8s %12s\n", "to ranks along", "operation", "count", "GB sent");
  for (const auto& [name, row] : rows)
    std::printf("%-24s %-24s %8lld %12.4f\n", name.first.c_str(), name.second.c_str(),
                static_cast<long long>(row.count), row.bytes * 1e-9);
}

Status show(const ShowArguments& arguments) {
  ASSIGN_OR_RETURN(ModelConfig model, load_config<ModelConfig>(local_files(), arguments.config, arguments.overrides));
  if (model.vocab_size == 0) model.vocab_size = 65536;
  ProgramOptions options{.batch = arguments.batch, .tokens = arguments.seq > 0 ? arguments.seq : model.context};
  const auto compute = dtype_from_name(arguments.compute);
  if (!compute || !is_float(*compute))
    return invalid(fmt::format("[--compute] {}; give bf16 or f32", arguments.compute));
  options.compute = *compute;
  ASSIGN_OR_RETURN(const Program program, write_program(arguments, model, options));
  RETURN_IF_ERROR(verify(program));
  ASSIGN_OR_RETURN(const auto counts, count_parameters(model));
  ASSIGN_OR_RETURN(const double flops, training_flops_per_token(model, options.tokens));
  print_operations(program, arguments.all, model.num_layers);
  print_costs(program);
  print_communication(program);
  const auto grouped = [](int64_t value) {
    std::string text = std::to_string(value);
    for (auto at = static_cast<int64_t>(text.size()) - 3; at > 0; at -= 3) text.insert(static_cast<size_t>(at), 1, ',');
    return text;
  };
  std::printf(
      "\nparameters           %s\nactive per token     %s\ntraining FLOPs/token %.4g (6 * matmul parameters + 12 * L * "
      "C * T)\n",
      grouped(counts.total).c_str(), grouped(counts.active).c_str(), flops);
  std::printf("\n%s", to_string(plan_memory(program), program).c_str());
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
  shown.option("--kind", arguments->kind, "which program", {.choices = {"forward", "train", "decode"}});
  shown.option("--batch", arguments->batch, "sequences", {.min = 1, .max = 1 << 20});
  shown.option("--seq", arguments->seq, "tokens of a sequence; 0: the model's context", {.min = 0, .max = 1 << 24});
  shown.option("--recompute", arguments->recompute, "activations computed again instead of kept",
               {.choices = recompute_names()});
  shown.option("--compute", arguments->compute, "type of activations", {.choices = {"bf16", "f32"}});
  shown.option("--mesh", arguments->mesh,
               "axis=ranks of a layout, for example tensor=8: one rank's program; repeatable");
  shown.option("--rank", arguments->rank, "which rank of the layout", {.min = 0});
  shown.flag("--all", arguments->all, "every layer's operations");
  shown.run([arguments] { return show(*arguments); });
}

}  // namespace colossus
