#include "parallel/pipeline_cut.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace colossus {
namespace {

constexpr int64_t kAlignment = 64;  // bytes

std::string part_name(StashKind kind, DType dtype) {
  return fmt::format("{}.{}", stash_kind_name(kind), dtype_name(dtype));
}

// In the order in which one microbatch runs through them.
enum Part { kForwardPart, kBackwardPart, kWeightPart, kNumParts };

// Where an operation goes.
struct Place {
  int64_t piece = 0;
  Part part = kForwardPart;
};

// What happens to a tensor that operations write, all over the pipeline and on this piece.
struct Flow {
  int writer = -1;              // operation
  int64_t first = 0, last = 0;  // pieces that have it, all between them included

  std::optional<Part> made;  // here: written or received
  bool received = false, sent_next = false, sent_previous = false;
  std::array<bool, kNumParts> read{};  // here
  // Where it lies, if not in the arena. In a stash and in the outbox when it must be copied to leave: a stash is free
  // again when the microbatch has gone backward, whether the neighbour has taken what was sent or not. What goes
  // forward has been taken before anything comes back, so that may be sent from the stash. What is received lies in an
  // inbox; if it is sent on or an output, and not kept, it is a copy that is.
  std::optional<StashKind> stash;
  bool in_outbox = false;
  bool is_output = false;
  bool arrives_apart = false;
  int64_t stash_offset = 0, outbox_offset = 0, arrival_offset = 0;  // in elements

  bool read_after(Part part) const {
    return std::any_of(read.begin() + part + 1, read.end(), [](bool any) { return any; });
  }
};

using Sizes = std::map<DType, int64_t>;  // in elements

bool changes_gradients_alone(const Program& program, const Operation& operation) {
  bool any = false;
  for (size_t i = 0; i < operation.inputs.size(); ++i) {
    if (!operation.inputs[i] || !input_operand(operation.op, i).mutated()) continue;
    if (program.tensor(operation.inputs[i]).role != Role::kGradient) return false;
    any = true;
  }
  return any && std::none_of(operation.outputs.begin(), operation.outputs.end(),
                             [](TensorId id) { return static_cast<bool>(id); });
}

class PieceCutter {
 public:
  PieceCutter(const Program& whole, const PipelineCut& cut)
      : whole_(whole),
        cut_(cut),
        last_piece_(static_cast<int64_t>(cut.layers.size()) - 1),
        places_(whole.operations.size()),
        flows_(whole.tensors.size()) {}

  Result<PipelinePiece> run() {
    CHECK(cut_.piece >= 0 && cut_.piece <= last_piece_);
    RETURN_IF_ERROR(assign_pieces());
    if (cut_.split_backward) set_weights_apart();
    RETURN_IF_ERROR(trace());
    RETURN_IF_ERROR(settle());
    place_stash();
    piece_.receive_forward = write_receives(kForwardPart, "receive_forward");
    piece_.receive_backward = write_receives(kBackwardPart, "receive_backward");
    piece_.forward = write(kForwardPart, "forward");
    piece_.backward = write(kBackwardPart, cut_.split_backward ? "backward_input" : "backward");
    if (cut_.split_backward) piece_.backward_weight = write(kWeightPart, "backward_weight");
    find_shared_parameters();
    return std::move(piece_);
  }

 private:
  static size_t index(TensorId id) { return static_cast<size_t>(id.index); }
  const Tensor& tensor(TensorId id) const { return whole_.tensor(id); }
  Status fault(TensorId id, std::string_view what) const {
    return invalid(
        fmt::format("[{}] cannot be cut into {} pieces: {} {}", whole_.name, last_piece_ + 1, tensor(id).name, what));
  }

  std::vector<int64_t> pieces_by_layer() const;
  Status assign_pieces();
  void set_weights_apart();
  Status trace();
  Status trace_read(TensorId id, const Place& reader);
  Status settle();
  void place_stash();
  Program write(Part part, std::string_view name);
  Program write_receives(Part part, std::string_view name);
  void find_shared_parameters();

