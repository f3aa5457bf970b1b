#include "train/shared_state.h"

#include <fmt/format.h>

#include "parallel/shard_state.h"

namespace colossus {
namespace {

// Ranges of the bucket [begin, ...), by rank of a group.
PieceAttributes pieces_among(const Peers& peers, const std::vector<ElementRange>& of_rank) {
  PieceAttributes attributes{{peers.group, peers.ranks, peers.rank}, {}};
  for (const ElementRange& piece : of_rank) attributes.bounds.insert(attributes.bounds.end(), {piece.begin, piece.end});
  return attributes;
}

std::vector<ElementRange> ranges_of_shards(const UpdateBucket& bucket) {
  std::vector<ElementRange> of_rank;
  for (int64_t shard = 0; shard < bucket.group->shards.ranks; ++shard) of_rank.push_back(bucket.range_of_shard(shard));
  return of_rank;
}

std::vector<BucketMember> members_of(const UpdateBucket& bucket, size_t accumulator) {
  std::vector<BucketMember> members;
  for (size_t i = 0; i < bucket.bucket.tensors.size(); ++i)
    members.push_back({bucket.parameter(i).gradients[accumulator], bucket.bucket.tensors[i].offset});
  return members;
}

TreeSum tree_sum(const std::vector<TreeAddition>& additions) {
  TreeSum op;
  for (const TreeAddition& addition : additions) op.additions.insert(op.additions.end(), {addition.into, addition.from});
  return op;
}

// Of each run.
std::vector<ExchangedBucket> exchanged_buckets(const UpdateBucket& bucket) {
  const UpdateGroup::Exchange& exchange = *bucket.group->exchange;
  const std::vector<ElementRange> of_rank =
      bucket.group->is_on_both_ends() ? ranges_of_shards(bucket) : bucket.pieces_by_rank();
  std::vector<ExchangedBucket> buckets;
  for (size_t accumulator = 0; accumulator < bucket.group->num_accumulators(); ++accumulator) {
    const std::string name = bucket.gradients_name(accumulator);
    buckets.push_back({.name = name,
                       .size = bucket.bucket.size,
                       .sums = {{.name = name + ".whole",
                                 .members = members_of(bucket, accumulator),
                                 .added = {},
                                 .before = {}}},
                       .exchange = {pieces_among(exchange.peers, of_rank), std::vector<int64_t>(of_rank.size(), 1)},
                       .addition = tree_sum(exchange.additions),
                       .replicas = {},
                       .num_kept = exchange.num_sums});
  }
  return buckets;
}

// Of all leaves at once. in_last_run: the last of them is the run's, else all are added up.
ExchangedBucket exchanged_bucket(const UpdateBucket& bucket, LeafRange leaves, bool in_last_run) {
  const UpdateGroup& group = *bucket.group;
  const Peers& all = group.last_run ? group.last_run->all : group.all;
  ExchangedBucket own{.name = bucket.gradients_name(0),
                      .size = bucket.bucket.size,
                      .sums = {},
                      .exchange = {pieces_among(all, bucket.pieces_by_rank()), group.num_sums},
                      .addition = tree_sum(group.additions),
                      .replicas = {}};
  if (group.replicas.ranks > 1) {
    const Peers& replicas = group.last_run ? group.last_run->replicas : group.replicas;
    own.replicas = GatherPieces{pieces_among(replicas, bucket.pieces_of_replicas())};
  }
  // What waits before the last leaf is added, and after it: GradientTree's.
  const size_t num_waiting = whole_subtrees({leaves.begin, leaves.end - 1}).size(),
               num_before = whole_subtrees(leaves).size() - 1;
  CHECK(group.num_sums[static_cast<size_t>(all.rank)] ==
            static_cast<int64_t>((num_before + 1) * group.num_accumulators()),
        "accumulators of a rank are sums over the same leaves");
  for (size_t accumulator = 0; accumulator < group.num_accumulators(); ++accumulator) {
    GradientSum sum{.name = bucket.gradients_name(accumulator), .members = {}, .added = {}, .before = {}};
    for (size_t i = 0; i < num_before; ++i) sum.before.push_back(partial_sum_name(sum.name, i));
    if (in_last_run) {
      for (size_t i = num_waiting; i-- > num_before;) sum.added.push_back(partial_sum_name(sum.name, i));
      sum.members = members_of(bucket, accumulator);
    }
    own.sums.push_back(std::move(sum));
  }
  return own;
}

GatheredBucket gathered_bucket(const UpdateBucket& bucket) {
  GatheredBucket own{.piece = bucket.parameters_name(),
                     .members = {},
                     .pieces = pieces_among(*bucket.group->gather, ranges_of_shards(bucket))};
  for (const FlatTensor& tensor : bucket.bucket.tensors) own.members.push_back({tensor.name, tensor.offset});
  return own;
}

}  // namespace

Program share_state(Program program, const std::vector<UpdateBucket>& buckets) {
  std::vector<ExchangedBucket> exchanged;
  std::vector<GatheredBucket> gathered;
  for (const UpdateBucket& bucket : buckets) {
    if (bucket.group->exchange)
      for (ExchangedBucket& each : exchanged_buckets(bucket)) exchanged.push_back(std::move(each));
    if (bucket.group->gather) gathered.push_back(gathered_bucket(bucket));
  }
  if (!exchanged.empty()) program = exchange_gradients(std::move(program), exchanged);
  if (!gathered.empty()) program = gather_parameters(std::move(program), gathered);
  return program;
}

std::string partial_sum_name(const std::string& accumulator, size_t i) {
  return fmt::format("partial.{}.{}", i, accumulator);
}

Program write_last_run(const Program& program, size_t index, const std::vector<UpdateBucket>& buckets,
                       LeafRange leaves) {
  std::vector<ExchangedBucket> exchanged;
  for (const UpdateBucket& bucket : buckets)
    if (bucket.group->last_run && bucket.group->last_run->program == index)
      exchanged.push_back(exchanged_bucket(bucket, leaves, true));
  if (exchanged.empty()) return {};
  Program last = exchange_gradients(program, exchanged);
  last.name += ".last";
  return last;
}

Program write_exchange(const std::vector<UpdateBucket>& buckets, LeafRange leaves, ExchangedBehind which) {
  std::vector<ExchangedBucket> exchanged;
  for (const UpdateBucket& bucket : buckets) {
    const UpdateGroup& group = *bucket.group;
    if (group.all.ranks == 1 || group.exchange) continue;
    if (!group.last_run || which == ExchangedBehind::kAll) exchanged.push_back(exchanged_bucket(bucket, leaves, false));
  }
  return write_exchange(exchanged);
}

}  // namespace colossus
