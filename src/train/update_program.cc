#include "train/update_program.h"

#include <fmt/format.h>

#include "program/builder.h"

namespace colossus {
namespace {

bool by_muon(const ParameterSpec& spec, const OptimizerConfig& optimizer) {
  return optimizer.kind == OptimizerKind::kMuon && spec.kind == ParameterSpec::Kind::kMatrix;
}

// Where the programs of a rank add their gradients.
std::string accumulator_name(size_t bucket, size_t accumulator) {
  return accumulator == 0 ? fmt::format("gradients.{}", bucket) : fmt::format("gradients.{}.{}", bucket, accumulator);
}

// The parameters of a group as they lie in memory.
std::vector<Bucket> parameter_buckets(std::span<const ParameterSpec> table, const OptimizerConfig& optimizer,
                                      const UpdateGroup& group, int64_t bucket_elements) {
  std::vector<FlatTensor> tensors;
  for (const UpdateParameter& parameter : group.parameters) {
    const ParameterSpec& spec = table[parameter.index];
    tensors.push_back({.name = spec.name, .shape = parameter.shape, .whole_matrices = by_muon(spec, optimizer)});
  }
  return make_buckets(tensors, bucket_elements);
}

CollectiveAttributes among(const Peers& peers) { return {peers.group, peers.ranks, peers.rank}; }

// One bucket as this rank sees it.
struct BucketTensors {
  size_t index = 0;
  const UpdateGroup* group = nullptr;
  Bucket bucket;
  TensorId parameters;
  std::vector<TensorId> accumulators;         // the sum of all is in the first one
  std::vector<TensorId> parameter, gradient;  // views, by tensor; gradient: of the first accumulator
  std::vector<ElementRange> pieces;           // by rank of `all`
  ElementRange own_piece;
  ElementRange updated;  // by this rank and its replicas
};

class UpdateWriter {
 public:
  UpdateWriter(std::span<const ParameterSpec> table, const OptimizerConfig& optimizer, const UpdateOptions& options)
      : table_(table), optimizer_(optimizer), options_(options), b_("update") {
    lr_ = b_.input("lr", {}, DType::kF32);
    muon_lr_ = b_.input("muon_lr", {}, DType::kF32);
    step_ = b_.input("step", {}, DType::kI64);
    b_.set_phase(Phase::kUpdate);
  }

  Result<UpdateProgram> write(const std::vector<UpdateGroup>& groups) {
    for (const UpdateGroup& group : groups) {
      size_t first = 0;  // parameter of the bucket
      for (Bucket& bucket : parameter_buckets(table_, optimizer_, group, options_.bucket_elements)) {
        const size_t count = bucket.tensors.size();
        declare(group, std::move(bucket), first);
        first += count;
      }
    }
    RETURN_IF_ERROR(b_.status());
    const TensorId loss = write_loss();
    for (const BucketTensors& bucket : buckets_) sum_gradients(bucket);
    write_norm(loss);
    for (const BucketTensors& bucket : buckets_) share_among_replicas(bucket);
    for (const BucketTensors& bucket : buckets_) {
      update(bucket);
      share_parameters(bucket);
    }
    ASSIGN_OR_RETURN(result_.program, b_.finish());
    return std::move(result_);
  }

 private:
  // Pieces lie shard by shard, so that what the replicas of one shard have together is one range.
  static size_t piece_of(const UpdateGroup& group, int64_t rank_of_all) {
    const int64_t shard = rank_of_all % group.shards.ranks, replica = rank_of_all / group.shards.ranks;
    return static_cast<size_t>(shard * group.replicas.ranks + replica);
  }
  static ElementRange range_of_shard(const BucketTensors& bucket, int64_t shard) {
    const int64_t replicas = bucket.group->replicas.ranks, first = shard * replicas;
    return {bucket.pieces[static_cast<size_t>(first)].begin,
            bucket.pieces[static_cast<size_t>(first + replicas - 1)].end};
  }