  const Program& whole_;
  const PipelineCut& cut_;
  const int64_t last_piece_;
  std::vector<Place> places_;  // by operation
  std::vector<Flow> flows_;    // by tensor
  ByStashKind<Sizes> sizes_;
  PipelinePiece piece_;
};

std::vector<int64_t> PieceCutter::pieces_by_layer() const {
  std::vector<int64_t> pieces;
  for (size_t piece = 0; piece < cut_.layers.size(); ++piece) {
    const LayerRange& range = cut_.layers[piece];
    CHECK(range.begin == static_cast<int64_t>(pieces.size()) && range.end >= range.begin, "pieces are consecutive");
    pieces.resize(static_cast<size_t>(range.end), static_cast<int64_t>(piece));
  }
  return pieces;
}

Status PieceCutter::assign_pieces() {
  const std::vector<int64_t> piece_of_layer = pieces_by_layer();
  const auto& operations = whole_.operations;
  const auto in_layer = [](const Operation& operation) { return layer_of(operation.scope) >= 0; };
  const auto first = std::find_if(operations.begin(), operations.end(), in_layer);
  const auto behind = std::find_if(operations.rbegin(), operations.rend(), in_layer).base();
  if (first == operations.end()) return invalid(fmt::format("[{}] has no layers to cut between", whole_.name));
  std::set<int32_t> made_backward;
  for (auto operation = operations.begin(); operation != operations.end(); ++operation) {
    Place& place = places_[static_cast<size_t>(operation - operations.begin())];
    if (operation->phase == Phase::kUpdate)
      return invalid(fmt::format("[{}] is not the program of a microbatch: it updates parameters", whole_.name));
    // What forward operations make of the loss comes behind the gradient of the head, which computes it.
    const bool goes_backward =
        operation->phase != Phase::kForward ||
        std::ranges::any_of(operation->inputs, [&](TensorId id) { return id && made_backward.contains(id.index); });
    place.part = goes_backward ? kBackwardPart : kForwardPart;
    if (goes_backward)
      for (const TensorId id : operation->outputs) made_backward.insert(id.index);
    const int64_t layer = layer_of(operation->scope);
    if (layer >= static_cast<int64_t>(piece_of_layer.size()))
      return invalid(fmt::format("[{}] has a layer {}; the pieces have {}", whole_.name, layer, piece_of_layer.size()));
    // The embedding's gradient comes last of all; in a program without a backward pass the head does.
    const bool around_layers = operation < first || (operation >= behind && place.part != kForwardPart);
    place.piece = layer >= 0 ? piece_of_layer[static_cast<size_t>(layer)] : around_layers ? 0 : last_piece_;
  }
  return ok_status();
}

// An accumulator stays in one program: between two, its terms could come in another order.
void PieceCutter::set_weights_apart() {
  std::set<int32_t> added_into;  // by operations that have more to do
  const auto for_each_here = [&](auto body) {
    for (size_t at = 0; at < places_.size(); ++at)
      if (places_[at].piece == cut_.piece && places_[at].part == kBackwardPart) body(at, whole_.operations[at]);
  };
  const auto for_each_changed = [&](const Operation& operation, auto body) {
    for (size_t i = 0; i < operation.inputs.size(); ++i)
      if (operation.inputs[i] && input_operand(operation.op, i).mutated()) body(whole_.root(operation.inputs[i]).index);
  };
  for_each_here([&](size_t, const Operation& operation) {
    if (!changes_gradients_alone(whole_, operation))
      for_each_changed(operation, [&](int32_t root) { added_into.insert(root); });
  });
  for_each_here([&](size_t at, const Operation& operation) {
    if (!changes_gradients_alone(whole_, operation)) return;
    bool apart = true;
    for_each_changed(operation, [&](int32_t root) { apart &= !added_into.contains(root); });
    if (apart) places_[at].part = kWeightPart;
  });
}

// Which pieces have each tensor.
Status PieceCutter::trace() {
  for (size_t at = 0; at < places_.size(); ++at) {
    const Operation& operation = whole_.operations[at];
    for (TensorId id : operation.inputs) {
      if (!id || !in_arena(tensor(id).role)) continue;
      if (tensor(id).base) return fault(id, "is a view of an activation");
      RETURN_IF_ERROR(trace_read(id, places_[at]));
    }
    for (TensorId id : operation.outputs) {
      if (!id) continue;
      Flow& flow = flows_[index(id)];
      flow.writer = static_cast<int>(at);
      flow.first = flow.last = places_[at].piece;
      if (tensor(id).role == Role::kOutput && places_[at].part == kForwardPart) flow.last = last_piece_;
    }
  }
  return ok_status();
}

Status PieceCutter::trace_read(TensorId id, const Place& reader) {
  Flow& flow = flows_[index(id)];
  if (flow.writer < 0) return fault(id, "is read before it is written");
  const Place& writer = places_[static_cast<size_t>(flow.writer)];
  if (writer.part != kForwardPart && (reader.part == kForwardPart || reader.piece > writer.piece))
    return fault(id, "comes out of the backward pass and goes forward");
  if (reader.part == kForwardPart && reader.piece < writer.piece) return fault(id, "goes back within the forward pass");
  flow.first = std::min(flow.first, reader.piece);
  flow.last = std::max(flow.last, reader.piece);
  if (reader.piece == cut_.piece) flow.read[reader.part] = true;
  return ok_status();
}

// What becomes of each tensor here.
Status PieceCutter::settle() {
  const int64_t here = cut_.piece;
  for (size_t i = 0; i < flows_.size(); ++i) {
    Flow& flow = flows_[i];
    if (flow.writer < 0 || here < flow.first || here > flow.last) continue;
    const Place& writer = places_[static_cast<size_t>(flow.writer)];
    flow.received = writer.piece != here;
    flow.made = !flow.received ? writer.part : here > writer.piece ? kForwardPart : kBackwardPart;
    flow.sent_next = here >= writer.piece && here < flow.last;
    flow.sent_previous = here <= writer.piece && here > flow.first;
    if (flow.read[kWeightPart] && flow.made != kWeightPart)
      flow.stash = flow.made == kForwardPart ? StashKind::kForwardWeight : StashKind::kBackwardWeight;
    else if (flow.made == kForwardPart && (flow.read_after(kForwardPart) || flow.sent_previous))
      flow.stash = StashKind::kForwardBackward;
    flow.in_outbox = flow.sent_previous || (flow.sent_next && !flow.stash);
    flow.is_output = whole_.tensors[i].role == Role::kOutput &&
                     (writer.part == kForwardPart ? here == last_piece_ : here == writer.piece);
    if (flow.is_output && (flow.stash || flow.in_outbox))
      return fault({static_cast<int32_t>(i)}, "is an output that is needed after the program that makes it");
    if (!flow.received) continue;
    flow.arrives_apart = !flow.stash && (flow.in_outbox || flow.is_output);
    if (!flow.arrives_apart) flow.stash = flow.stash ? inbox_like(*flow.stash) : StashKind::kInbox;
  }
  return ok_status();
}

void PieceCutter::place_stash() {
  const auto place = [&](size_t i, Sizes& sizes) {
    const TensorType& type = whole_.tensors[i].type;
    const int64_t unit = kAlignment / dtype_bytes(type.dtype), count = type.shape.num_elements();
    int64_t& end = sizes[type.dtype];
    return std::exchange(end, end + (count + unit - 1) / unit * unit);
  };
  std::array<Sizes, 2> out, in;  // of a run's outbox and inbox: forward or backward
  for (size_t i = 0; i < flows_.size(); ++i) {
    Flow& flow = flows_[i];
    Sizes& arriving = in[flow.made == kForwardPart ? 0 : 1];
    if (flow.stash) flow.stash_offset = place(i, flow.stash == StashKind::kInbox ? arriving : sizes_[*flow.stash]);
    if (flow.arrives_apart) flow.arrival_offset = place(i, arriving);
    if (flow.in_outbox) flow.outbox_offset = place(i, out[flow.sent_previous ? 1 : 0]);
  }
  for (const auto& [kind, ways] : {std::pair(StashKind::kOutbox, out), std::pair(StashKind::kInbox, in)})
    for (const Sizes& sizes : ways)
      for (const auto& [dtype, size] : sizes) {
        int64_t& most = sizes_[kind][dtype];
        most = std::max(most, size);
      }
  for (const StashKind kind : kStashKinds)
    for (const auto& [dtype, size] : sizes_[kind]) {
      Stash& stash = piece_.stashes[kind];
      stash.parts.push_back({part_name(kind, dtype), stash.num_bytes});
      stash.num_bytes += size * dtype_bytes(dtype);
    }
}

// Writes one program of the piece.
class PieceWriter {
 public:
  PieceWriter(const Program& whole, const std::vector<Flow>& flows, const ByStashKind<Sizes>& sizes, Part part)
      : whole_(whole), flows_(flows), sizes_(sizes), part_(part), ids_(whole.tensors.size()) {
    for (size_t i = 0; i < flows.size(); ++i) {
      const Flow& flow = flows[i];
      const TensorId id = {static_cast<int32_t>(i)};
      if (flow.received && flow.made == part) received_.push_back(id);
      if ((part == kForwardPart && flow.sent_next) || (part == kBackwardPart && flow.sent_previous))
        to_send_.push_back(id);
    }
    const auto by_writer = [&](TensorId a, TensorId b) { return writer(a) < writer(b); };
    std::stable_sort(received_.begin(), received_.end(), by_writer);
    std::stable_sort(to_send_.begin(), to_send_.end(), by_writer);
  }

