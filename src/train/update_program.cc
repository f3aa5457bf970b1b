#include "train/update_program.h"

#include <fmt/format.h>

#include "program/builder.h"

namespace colossus {
namespace {

bool by_muon(const ParameterSpec& spec, const OptimizerConfig& optimizer) {
  return optimizer.kind == OptimizerKind::kMuon && spec.kind == ParameterSpec::Kind::kMatrix;
}

CollectiveAttributes among(const Peers& peers) { return {peers.group, peers.ranks, peers.rank}; }

// One bucket as this rank sees it.
struct BucketTensors {
  const Bucket* bucket = nullptr;
  TensorId parameters, gradients;
  std::vector<TensorId> parameter, gradient;  // views, by tensor
  std::vector<ElementRange> pieces;           // by rank of `all`
  ElementRange own_piece;
  ElementRange updated;  // by this rank and its replicas
};

class UpdateWriter {
 public:
  UpdateWriter(std::span<const ParameterSpec> parameters, const OptimizerConfig& optimizer, const UpdateRanks& ranks)
      : parameters_(parameters), optimizer_(optimizer), ranks_(ranks), b_("update") {
    lr_ = b_.input("lr", {}, DType::kF32);
    muon_lr_ = b_.input("muon_lr", {}, DType::kF32);
    step_ = b_.input("step", {}, DType::kI64);
    b_.set_phase(Phase::kUpdate);
  }

  Result<UpdateProgram> write(const std::vector<Bucket>& buckets, int64_t num_microbatches) {
    for (size_t i = 0; i < buckets.size(); ++i) declare(buckets[i], i);
    RETURN_IF_ERROR(b_.status());
    const TensorId loss = write_loss(num_microbatches);
    if (ranks_.all.ranks > 1)
      for (size_t i = 0; i < buckets_.size(); ++i) sum_gradients(i);
    write_norm(loss);
    if (ranks_.replicas.ranks > 1)
      for (const BucketTensors& bucket : buckets_) share_among_replicas(bucket);
    for (const BucketTensors& bucket : buckets_) {
      update(bucket);
      if (ranks_.shards.ranks > 1) share_parameters(bucket);
    }
    ASSIGN_OR_RETURN(Program program, b_.finish());
    return UpdateProgram{std::move(program), std::move(parts_)};
  }

 private:
  // Pieces lie shard by shard, so that what the replicas of one shard have together is one range.
  size_t piece_of(int64_t rank_of_all) const {
    const int64_t shard = rank_of_all % ranks_.shards.ranks, replica = rank_of_all / ranks_.shards.ranks;
    return static_cast<size_t>(shard * ranks_.replicas.ranks + replica);
  }
  ElementRange range_of_shard(const std::vector<ElementRange>& pieces, int64_t shard) const {
    const auto first = static_cast<size_t>(shard * ranks_.replicas.ranks);
    return {pieces[first].begin, pieces[first + static_cast<size_t>(ranks_.replicas.ranks) - 1].end};
  }

  void declare(const Bucket& bucket, size_t index) {
    BucketTensors tensors{.bucket = &bucket};
    const TensorType type{{bucket.size}, DType::kF32};
    tensors.parameters = b_.declare(fmt::format("parameters.{}", index), type, Role::kParameter);
    tensors.gradients = b_.declare(fmt::format("gradients.{}", index), type, Role::kGradient);
    for (const FlatTensor& tensor : bucket.tensors) {
      tensors.parameter.push_back(b_.view(tensor.name, tensor.shape, tensors.parameters, tensor.offset));
      tensors.gradient.push_back(b_.view("grad." + tensor.name, tensor.shape, tensors.gradients, tensor.offset));
    }
    tensors.pieces = bucket.cut(ranks_.all.ranks);
    tensors.own_piece = tensors.pieces[piece_of(ranks_.all.rank)];
    tensors.updated = range_of_shard(tensors.pieces, ranks_.shards.rank);
    buckets_.push_back(std::move(tensors));
  }