  const UpdateParameter& parameter_of(const BucketTensors& bucket, size_t i) const {
    return bucket.group->parameters[first_of_bucket_[bucket.index] + i];
  }

  void declare(const UpdateGroup& group, Bucket bucket, size_t first) {
    BucketTensors tensors{.index = buckets_.size(), .group = &group, .bucket = std::move(bucket)};
    first_of_bucket_.push_back(first);
    const TensorType type{{tensors.bucket.size}, DType::kF32};
    tensors.parameters = b_.declare(fmt::format("parameters.{}", tensors.index), type, Role::kParameter);
    for (size_t i = 0; i < group.num_accumulators(); ++i)
      tensors.accumulators.push_back(b_.declare(accumulator_name(tensors.index, i), type, Role::kGradient));
    for (size_t i = 0; i < tensors.bucket.tensors.size(); ++i) {
      const FlatTensor& tensor = tensors.bucket.tensors[i];
      const auto& gradients = parameter_of(tensors, i).gradients;
      CHECK(gradients.size() == tensors.accumulators.size(), "parameters of a group have as many gradients");
      tensors.parameter.push_back(b_.view(tensor.name, tensor.shape, tensors.parameters, tensor.offset));
      for (size_t j = 0; j < gradients.size(); ++j) {
        const TensorId view = b_.view(gradients[j], tensor.shape, tensors.accumulators[j], tensor.offset);
        if (j == 0) tensors.gradient.push_back(view);
      }
    }
    tensors.pieces = tensors.bucket.cut(group.all.ranks);
    tensors.own_piece = tensors.pieces[piece_of(group, group.all.rank)];
    tensors.updated = range_of_shard(tensors, group.shards.rank);
    buckets_.push_back(std::move(tensors));
  }

  // The step's loss, for skipping steps; and what the ranks have to tell each other.
  TensorId write_loss() {
    TensorId sums = b_.input("step_sums", {kStepSums}, DType::kI64);
    if (options_.world.ranks > 1) {
      sums = b_.emit(AllReduce{among(options_.world)}, {sums});
      if (b_.status().ok()) b_.mark_output(sums, "all_step_sums");
    }
    const double scale = 1 / static_cast<double>(options_.num_microbatches);
    const auto value = [&](std::string_view name, int64_t offset) {
      return b_.emit(ExactSumValue{.scale = scale}, {b_.view(std::string(name), {ExactSum::kWords}, sums, offset)});
    };
    return b_.emit(Add{}, {value("loss_sum", kLossWords), value("aux_loss_sum", kAuxLossWords)});
  }

  PieceAttributes pieces_among(const Peers& peers, const std::vector<ElementRange>& of_rank) const {
    PieceAttributes attributes{among(peers), {}};
    for (const ElementRange& piece : of_rank)
      attributes.bounds.insert(attributes.bounds.end(), {piece.begin, piece.end});
    return attributes;
  }