  // A program of its own: what the part reads of neighbours.
  Program receives(std::string name) {
    for (const TensorId id : received_) {
      const TensorType& type = whole_.tensor(id).type;
      const Link link = part_ == kForwardPart ? Link::kFromPrevious : Link::kFromNext;
      emit(Receive{{.group = RankGroup::to(link)}, type.shape, type.dtype}, {}, {arriving(id)});
    }
    result_.name = std::move(name);
    return std::move(result_);
  }

  // What was received is there.
  void begin() {
    for (const TensorId id : received_) {
      if (flows_[static_cast<size_t>(id.index)].arrives_apart) emit(Scale{.factor = 1}, {arriving(id)}, {declared(id)});
      made_.insert(id.index);
    }
    send();
  }

  void copy(Operation operation) {
    for (const TensorId id : operation.outputs) made_.insert(id.index);
    for (TensorId& id : operation.inputs) id = declared(id);
    for (TensorId& id : operation.outputs) id = declared(id);
    result_.operations.push_back(std::move(operation));
    send();
  }

  Program finish(std::string name) {
    result_.name = std::move(name);
    CHECK(to_send_.empty());
    return std::move(result_);
  }

 private:
  int writer(TensorId id) const { return flows_[static_cast<size_t>(id.index)].writer; }

