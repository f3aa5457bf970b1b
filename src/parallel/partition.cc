#include "parallel/partition.h"

#include <fmt/format.h>

#include <algorithm>

#include "program/builder.h"

namespace colossus {
namespace {

using Kind = Placement::Kind;

// How a cut along the axis shares out the pieces.
constexpr bool is_folded(MeshAxis axis) { return axis == MeshAxis::kContext; }

constexpr std::array kDenseAxes = {MeshAxis::kData, MeshAxis::kShard, MeshAxis::kContext, MeshAxis::kTensor};
constexpr std::array kExpertAxes = {MeshAxis::kExpertData, MeshAxis::kExpert, MeshAxis::kExpertTensor};

class RankWriter final : public Partition {
 public:
  RankWriter(const Program& whole, const std::map<std::string, Placement>& parameters, const MeshPosition& position)
      : whole_(whole),
        parameters_(parameters),
        position_(position),
        parts_(whole.tensors.size()),
        companions_(whole.tensors.size()),
        builder_(whole.name) {
    for (const MeshAxis axis : {MeshAxis::kContext, MeshAxis::kTensor})
      if (size(axis) > 1) tokens_ = tokens_.cut(axis, 1);
  }

  Result<RankProgram> run() {
    for (const TensorId id : whole_.with_role(Role::kParameter)) declare_parameter(id);
    RETURN_IF_ERROR(builder_.status());
    for (const Operation& operation : whole_.operations) {
      visit(operation);
      RETURN_IF_ERROR(builder_.status());
    }
    operation_ = nullptr;
    builder_.set_scope("");
    for (const TensorId id : whole_.with_role(Role::kOutput)) give_out(id);
    ASSIGN_OR_RETURN(result_.program, builder_.finish());
    return std::move(result_);
  }

  Builder& builder() override { return builder_; }
  const MeshPosition& position() const override { return position_; }
  const Placement& tokens() const override { return tokens_; }
  const Shape& whole_shape(int i) const override { return whole_.tensor(whole_input(i)).type.shape; }

  const Placement& placement(int i) const override {
    static const Placement kCopies;
    const TensorId id = whole_input(i);
    return id && !parts_of(id).empty() ? parts_of(id).front().placement : kCopies;
  }

  TensorId input(int i, const Placement& wanted) override {
    const TensorId id = whole_input(i);
    if (!id || !builder_.status().ok()) return {};
    if (parts_of(id).empty()) declare_input(id, wanted);
    std::vector<Part>& parts = parts_of(id);
    if (parts.empty()) return {};  // the builder holds the error
    for (const Part& part : parts)
      if (part.placement == wanted) return part.id;
    const Part has = parts.front();
    for (const Placement::OnAxis& on_axis : has.placement.axes())
      if (on_axis.kind == Kind::kPartial && !wanted.find(on_axis.axis)) return no_way(i, has.placement, wanted);
    const TensorId part = convert(has.id, has.placement, wanted);
    if (!part) return no_way(i, has.placement, wanted);
    parts_of(id).push_back({part, wanted});
    return part;
  }

  TensorId convert(TensorId part, const Placement& from, const Placement& to) override {
    Placement now = from;
    RankGroup summed;
    // The last cut of a dimension first: it cut what the others had left.
    const std::vector<Placement::OnAxis> axes = from.axes();
    for (size_t i = axes.size(); i-- > 0;) {
      const Placement::OnAxis &has = axes[i], *wanted = to.find(has.axis);
      if (wanted && *wanted == has) continue;
      const CollectiveAttributes group = among(RankGroup::along({has.axis}), position_);
      now = now.without(has.axis);
      if (has.kind == Kind::kCut && !wanted) {
        part = builder_.emit(AllGather{{group, has.dimension, is_folded(has.axis)}}, {part});
      } else if (has.kind == Kind::kPartial && wanted && wanted->kind == Kind::kCut) {
        part = builder_.emit(ReduceScatter{{group, wanted->dimension, is_folded(has.axis)}}, {part});
        now = now.cut(has.axis, wanted->dimension);
      } else if (has.kind == Kind::kPartial && !wanted) {
        summed = summed.with(has.axis);
      } else {
        return {};
      }
    }
    if (summed != RankGroup()) part = builder_.emit(AllReduce{among(summed, position_)}, {part});
    return now == to ? part : TensorId{};
  }