  void sum_gradients(const BucketTensors& bucket) {
    const UpdateGroup& group = *bucket.group;
    if (group.all.ranks == 1) {
      CHECK(group.num_sums.front() == static_cast<int64_t>(bucket.accumulators.size()), "alone, a rank has whole sums");
      for (size_t i = 1; i < bucket.accumulators.size(); ++i)
        result_.additions.push_back({accumulator_name(bucket.index, 0), accumulator_name(bucket.index, i)});
      return;
    }
    std::vector<ElementRange> of_rank;
    for (int64_t rank = 0; rank < group.all.ranks; ++rank) of_rank.push_back(bucket.pieces[piece_of(group, rank)]);
    ExchangePieces exchange{pieces_among(group.all, of_rank), group.num_sums};
    const auto num_accumulators = static_cast<int64_t>(bucket.accumulators.size());
    const int64_t own_sums = group.num_sums[static_cast<size_t>(group.all.rank)];
    CHECK(own_sums % num_accumulators == 0, "accumulators of a rank are sums over the same leaves");
    std::vector<TensorId> own;
    for (size_t i = 0; i < bucket.accumulators.size(); ++i) {
      for (int64_t j = 0; j + 1 < own_sums / num_accumulators; ++j)
        own.push_back(b_.declare(partial_sum_name(b_.tensor(bucket.accumulators[i]).name, static_cast<size_t>(j)),
                                 b_.tensor(bucket.accumulators[i]).type, Role::kState));
      own.push_back(bucket.accumulators[i]);
    }
    const TensorId terms = b_.emit(std::move(exchange), std::move(own));
    TreeSum sum;
    for (const TreeAddition& addition : group.additions)
      sum.additions.insert(sum.additions.end(), {addition.into, addition.from});
    const TensorId piece = b_.view(fmt::format("gradients.{}.own", bucket.index), {bucket.own_piece.size()},
                                   bucket.accumulators.front(), bucket.own_piece.begin);
    b_.emit(std::move(sum), {terms, piece});
  }

  void write_norm(TensorId loss) {
    TensorId squares = write_squares();
    if (options_.world.ranks > 1) squares = b_.emit(AllReduce{among(options_.world)}, {squares});
    const TensorId norm = b_.emit(ExactSumValue{.square_root = true}, {squares});
    scale_ = b_.emit(ClipScale{.max_norm = optimizer_.clip_norm}, {norm, loss});
    if (!b_.status().ok()) return;
    b_.mark_output(norm, "grad_norm");
    b_.mark_output(scale_, "clip_scale");
  }

  // Of the parts of tensors that lie in this rank's pieces: the blocks of a tensor are counted from its start, and
  // pieces are cut between blocks.
  TensorId write_squares() {
    std::vector<TensorId> parts;
    for (const BucketTensors& bucket : buckets_)
      for (size_t i = 0; i < bucket.bucket.tensors.size(); ++i)
        if (const ElementRange part = bucket.bucket.part(i, bucket.own_piece); part.size() > 0)
          parts.push_back(part_of(bucket, i, part, bucket.accumulators.front(), bucket.gradient[i], {part.size()}));
    // With more ranks than blocks some have none: a view of nothing.
    if (parts.empty()) parts.push_back(b_.view("gradients.none", {0}, buckets_.front().accumulators.front(), 0));
    return b_.emit(SumOfSquares{}, std::move(parts));
  }

  // Elements `part` of tensor i: the tensor itself where it is all of it.
  TensorId part_of(const BucketTensors& bucket, size_t i, const ElementRange& part, TensorId flat, TensorId whole,
                   const Shape& shape) {
    const FlatTensor& tensor = bucket.bucket.tensors[i];
    if (part.size() == tensor.size()) return whole;
    return b_.view(fmt::format("{}[{}:{}]", b_.tensor(whole).name, part.begin, part.end), shape, flat,
                   tensor.offset + part.begin);
  }

  void share_among_replicas(const BucketTensors& bucket) {
    const UpdateGroup& group = *bucket.group;
    if (group.replicas.ranks == 1) return;
    std::vector<ElementRange> of_rank;
    for (int64_t replica = 0; replica < group.replicas.ranks; ++replica)
      of_rank.push_back(bucket.pieces[static_cast<size_t>(group.shards.rank * group.replicas.ranks + replica)]);
    b_.emit(GatherPieces{pieces_among(group.replicas, of_rank)}, {bucket.accumulators.front()});
  }

  void share_parameters(const BucketTensors& bucket) {
    const Peers& shards = bucket.group->shards;
    if (shards.ranks == 1) return;
    std::vector<ElementRange> of_rank;
    for (int64_t shard = 0; shard < shards.ranks; ++shard) of_rank.push_back(range_of_shard(bucket, shard));
    b_.emit(GatherPieces{pieces_among(shards, of_rank)}, {bucket.parameters});
  }