  // The step's loss, for skipping steps; and what the ranks have to tell each other.
  TensorId write_loss(int64_t num_microbatches) {
    TensorId sums = b_.input("step_sums", {kStepSums}, DType::kI64);
    if (ranks_.all.ranks > 1) {
      sums = b_.emit(AllReduce{among(ranks_.all)}, {sums});
      if (b_.status().ok()) b_.mark_output(sums, "all_step_sums");
    }
    const double scale = 1 / static_cast<double>(num_microbatches);
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

  TensorId own_piece(const BucketTensors& bucket, size_t index) {
    return b_.view(fmt::format("gradients.{}.own", index), {bucket.own_piece.size()}, bucket.gradients,
                   bucket.own_piece.begin);
  }

  void sum_gradients(size_t index) {
    const BucketTensors& bucket = buckets_[index];
    std::vector<ElementRange> of_rank;
    ExchangePieces exchange;
    std::vector<TreeNode> nodes;
    for (int64_t rank = 0; rank < ranks_.all.ranks; ++rank) {
      of_rank.push_back(bucket.pieces[piece_of(rank)]);
      const auto& sums = ranks_.sums[static_cast<size_t>(rank)];
      exchange.num_sums.push_back(static_cast<int64_t>(sums.size()));
      nodes.insert(nodes.end(), sums.begin(), sums.end());
    }
    static_cast<PieceAttributes&>(exchange) = pieces_among(ranks_.all, of_rank);
    std::vector<TensorId> own;
    for (int64_t i = 0; i + 1 < exchange.num_sums[static_cast<size_t>(ranks_.all.rank)]; ++i)
      own.push_back(
          b_.declare(partial_sum_name(index, static_cast<size_t>(i)), b_.tensor(bucket.gradients).type, Role::kState));
    own.push_back(bucket.gradients);
    const TensorId terms = b_.emit(std::move(exchange), std::move(own));
    TreeSum sum;
    for (const TreeAddition& addition : tree_additions(nodes))
      sum.additions.insert(sum.additions.end(), {addition.into, addition.from});
    const TensorId piece = own_piece(bucket, index);
    b_.emit(std::move(sum), {terms, piece});
  }

  void write_norm(TensorId loss) {
    TensorId squares = write_squares();
    if (ranks_.all.ranks > 1) squares = b_.emit(AllReduce{among(ranks_.all)}, {squares});
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
      for (size_t i = 0; i < bucket.bucket->tensors.size(); ++i)
        if (const ElementRange part = bucket.bucket->part(i, bucket.own_piece); part.size() > 0)
          parts.push_back(part_of(bucket, i, part, bucket.gradients, bucket.gradient[i], {part.size()}));
    // With more ranks than blocks some have none: a view of nothing.
    if (parts.empty()) parts.push_back(b_.view("gradients.none", {0}, buckets_.front().gradients, 0));
    return b_.emit(SumOfSquares{}, std::move(parts));
  }

  // Elements `part` of tensor i: the tensor itself where it is all of it.
  TensorId part_of(const BucketTensors& bucket, size_t i, const ElementRange& part, TensorId flat, TensorId whole,
                   const Shape& shape) {
    const FlatTensor& tensor = bucket.bucket->tensors[i];
    if (part.size() == tensor.size()) return whole;
    return b_.view(fmt::format("{}[{}:{}]", b_.tensor(whole).name, part.begin, part.end), shape, flat,
                   tensor.offset + part.begin);
  }

  void share_among_replicas(const BucketTensors& bucket) {
    std::vector<ElementRange> of_rank;
    for (int64_t replica = 0; replica < ranks_.replicas.ranks; ++replica)
      of_rank.push_back(bucket.pieces[static_cast<size_t>(ranks_.shards.rank * ranks_.replicas.ranks + replica)]);
    b_.emit(GatherPieces{pieces_among(ranks_.replicas, of_rank)}, {bucket.gradients});
  }

  void share_parameters(const BucketTensors& bucket) {
    std::vector<ElementRange> of_rank;
    for (int64_t shard = 0; shard < ranks_.shards.ranks; ++shard)
      of_rank.push_back(range_of_shard(bucket.pieces, shard));
    b_.emit(GatherPieces{pieces_among(ranks_.shards, of_rank)}, {bucket.parameters});
  }

  void update(const BucketTensors& bucket) {
    for (size_t i = 0; i < bucket.bucket->tensors.size(); ++i, ++parameter_) {
      const ElementRange part = bucket.bucket->part(i, bucket.updated);
      if (part.size() == 0) continue;
      const ParameterSpec& spec = parameters_[parameter_];
      CHECK(spec.name == bucket.bucket->tensors[i].name, "buckets hold the parameters in the table's order");
      const bool whole = part.size() == spec.shape.num_elements();
      parts_.push_back({.parameter = parameter_, .elements = part});
      const bool muon = by_muon(spec, optimizer_);
      const Shape shape = whole  ? spec.shape
                          : muon ? spec.shape.with(0, part.size() / (spec.shape[-2] * spec.shape[-1]))
                                 : Shape{part.size()};
      const TensorId parameter = part_of(bucket, i, part, bucket.parameters, bucket.parameter[i], shape);
      const TensorId gradient = part_of(bucket, i, part, bucket.gradients, bucket.gradient[i], shape);
      write_optimizer(spec, muon, shape, parameter, gradient);
    }
  }

  void write_optimizer(const ParameterSpec& spec, bool muon, const Shape& shape, TensorId parameter,
                       TensorId gradient) {
    const auto state = [&](const char* name) {
      return b_.declare(spec.name + name, {shape, DType::kF32}, Role::kOptimizerState);
    };
    if (muon) {
      b_.emit(Muon{.momentum = optimizer_.momentum, .weight_decay = optimizer_.muon_weight_decay},
              {parameter, gradient, state(".momentum"), muon_lr_, scale_});
      return;
    }
    const double decay = spec.kind == ParameterSpec::Kind::kVector ? 0 : optimizer_.weight_decay;
    b_.emit(AdamW{.beta1 = optimizer_.beta1, .beta2 = optimizer_.beta2, .eps = optimizer_.eps, .weight_decay = decay},
            {parameter, gradient, state(".m"), state(".v"), lr_, step_, scale_});
  }

  const std::span<const ParameterSpec> parameters_;
  const OptimizerConfig& optimizer_;
  const UpdateRanks& ranks_;
  Builder b_;
  TensorId lr_, muon_lr_, step_, scale_;
  std::vector<BucketTensors> buckets_;
  std::vector<UpdatedPart> parts_;
  size_t parameter_ = 0;  // the next to update
};

}  // namespace

std::string partial_sum_name(size_t bucket, size_t i) { return fmt::format("partial.{}.{}", bucket, i); }

std::vector<Bucket> parameter_buckets(std::span<const ParameterSpec> parameters, const OptimizerConfig& optimizer,
                                      int64_t bucket_elements) {
  std::vector<FlatTensor> tensors;
  for (const ParameterSpec& spec : parameters)
    tensors.push_back({.name = spec.name, .shape = spec.shape, .whole_matrices = by_muon(spec, optimizer)});
  return make_buckets(tensors, bucket_elements);
}

Result<UpdateProgram> write_update_program(std::span<const ParameterSpec> parameters, const OptimizerConfig& optimizer,
                                           const std::vector<Bucket>& buckets, const UpdateRanks& ranks,
                                           int64_t num_microbatches) {
  return UpdateWriter(parameters, optimizer, ranks).write(buckets, num_microbatches);
}

}  // namespace colossus