  // Both ends of a link take tensors in order of who writes them in the whole program, then of their ids; so one that
  // is there waits for those before it.
  void send() {
    while (!to_send_.empty()) {
      const TensorId id = to_send_.front();
      if (flows_[static_cast<size_t>(id.index)].made == part_ && !made_.contains(id.index)) return;
      const Link link = part_ == kForwardPart ? Link::kToNext : Link::kToPrevious;
      emit(Send{{.group = RankGroup::to(link)}}, {leaving(id)}, {});
      to_send_.pop_front();
    }
  }

  TensorId arriving(TensorId id) {
    const Flow& flow = flows_[static_cast<size_t>(id.index)];
    if (!flow.arrives_apart) return declared(id);
    const Tensor& tensor = whole_.tensor(id);
    return appended(part_of(StashKind::kInbox, {tensor.name + ".arriving", tensor.type}, flow.arrival_offset));
  }

  // What is sent of it: itself, or a copy.
  TensorId leaving(TensorId id) {
    const Flow& flow = flows_[static_cast<size_t>(id.index)];
    const TensorId own = declared(id);
    if (part_ == kForwardPart || !flow.stash) return own;
    const Tensor& tensor = whole_.tensor(id);
    const TensorId copy =
        appended(part_of(StashKind::kOutbox, {tensor.name + ".leaving", tensor.type}, flow.outbox_offset));
    emit(Scale{.factor = 1}, {own}, {copy});
    return copy;
  }

  void emit(Op op, std::vector<TensorId> inputs, std::vector<TensorId> outputs) {
    const Phase phase = part_ == kForwardPart ? Phase::kForward : Phase::kBackward;
    result_.operations.push_back({std::move(op), std::move(inputs), std::move(outputs), "", phase});
  }

