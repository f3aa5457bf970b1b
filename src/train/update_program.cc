#include "train/update_program.h"

#include <fmt/format.h>

#include "program/builder.h"

namespace colossus {
namespace {

bool by_muon(const ParameterSpec& spec, const OptimizerConfig& optimizer) {
  return optimizer.kind == OptimizerKind::kMuon && spec.kind == ParameterSpec::Kind::kMatrix;
}

CollectiveAttributes among(const Peers& peers) { return {peers.group, peers.ranks, peers.rank}; }

// A layer, or a parameter outside the layers.
int64_t part_of_model(const std::string& name, size_t index) {
  const int64_t layer = layer_of(name);
  return layer >= 0 ? layer : -1 - static_cast<int64_t>(index);
}

// Elements of a bucket from `begin` on, as `base` holds them.
struct Held {
  TensorId base;
  int64_t begin = 0;
  std::vector<TensorId> whole;  // views of whole tensors, by tensor, where there are any yet
};

// One bucket as this rank sees it.
struct BucketTensors {
  UpdateBucket of;
  Held parameters, summed;
  std::optional<Held> gathered;  // gradients of what this rank updates, where it has not summed them all itself
  std::vector<TensorId> accumulators;

  Held& gradients() { return gathered ? *gathered : summed; }
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
    for (UpdateBucket& bucket : make_update_buckets(table_, optimizer_, groups, options_.bucket_elements))
      declare(std::move(bucket));
    RETURN_IF_ERROR(b_.status());
    const TensorId loss = write_loss();
    for (BucketTensors& bucket : buckets_) sum_gradients(bucket);
    write_norm(loss);
    // What replicas hand each other is on its way while the bucket before is updated.
    share_among_replicas(buckets_.front());
    for (size_t i = 0; i < buckets_.size(); ++i) {
      if (i + 1 < buckets_.size()) share_among_replicas(buckets_[i + 1]);
      update(buckets_[i]);
      share_parameters(buckets_[i]);
    }
    ASSIGN_OR_RETURN(result_.program, b_.finish());
    return std::move(result_);
  }