  void update(const BucketTensors& bucket) {
    for (size_t i = 0; i < bucket.bucket.tensors.size(); ++i) {
      const ElementRange part = bucket.bucket.part(i, bucket.updated);
      if (part.size() == 0) continue;
      const UpdateParameter& own = parameter_of(bucket, i);
      const ParameterSpec& spec = table_[own.index];
      const bool whole = part.size() == own.shape.num_elements();
      result_.parts.push_back({.parameter = own.index, .elements = part, .is_copy = bucket.group->replicas.rank != 0});
      const bool muon = by_muon(spec, optimizer_);
      const Shape shape = whole  ? own.shape
                          : muon ? own.shape.with(0, part.size() / (own.shape[-2] * own.shape[-1]))
                                 : Shape{part.size()};
      const TensorId parameter = part_of(bucket, i, part, bucket.parameters, bucket.parameter[i], shape);
      const TensorId gradient = part_of(bucket, i, part, bucket.accumulators.front(), bucket.gradient[i], shape);
      muon ? write_muon(spec, own, shape, parameter, gradient) : write_adamw(spec, shape, parameter, gradient);
    }
  }

  TensorId state(const ParameterSpec& spec, const char* name, const Shape& shape) {
    return b_.declare(spec.name + name, {shape, DType::kF32}, Role::kOptimizerState);
  }

  void write_adamw(const ParameterSpec& spec, const Shape& shape, TensorId parameter, TensorId gradient) {
    const double decay = spec.kind == ParameterSpec::Kind::kVector ? 0 : optimizer_.weight_decay;
    b_.emit(AdamW{.beta1 = optimizer_.beta1, .beta2 = optimizer_.beta2, .eps = optimizer_.eps, .weight_decay = decay},
            {parameter, gradient, state(spec, ".m", shape), state(spec, ".v", shape), lr_, step_, scale_});
  }

  // Ranks that share a matrix all orthogonalise the whole of it, and change their parts.
  void write_muon(const ParameterSpec& spec, const UpdateParameter& own, const Shape& shape, TensorId parameter,
                  TensorId gradient) {
    const Peers& peers = own.matrix_peers;
    TensorId direction =
        b_.emit(MuonMomentum{.momentum = optimizer_.momentum}, {gradient, state(spec, ".momentum", shape), scale_});
    if (peers.ranks > 1)
      direction = b_.emit(AllGather{{among(peers), shape.rank() - (own.cut_columns ? 1 : 2)}}, {direction});
    b_.emit(Muon{.weight_decay = optimizer_.muon_weight_decay,
                 .parts = peers.ranks,
                 .part = peers.rank,
                 .of_columns = own.cut_columns},
            {parameter, direction, muon_lr_, scale_});
  }

  const std::span<const ParameterSpec> table_;
  const OptimizerConfig& optimizer_;
  const UpdateOptions& options_;
  Builder b_;
  TensorId lr_, muon_lr_, step_, scale_;
  std::vector<BucketTensors> buckets_;
  std::vector<size_t> first_of_bucket_;  // of the group's parameters
  UpdateProgram result_;
};

}  // namespace

std::string partial_sum_name(const std::string& accumulator, size_t i) {
  return fmt::format("partial.{}.{}", i, accumulator);
}

std::vector<UpdateGroup> update_on_one_rank(std::span<const ParameterSpec> table) {
  UpdateGroup group{.num_sums = {1}};
  for (size_t i = 0; i < table.size(); ++i)
    group.parameters.push_back({.index = i, .shape = table[i].shape, .gradients = {"grad." + table[i].name}});
  return {group};
}

Result<UpdateProgram> write_update_program(std::span<const ParameterSpec> table, const OptimizerConfig& optimizer,
                                           const std::vector<UpdateGroup>& groups, const UpdateOptions& options) {
  return UpdateWriter(table, optimizer, options).write(groups);
}

}  // namespace colossus