  TensorId declared(TensorId id) {
    if (!id) return {};
    TensorId& own = ids_[static_cast<size_t>(id.index)];
    if (own) return own;
    Tensor tensor = whole_.tensor(id);
    const Flow& flow = flows_[static_cast<size_t>(id.index)];
    if (tensor.base) tensor.base = declared(tensor.base);
    if (flow.writer >= 0) tensor.role = flow.is_output ? Role::kOutput : Role::kActivation;
    if (flow.stash)
      tensor = part_of(*flow.stash, std::move(tensor), flow.stash_offset);
    else if (flow.in_outbox)
      tensor = part_of(StashKind::kOutbox, std::move(tensor), flow.outbox_offset);
    return own = appended(std::move(tensor));
  }

  Tensor part_of(StashKind kind, Tensor tensor, int64_t offset) {
    const DType dtype = tensor.type.dtype;
    std::string name = part_name(kind, dtype);
    TensorId& base = parts_[name];
    const int64_t size = sizes_[kind].at(dtype);
    if (!base) base = appended({.name = std::move(name), .type = {{size}, dtype}, .role = Role::kStash});
    tensor.role = Role::kStash;
    tensor.base = base;
    tensor.offset = offset;
    return tensor;
  }

  TensorId appended(Tensor tensor) {
    result_.tensors.push_back(std::move(tensor));
    return {static_cast<int32_t>(result_.tensors.size()) - 1};
  }

  const Program& whole_;
  const std::vector<Flow>& flows_;
  const ByStashKind<Sizes>& sizes_;
  const Part part_;
  std::vector<TensorId> ids_;  // here, by tensor of the whole program
  std::map<std::string, TensorId> parts_;
  std::vector<TensorId> received_;
  std::deque<TensorId> to_send_;
  std::set<int32_t> made_;
  Program result_;
};

Program PieceCutter::write(Part part, std::string_view name) {
  PieceWriter writer(whole_, flows_, sizes_, part);
  writer.begin();
  for (size_t at = 0; at < places_.size(); ++at)
    if (places_[at].piece == cut_.piece && places_[at].part == part) writer.copy(whole_.operations[at]);
  Program program = writer.finish(fmt::format("{}.{}.{}", whole_.name, cut_.piece, name));
  DCHECK(verify(program).ok(), verify(program).message().c_str());
  return program;
}

Program PieceCutter::write_receives(Part part, std::string_view name) {
  Program program =
      PieceWriter(whole_, flows_, sizes_, part).receives(fmt::format("{}.{}.{}", whole_.name, cut_.piece, name));
  DCHECK(verify(program).ok(), verify(program).message().c_str());
  return program;
}

void PieceCutter::find_shared_parameters() {
  std::vector<bool> here(whole_.tensors.size(), false), elsewhere = here;
  for (size_t at = 0; at < places_.size(); ++at)
    for (const TensorId id : whole_.operations[at].inputs)
      if (id && tensor(id).role == Role::kParameter)
        (places_[at].piece == cut_.piece ? here : elsewhere)[index(id)] = true;
  for (size_t i = 0; i < here.size(); ++i)
    if (here[i] && elsewhere[i]) piece_.shared_parameters.push_back(whole_.tensors[i].name);
}

}  // namespace

Program keep_lookups_apart(Program microbatch) {
  constexpr auto kTable = static_cast<size_t>(EmbeddingGrad::kDtable);
  const auto added_elsewhere = [&](TensorId grad) {
    return std::ranges::any_of(microbatch.operations, [&](const Operation& operation) {
      return !std::holds_alternative<EmbeddingGrad>(operation.op) && std::ranges::count(operation.inputs, grad) > 0;
    });
  };
  for (Operation& operation : microbatch.operations) {
    if (!std::holds_alternative<EmbeddingGrad>(operation.op)) continue;
    TensorId& grad = operation.inputs[kTable];
    if (!grad || !added_elsewhere(grad)) continue;
    Tensor apart = microbatch.tensor(grad);
    apart.name += ".lookup";
    grad = {static_cast<int32_t>(microbatch.tensors.size())};
    microbatch.tensors.push_back(std::move(apart));
  }
  return microbatch;
}

Result<PipelinePiece> cut_pipeline_piece(const Program& microbatch, const PipelineCut& cut) {
  return PieceCutter(microbatch, cut).run();
}

}  // namespace colossus