  void set_output(int i, TensorId part, const Placement& placement) override {
    const TensorId id = operation_->outputs.at(static_cast<size_t>(i));
    if (!id || !part) return;
    // Rows that were sent to experts are as many as arrive.
    const bool static_rows = size(MeshAxis::kExpert) == 1 && size(MeshAxis::kExpertTensor) == 1;
    CHECK(!static_rows || local_slice(whole_.tensor(id).type.shape, placement, position_).shape == builder_.shape(part),
          whole_.tensor(id).name.c_str());
    parts_of(id) = {{part, placement}};
  }
  void set_companion(int i, TensorId part) override {
    companions_[index(operation_->outputs.at(static_cast<size_t>(i)))] = part;
  }
  TensorId companion(int i) const override { return whole_input(i) ? companions_[index(whole_input(i))] : TensorId{}; }

  TensorId positions(const Shape& whole, const Placement& tokens) override {
    if (tokens.axes().empty() || !builder_.status().ok()) return {};
    TensorId& positions = positions_[tokens.to_string() + whole.to_string()];
    if (positions) return positions;
    const Slice part = local_slice(whole, tokens, position_);  // in folded order
    const int64_t T = whole[1], begin = part.begin[1], count = part.shape[1], ranks = size(MeshAxis::kContext);
    Positions op{.batch = part.shape[0], .tokens = count, .first = folded_token(T, ranks, begin)};
    // A context rank has two pieces: where the second begins among these.
    const int64_t piece = T / ranks / 2, begin_in_rank = begin % (T / ranks);
    if (ranks > 1 && begin_in_rank < piece) {
      op.num_second = std::max<int64_t>(0, begin_in_rank + count - piece);
      if (op.num_second > 0) op.second = folded_token(T, ranks, begin + count - op.num_second);
    }
    return positions = builder_.emit(op, {});
  }

  void fail(std::string message) override {
    builder_.fail(invalid(std::move(message)).at("partition " + operation_->scope));
  }

 private:
  struct Part {
    TensorId id;
    Placement placement;
  };

  static size_t index(TensorId id) { return static_cast<size_t>(id.index); }
  std::vector<Part>& parts_of(TensorId id) { return parts_[index(id)]; }
  const std::vector<Part>& parts_of(TensorId id) const { return parts_[index(id)]; }
  TensorId whole_input(int i) const {
    const auto at = static_cast<size_t>(i);
    return at < operation_->inputs.size() ? operation_->inputs[at] : TensorId{};
  }

  void visit(const Operation& operation) {
    operation_ = &operation;
    builder_.set_scope(operation.scope);
    std::visit(
        [&]<class T>(const T& op) {
          if constexpr (Partitionable<T>) {
            colossus::partition(op, *this);
          } else {
            static_assert(!Differentiable<T> || Communicates<T>, "a forward operation says how it may be cut");
            fail(fmt::format("{}: only forward passes of training are cut", T::kName));
          }
        },
        operation.op);
  }

  TensorId no_way(int i, const Placement& has, const Placement& wanted) {
    fail(fmt::format("{}.{}: got {}; needed {}, and no collective leads there", op_name(operation_->op),
                     input_operand(operation_->op, static_cast<size_t>(i)).name, has.to_string(), wanted.to_string()));
    return {};
  }

