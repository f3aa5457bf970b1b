#include "train/shared_state.h"

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

std::vector<ExchangedBucket> exchanged_buckets(const UpdateBucket& bucket) {
  const UpdateGroup::Exchange& exchange = *bucket.group->exchange;
  const std::vector<ElementRange> of_rank =
      bucket.group->is_on_both_ends() ? ranges_of_shards(bucket) : bucket.pieces_by_rank();
  std::vector<ExchangedBucket> buckets;
  for (size_t accumulator = 0; accumulator < bucket.group->num_accumulators(); ++accumulator) {
    ExchangedBucket own{.sums = bucket.gradients_name(accumulator),
                        .num_sums = exchange.num_sums,
                        .size = bucket.bucket.size,
                        .members = {},
                        .exchange = {pieces_among(exchange.peers, of_rank), std::vector<int64_t>(of_rank.size(), 1)},
                        .addition = {}};
    for (const TreeAddition& addition : exchange.additions)
      own.addition.additions.insert(own.addition.additions.end(), {addition.into, addition.from});
    for (size_t i = 0; i < bucket.bucket.tensors.size(); ++i)
      own.members.push_back({bucket.parameter(i).gradients[accumulator], bucket.bucket.tensors[i].offset});
    buckets.push_back(std::move(own));
  }
  return buckets;
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

}  // namespace colossus