 private:
  void declare(UpdateBucket of) {
    const UpdateGroup& group = *of.group;
    BucketTensors tensors{.of = std::move(of)};
    const UpdateBucket& bucket = tensors.of;
    const int64_t size = bucket.bucket.size;
    const Shape held = group.gather ? Shape{bucket.updated.size()} : Shape{size};
    const TensorId parameters = b_.declare(bucket.parameters_name(), {held, DType::kF32}, Role::kParameter);
    tensors.parameters = {parameters, group.gather ? bucket.updated.begin : 0, {}};
    const Shape sums = group.exchange ? Shape{group.exchange->num_sums, bucket.exchanged.size()} : Shape{size};
    for (size_t i = 0; i < group.num_accumulators(); ++i)
      tensors.accumulators.push_back(b_.declare(bucket.gradients_name(i), {sums, DType::kF32}, Role::kGradient));
    tensors.summed = {tensors.accumulators.front(), group.exchange ? bucket.exchanged.begin : 0, {}};
    tensors.parameters.whole.resize(bucket.bucket.tensors.size());
    tensors.summed.whole = tensors.parameters.whole;
    for (size_t i = 0; i < bucket.bucket.tensors.size(); ++i) {
      const FlatTensor& tensor = bucket.bucket.tensors[i];
      const auto& gradients = bucket.parameter(i).gradients;
      CHECK(gradients.size() == tensors.accumulators.size(), "parameters of a group have as many gradients");
      if (!group.gather) tensors.parameters.whole[i] = b_.view(tensor.name, tensor.shape, parameters, tensor.offset);
      for (size_t j = 0; j < gradients.size() && !group.exchange; ++j) {
        const TensorId view = b_.view(gradients[j], tensor.shape, tensors.accumulators[j], tensor.offset);
        if (j == 0) tensors.summed.whole[i] = view;
      }
    }
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

  // Ranges of the bucket, in a tensor whose first element is the bucket's element `begin`.
  static PieceAttributes pieces_among(const Peers& peers, const std::vector<ElementRange>& of_rank, int64_t begin = 0) {
    PieceAttributes attributes{among(peers), {}};
    for (const ElementRange& piece : of_rank)
      attributes.bounds.insert(attributes.bounds.end(), {piece.begin - begin, piece.end - begin});
    return attributes;
  }

  // Elements of the bucket that lie in `held`.
  TensorId range_in(const Held& held, std::string name, const ElementRange& elements) {
    return b_.view(std::move(name), {elements.size()}, held.base, elements.begin - held.begin);
  }

  void add_up(const UpdateGroup& group, TensorId sum, std::vector<TensorId> nodes) {
    TreeSum op;
    for (const TreeAddition& addition : group.additions)
      op.additions.insert(op.additions.end(), {addition.into, addition.from});
    nodes.insert(nodes.begin(), sum);
    b_.emit(std::move(op), std::move(nodes));
  }

  void sum_gradients(BucketTensors& tensors) {
    const UpdateBucket& bucket = tensors.of;
    const UpdateGroup& group = *bucket.group;
    if (group.exchange) return sum_exchanged(tensors);
    if (group.all.ranks > 1) return;  // they are (train/shared_state.h)
    CHECK(group.num_sums.front() == static_cast<int64_t>(tensors.accumulators.size()), "alone, a rank has whole sums");
    for (size_t i = 1; i < tensors.accumulators.size(); ++i)
      result_.additions.push_back({bucket.gradients_name(0), bucket.gradients_name(i)});
  }

  // The ranks' leaves have been summed beside the backward passes; what is left is to add the terms, of this rank or of
  // the pipeline's two ends. The sum takes the place of the first.
  void sum_exchanged(BucketTensors& tensors) {
    const UpdateBucket& bucket = tensors.of;
    const UpdateGroup& group = *bucket.group;
    if (group.additions.empty()) return;
    std::vector<TensorId> nodes = tensors.accumulators;
    if (!group.num_sums.empty()) {
      CHECK(nodes.size() == 1, "each end has one of its gradients");
      std::vector<TensorId> rows;
      for (int64_t i = 0; i < group.exchange->num_sums; ++i)
        rows.push_back(b_.view(fmt::format("{}[{}]", bucket.gradients_name(0), i), {bucket.exchanged.size()},
                               nodes.front(), i * bucket.exchanged.size()));
      ExchangePieces exchange{pieces_among(group.replicas, bucket.pieces_of_replicas(), bucket.exchanged.begin),
                              group.num_sums};
      nodes = exchanged_nodes(exchange, rows, b_);
    }
    add_up(group, range_in(tensors.summed, bucket.gradients_name(0) + ".own", bucket.summed), std::move(nodes));
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
    for (BucketTensors& tensors : buckets_)
      for (size_t i = 0; i < tensors.of.bucket.tensors.size(); ++i)
        if (const ElementRange part = tensors.of.bucket.part(i, tensors.of.summed); part.size() > 0)
          parts.push_back(gradient_part(tensors.of, tensors.summed, i, part, {part.size()}));
    // With more ranks than blocks some have none: a view of nothing.
    if (parts.empty()) parts.push_back(b_.view("gradients.none", {0}, buckets_.front().accumulators.front(), 0));
    return b_.emit(SumOfSquares{}, std::move(parts));
  }

  // Elements `part` of tensor i: the tensor itself where it is all of it.
  TensorId part_of(const UpdateBucket& bucket, Held& held, const std::string& name, size_t i, const ElementRange& part,
                   const Shape& shape) {
    const FlatTensor& tensor = bucket.bucket.tensors[i];
    const int64_t first = tensor.offset + part.begin - held.begin;
    if (part.size() != tensor.size())
      return b_.view(fmt::format("{}[{}:{}]", name, part.begin, part.end), shape, held.base, first);
    if (!held.whole[i]) held.whole[i] = b_.view(name, tensor.shape, held.base, first);
    return held.whole[i];
  }
  TensorId gradient_part(const UpdateBucket& bucket, Held& held, size_t i, const ElementRange& part,
                         const Shape& shape) {
    return part_of(bucket, held, bucket.parameter(i).gradients.front(), i, part, shape);
  }

  void share_among_replicas(BucketTensors& tensors) {
    const UpdateBucket& bucket = tensors.of;
    const UpdateGroup& group = *bucket.group;
    if (group.replicas.ranks == 1 || !group.exchange) return;
    const std::vector<ElementRange> of_rank = bucket.pieces_of_replicas();
    if (group.is_on_both_ends()) {
      const TensorId buffer = range_in(tensors.summed, bucket.gradients_name(0) + ".shared", bucket.updated);
      b_.emit(GatherPieces{pieces_among(group.replicas, of_rank, tensors.summed.begin)}, {buffer});
      return;
    }
    const TensorId piece = range_in(tensors.summed, bucket.gradients_name(0) + ".piece", bucket.summed);
    tensors.gathered = {b_.emit(CollectPieces{pieces_among(group.replicas, of_rank, bucket.updated.begin)}, {piece}),
                        bucket.updated.begin, std::vector<TensorId>(bucket.bucket.tensors.size())};
  }

  void share_parameters(const BucketTensors& tensors) {
    const UpdateGroup& group = *tensors.of.group;
    if (group.shards.ranks == 1 || group.gather) return;
    std::vector<ElementRange> of_rank;
    for (int64_t shard = 0; shard < group.shards.ranks; ++shard) of_rank.push_back(tensors.of.range_of_shard(shard));
    b_.emit(GatherPieces{pieces_among(group.shards, of_rank)}, {tensors.parameters.base});
  }

  void update(BucketTensors& tensors) {
    const UpdateBucket& bucket = tensors.of;
    for (size_t i = 0; i < bucket.bucket.tensors.size(); ++i) {
      const ElementRange part = bucket.bucket.part(i, bucket.updated);
      if (part.size() == 0) continue;
      const UpdateParameter& own = bucket.parameter(i);
      const ParameterSpec& spec = table_[own.index];
      const bool whole = part.size() == own.shape.num_elements();
      const bool muon = by_muon(spec, optimizer_);
      const Shape shape = whole  ? own.shape
                          : muon ? own.shape.with(0, part.size() / (own.shape[-2] * own.shape[-1]))
                                 : Shape{part.size()};
      const TensorId parameter = part_of(bucket, tensors.parameters, spec.name, i, part, shape);
      const TensorId gradient = gradient_part(bucket, tensors.gradients(), i, part, shape);
      if (!b_.status().ok()) return;
      result_.parts.push_back({.parameter = own.index,
                               .elements = part,
                               .tensor = b_.tensor(parameter).name,
                               .is_copy = bucket.group->replicas.rank != 0});
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
  UpdateProgram result_;
};

}  // namespace

size_t UpdateBucket::first_piece(int64_t shard) const {
  const int64_t turned = (shard + static_cast<int64_t>(index)) % group->shards.ranks;
  return static_cast<size_t>(turned * group->replicas.ranks);
}

ElementRange UpdateBucket::piece_of(int64_t rank_of_all) const {
  const int64_t shards = group->shards.ranks;
  return pieces[first_piece(rank_of_all % shards) + static_cast<size_t>(rank_of_all / shards)];
}

ElementRange UpdateBucket::range_of_shard(int64_t shard) const {
  const size_t first = first_piece(shard);
  return {pieces[first].begin, pieces[first + static_cast<size_t>(group->replicas.ranks) - 1].end};
}

std::vector<ElementRange> UpdateBucket::pieces_by_rank() const {
  std::vector<ElementRange> of_rank;
  for (int64_t rank = 0; rank < group->all.ranks; ++rank) of_rank.push_back(piece_of(rank));
  return of_rank;
}

std::vector<ElementRange> UpdateBucket::pieces_of_replicas() const {
  std::vector<ElementRange> of_rank;
  for (int64_t replica = 0; replica < group->replicas.ranks; ++replica)
    of_rank.push_back(piece_of(replica * group->shards.ranks + group->shards.rank));
  return of_rank;
}

std::string UpdateBucket::parameters_name() const { return fmt::format("parameters.{}", index); }

std::string UpdateBucket::gradients_name(size_t accumulator) const {
  return accumulator == 0 ? fmt::format("gradients.{}", index) : fmt::format("gradients.{}.{}", index, accumulator);
}

std::vector<UpdateBucket> make_update_buckets(std::span<const ParameterSpec> table, const OptimizerConfig& optimizer,
                                              const std::vector<UpdateGroup>& groups, int64_t bucket_elements) {
  std::vector<UpdateBucket> buckets;
  for (const UpdateGroup& group : groups) {
    std::vector<FlatTensor> tensors;
    for (const UpdateParameter& parameter : group.parameters) {
      const ParameterSpec& spec = table[parameter.index];
      tensors.push_back({.name = spec.name,
                         .shape = parameter.shape,
                         .whole_matrices = by_muon(spec, optimizer),
                         .part = group.exchange || group.last_run ? part_of_model(spec.name, parameter.index) : 0});
    }
    size_t first = 0;
    for (Bucket& bucket : make_buckets(tensors, bucket_elements)) {
      UpdateBucket own{.index = buckets.size(), .group = &group, .first_parameter = first, .bucket = std::move(bucket)};
      first += own.bucket.tensors.size();
      own.pieces = own.bucket.cut(group.all.ranks);
      own.summed = own.piece_of(group.all.rank);
      own.updated = own.range_of_shard(group.shards.rank);
      if (group.exchange) own.exchanged = group.is_on_both_ends() ? own.updated : own.summed;
      buckets.push_back(std::move(own));
    }
  }
  return buckets;
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