  // As it may be cut, on the axes that the mesh has; its gradient is summed over those along which ranks have tokens of
  // their own, or the same experts.
  void declare_parameter(TensorId id) {
    const Tensor& tensor = whole_.tensor(id);
    const auto found = parameters_.find(tensor.name);
    const Placement may_be = found == parameters_.end() ? Placement() : found->second;
    Placement placement;
    for (const Placement::OnAxis& cut : may_be.axes())
      if (size(cut.axis) > 1) placement = placement.cut(cut.axis, cut.dimension);
    Placement gradient = placement;
    const bool of_experts = may_be.find(MeshAxis::kExpert) || may_be.find(MeshAxis::kExpertTensor);
    for (const MeshAxis axis : of_experts ? std::span<const MeshAxis>(kExpertAxes) : kDenseAxes)
      if (size(axis) > 1 && !placement.find(axis)) gradient = gradient.partial(axis);
    declare(id, placement);
    result_.parameters.push_back({tensor.name, tensor.type, placement, gradient});
  }

  // An input lies as it is first wanted.
  void declare_input(TensorId id, const Placement& placement) {
    const Tensor& tensor = whole_.tensor(id);
    if (tensor.role != Role::kInput)
      return fail(
          fmt::format("{}: a {} is not part of a forward pass of training", tensor.name, role_name(tensor.role)));
    declare(id, placement);
    result_.inputs.push_back({tensor.name, tensor.type, placement});
  }

  void declare(TensorId id, const Placement& placement) {
    const Tensor& tensor = whole_.tensor(id);
    Shape shape = tensor.type.shape;
    for (const Placement::OnAxis& cut : placement.axes()) {
      CHECK(cut.kind == Kind::kCut && cut.dimension < shape.rank(), tensor.name.c_str());
      const int64_t pieces = size(cut.axis) * (is_folded(cut.axis) ? 2 : 1);
      if (shape[cut.dimension] % pieces != 0)
        return builder_.fail(
            invalid(fmt::format("[mesh.{}] {} does not divide dimension {} of {} {}{}", mesh_axis_name(cut.axis),
                                size(cut.axis), cut.dimension, tensor.name, tensor.type.shape.to_string(),
                                is_folded(cut.axis) ? " into two pieces for each" : "")));
      shape = shape.with(cut.dimension, shape[cut.dimension] / size(cut.axis));
    }
    parts_of(id) = {{builder_.declare(tensor.name, {shape, tensor.type.dtype}, tensor.role), placement}};
  }

  // Outputs are summed over ranks: losses are one number for all.
  void give_out(TensorId id) {
    if (!builder_.status().ok()) return;
    const Tensor& tensor = whole_.tensor(id);
    CHECK(!parts_of(id).empty(), tensor.name.c_str());
    const Part part = parts_of(id).front();
    Placement placement = part.placement;
    for (const Placement::OnAxis& on_axis : part.placement.axes())
      if (on_axis.kind == Kind::kPartial) placement = placement.without(on_axis.axis);
    builder_.mark_output(convert(part.id, part.placement, placement), tensor.name);
    result_.outputs.push_back({tensor.name, tensor.type, placement});
  }

  const Program& whole_;
  const std::map<std::string, Placement>& parameters_;
  const MeshPosition position_;
  Placement tokens_;
  std::vector<std::vector<Part>> parts_;  // by tensor of the whole program; as it was made, then as it was converted
  std::vector<TensorId> companions_;      // by tensor of the whole program
  std::map<std::string, TensorId> positions_;  // by the tokens they are of
  Builder builder_;
  const Operation* operation_ = nullptr;  // the one being cut
  RankProgram result_;
};

}  // namespace

int64_t folded_token(int64_t num_tokens, int64_t context, int64_t place) {
  const int64_t piece = num_tokens / (2 * context);
  if (context == 1) return place;
  const int64_t at = place / piece, rank = at / 2;
  return (at % 2 == 0 ? rank : 2 * context - 1 - rank) * piece + place % piece;
}

Result<RankProgram> partition(const Program& whole, const std::map<std::string, Placement>& parameters,
                              const MeshPosition& position) {
  return RankWriter(whole, parameters, position).run();
}

}  // namespace colossus
