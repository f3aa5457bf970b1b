#include "train/rank_model.h"

#include <algorithm>
#include <map>

#include "parallel/pipeline_cut.h"

namespace colossus {
namespace {

// A gradient of a parameter that a rank's programs make, and where it stands in the sum of several.
struct Accumulator {
  int64_t place = 0;  // the embedding's before the head's
  size_t program = 0;
  std::string name;
};

std::vector<Accumulator> accumulators_of(const std::string& parameter, const std::vector<const Program*>& programs) {
  std::vector<Accumulator> found;
  const std::string names[] = {"grad." + parameter + ".lookup", "grad." + parameter};
  for (int64_t place = 0; place < 2; ++place)
    for (size_t program = 0; program < programs.size(); ++program)
      if (programs[program]->find(names[place])) found.push_back({place, program, names[place]});
  return found;
}

bool is_of(const std::vector<const Program*>& programs, const std::string& parameter) {
  return std::ranges::any_of(programs, [&](const Program* program) { return bool(program->find(parameter)); });
}

// Who else adds to a parameter's gradient, and how they divide the update among them.
struct Sharing {
  std::vector<int64_t> all, replicas, shards;
  bool on_both_ends = false;
  bool operator==(const Sharing&) const = default;
};

Sharing sharing_of(const TensorPart& part, bool on_both_ends, const Ranks& ranks) {
  using enum MeshAxis;
  RankGroup axes;
  for (const Placement::OnAxis& on_axis : part.gradient.axes())
    if (on_axis.kind == Placement::Kind::kPartial) axes = axes.with(on_axis.axis);
  const auto along = [&](RankGroup group) { return ranks_along(ranks.mesh, ranks.rank, group); };
  if (on_both_ends) {
    const auto ends = along(kEndRanks), end = along(RankGroup::along({kData, kShard, kContext, kTensor}));
    // The ends come to the same leaf at different times: each sums its own, and they are replicas of one another.
    if (ranks.mesh.config().zero_stage >= 2 && end.size() > 1)
      return {.all = ends, .replicas = along(kEndPair), .shards = end, .on_both_ends = true};
    return {.all = ends, .replicas = {ranks.rank}, .shards = ends, .on_both_ends = true};
  }
  if (axes == RankGroup()) return {.all = {ranks.rank}, .replicas = {ranks.rank}, .shards = {ranks.rank}};
  const std::vector<int64_t> all = along(axes);
  // Experts that nobody cut are copies like all others.
  if (axes.contains(kExpertData) && all != along(RankGroup::along({kData, kShard, kContext, kTensor})))
    return {.all = all, .replicas = {ranks.rank}, .shards = all};
  RankGroup shards = RankGroup::along({kShard, kContext});
  if (!part.placement.find(kTensor)) shards = shards.with(kTensor);
  return {.all = all, .replicas = along(RankGroup::along({kData})), .shards = along(shards)};
}

// Where `parameter` is a part of matrices: who has the others.
void set_matrix_peers(const Placement& placement, const Ranks& ranks, UpdateParameter& parameter) {
  for (const Placement::OnAxis& cut : placement.axes()) {
    if (cut.axis != MeshAxis::kTensor && cut.axis != MeshAxis::kExpertTensor) continue;
    parameter.matrix_peers = {RankGroup::along({cut.axis}), ranks.mesh.size(cut.axis),
                              ranks.mesh.coordinate(ranks.rank, cut.axis)};
    parameter.cut_columns = cut.dimension == parameter.shape.rank() - 1;
  }
}

// The order of the sum over all ranks of a group, and who has which of its terms.
void set_sums(const Sharing& sharing, int64_t num_accumulators, int64_t num_leaves, const Ranks& ranks,
              UpdateGroup& group) {
  const std::vector<LeafRange> leaves = leaves_of_data_ranks(num_leaves, ranks);
  const int64_t of_stage = ranks.size() / ranks.mesh.size(MeshAxis::kPipeline);
  const auto same_place = [&](int64_t a, int64_t b) {
    return a / of_stage == b / of_stage && ranks.data_rank(a) == ranks.data_rank(b);
  };
  const auto count_like = [&](int64_t member) {
    return std::ranges::count_if(sharing.all, [&](int64_t other) { return same_place(member, other); });
  };
  const int64_t num_inner = count_like(sharing.all.front());
  // Experts may lie over the data ranks: then a rank has sums over the leaves of several data ranks, which are terms of
  // their own.
  const int64_t num_ends = sharing.on_both_ends ? 2 : 1;
  const bool over_data_ranks =
      static_cast<int64_t>(sharing.all.size()) != num_ends * num_inner * ranks.num_data_ranks();
  std::vector<LeafTerm> terms;
  std::map<std::pair<int64_t, int64_t>, int64_t> seen;  // by stage and data rank
  for (const int64_t member : sharing.all) {
    const int64_t stage = member / of_stage, data_rank = ranks.data_rank(member);
    const int64_t inner = seen[{stage, data_rank}]++;
    const LeafRange& own = leaves[static_cast<size_t>(data_rank)];
    int64_t num_sums = 0;
    for (int64_t i = 0; i < num_accumulators; ++i) {
      const int64_t place = sharing.on_both_ends ? (stage == 0 ? 0 : 1) : i;
      const int64_t num_nodes = static_cast<int64_t>(whole_subtrees(own).size());
      CHECK(!over_data_ranks || num_nodes == 1, "experts over data ranks: check_mesh asks for equal shares of leaves");
      if (over_data_ranks)
        terms.push_back({static_cast<int64_t>(terms.size()), {0, 1}});
      else
        terms.push_back({place * num_inner + inner, own});
      num_sums += num_nodes;
    }
    group.num_sums.push_back(num_sums);
  }
  // Alone, a rank adds what it has of several accumulators itself.
  if (sharing.all.size() > 1) group.additions = term_additions(terms);
}

// ZeRO 2: after each leaf of its own a rank has its piece of the sum over the leaves that all have now.
void set_exchange(const Sharing& sharing, int64_t num_accumulators, const Ranks& ranks, UpdateGroup& group) {
  const std::vector<int64_t>& members = sharing.on_both_ends ? sharing.shards : sharing.all;
  const auto num_members = static_cast<int64_t>(members.size()), num_data_ranks = ranks.num_data_ranks();
  const int64_t num_inner = std::ranges::count_if(
      members, [&](int64_t other) { return ranks.data_rank(other) == ranks.data_rank(members.front()); });
  UpdateGroup::Exchange exchange{.peers = ranks.peers(members, Link::kGradients), .additions = {}};
  if (num_members != num_inner * num_data_ranks) {
    // Experts over data ranks: whoever shares them adds in order of rank.
    for (int from = 1; from < static_cast<int>(num_members); ++from) exchange.additions.push_back({0, from});
  } else {
    exchange.num_sums = num_inner;
    std::vector<TreeNode> leaves;
    for (int64_t leaf = 0; leaf < num_data_ranks; ++leaf) leaves.push_back({0, leaf});
    for (int term = 0; term < static_cast<int>(num_inner); ++term)
      for (const TreeAddition& addition : tree_additions(leaves))
        exchange.additions.push_back(
            {addition.into * static_cast<int>(num_inner) + term, addition.from * static_cast<int>(num_inner) + term});
  }
  const int64_t num_terms = exchange.num_sums * (sharing.on_both_ends ? 2 : num_accumulators);
  for (int from = 1; from < static_cast<int>(num_terms); ++from) group.additions.push_back({0, from});
  if (sharing.on_both_ends) group.num_sums = {exchange.num_sums, exchange.num_sums};
  if (ranks.mesh.config().zero_stage == 3 && sharing.shards.size() > 1)
    group.gather = ranks.peers(sharing.shards, Link::kParameters);
  group.exchange = std::move(exchange);
}

// ZeRO 1: which of the rank's programs can exchange the gradients in its last run. Not several; and of what is on both
// ends of a pipeline none: one end would wait for the other, which waits for what this one does next.
void set_last_run(const Sharing& sharing, const std::vector<std::pair<int64_t, size_t>>& accumulators,
                  const Ranks& ranks, UpdateGroup& group) {
  const size_t program = accumulators.front().second;
  const bool of_one = std::ranges::all_of(accumulators, [&](const auto& other) { return other.second == program; });
  if (sharing.all.size() == 1 || sharing.on_both_ends || !of_one) return;
  group.last_run = {.program = program,
                    .all = ranks.peers(sharing.all, Link::kGradients),
                    .replicas = ranks.peers(sharing.replicas, Link::kGradients)};
}

// Do ranks of one stage add to the gradients?
bool exchanges_beside(const Sharing& sharing, const Ranks& ranks) {
  return ranks.mesh.config().zero_stage >= 2 && sharing.all.size() > 1 &&
         !(sharing.on_both_ends && sharing.replicas.size() == 1);
}

}  // namespace

const TensorPart& RankModel::parameter(const std::string& name) const {
  const auto found = std::ranges::find(forward.parameters, name, &TensorPart::name);
  CHECK(found != forward.parameters.end(), name.c_str());
  return *found;
}

std::map<std::string, Placement> placements_of(std::span<const ParameterSpec> table) {
  std::map<std::string, Placement> placements;
  for (const ParameterSpec& spec : table) placements[spec.name] = spec.placement;
  return placements;
}

Result<RankModel> write_rank_model(const RunConfig& run, DType compute, const Ranks& ranks) {
  RankModel model;
  model.options = {.batch = run.train.microbatch,
                   .tokens = run.train.tokens,
                   .compute = compute,
                   .document_mask = run.data.document_mask};
  ASSIGN_OR_RETURN(model.table, parameter_table(run.model));
  ASSIGN_OR_RETURN(const Program whole, write_loss_program(run.model, model.options));
  ASSIGN_OR_RETURN(model.forward, partition(whole, placements_of(model.table), ranks.mesh.position(ranks.rank)));
  ASSIGN_OR_RETURN(Program microbatch, write_training_program(model.forward.program, run.train.recompute));
  model.microbatch = keep_lookups_apart(std::move(microbatch));
  return model;
}

std::vector<LeafRange> leaves_of_data_ranks(int64_t num_leaves, const Ranks& ranks) {
  if (!ranks.leaves.empty()) return ranks.leaves;
  // Equal shares; they differ by at most one.
  return share_leaves(num_leaves, std::vector<LeafPace>(static_cast<size_t>(ranks.num_data_ranks())));
}

LeafRange leaves_of_tree(int64_t num_leaves, const Ranks& ranks) {
  if (ranks.mesh.config().zero_stage >= 2) return {0, num_leaves / ranks.num_data_ranks()};
  return leaves_of_data_ranks(num_leaves, ranks)[static_cast<size_t>(ranks.data_rank())];
}

std::vector<UpdateGroup> update_groups(const RankModel& model, const RankGradients& gradients, int64_t num_leaves,
                                       const Ranks& ranks) {
  struct Found {
    Sharing sharing;
    std::vector<std::pair<int64_t, size_t>> accumulators;  // place and program
  };
  std::vector<Found> found;
  std::vector<UpdateGroup> groups;
  for (size_t i = 0; i < model.table.size(); ++i) {
    const std::string& name = model.table[i].name;
    if (!is_of(gradients.programs, name)) continue;
    const TensorPart& part = model.parameter(name);
    const bool on_both_ends = std::ranges::count(gradients.shared, name) > 0;
    Found key{sharing_of(part, on_both_ends, ranks), {}};
    UpdateParameter parameter{
        .index = i,
        .shape = local_slice(part.whole.shape, part.placement, ranks.mesh.position(ranks.rank)).shape,
        .gradients = {},
        .matrix_peers = {}};
    for (const Accumulator& accumulator : accumulators_of(name, gradients.programs)) {
      key.accumulators.emplace_back(accumulator.place, accumulator.program);
      parameter.gradients.push_back(accumulator.name);
    }
    CHECK(!parameter.gradients.empty(), name.c_str());
    set_matrix_peers(part.placement, ranks, parameter);
    size_t at = 0;
    while (at < found.size() && !(found[at].sharing == key.sharing && found[at].accumulators == key.accumulators)) ++at;
    if (at == found.size()) {
      UpdateGroup group{.all = ranks.peers(key.sharing.all),
                        .replicas = ranks.peers(key.sharing.replicas),
                        .shards = ranks.peers(key.sharing.shards),
                        .num_sums = {},
                        .additions = {},
                        .parameters = {}};
      const auto num_accumulators = static_cast<int64_t>(key.accumulators.size());
      if (exchanges_beside(key.sharing, ranks)) {
        set_exchange(key.sharing, num_accumulators, ranks, group);
      } else {
        set_sums(key.sharing, num_accumulators, num_leaves, ranks, group);
        set_last_run(key.sharing, key.accumulators, ranks, group);
      }
      groups.push_back(std::move(group));
      found.push_back(std::move(key));
    }
    groups[at].parameters.push_back(std::move(parameter));
  }
  return groups;
}

}  // namespace colossus
