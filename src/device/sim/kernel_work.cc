#include "device/sim/kernel_work.h"

#include <algorithm>

#include "program/lane_order.h"

namespace colossus {
namespace {

int64_t rows_of(const Shape& shape) { return shape.num_elements() / std::max<int64_t>(1, shape[shape.rank() - 1]); }

void set_product(KernelWork& work, int64_t m, int64_t n, int64_t k, int64_t count = 1) {
  work.kind = WorkKind::kMatmul;
  work.m = m;
  work.n = n;
  work.k = k;
  work.count = count;
}

// Of experts: rows are shared evenly, and of a tensor with room for all ranks' rows only those that are there count.
int64_t rows_of_an_expert(const Shape& rows, int64_t room, int64_t num_experts) {
  return std::max<int64_t>(1, rows[0] / std::max<int64_t>(1, room) / std::max<int64_t>(1, num_experts));
}

struct Describe {
  const OpShapes& shapes;
  KernelWork& work;

  void operator()(const Matmul& op) const {
    const Shape& a = shapes.shape(Matmul::kA);
    const Shape& b = shapes.shape(Matmul::kB);
    const int64_t columns = a[a.rank() - 1], rows = rows_of(a);
    if (op.transpose_a)
      set_product(work, columns, b[b.rank() - 1], rows);
    else
      set_product(work, rows, op.transpose_b ? b[0] : b[1], columns);
    work.narrow = true;
    if (!op.transpose_a) set_rounded();
  }
  void operator()(const GroupedMatmul& op) const {
    const Shape& a = shapes.shape(GroupedMatmul::kA);
    const Shape& b = shapes.shape(GroupedMatmul::kB);
    set_product(work, rows_of_an_expert(a, op.room, b[0]), op.transpose_b ? b[1] : b[2], a[1], b[0]);
    // Of the bytes those of the rows that are there; OpShapes counts the room.
    work.bytes = product_bytes();
    work.narrow = work.experts = true;
    set_rounded();
  }
  void operator()(const GroupedMatmulGradWeight& op) const {
    using G = GroupedMatmulGradWeight;
    const Shape& a = shapes.shape(G::kA);
    const Shape& db = shapes.shape(G::kDb);
    set_product(work, a[1], db[2], rows_of_an_expert(a, op.room, db[0]), db[0]);
    work.bytes = product_bytes();
    work.narrow = work.experts = true;
  }
  void operator()(const HeadCrossEntropy&) const {
    head(shapes.shape(HeadCrossEntropy::kH), shapes.shape(HeadCrossEntropy::kW), 1);
  }
  void operator()(const HeadCrossEntropyGrad&) const {
    head(shapes.shape(HeadCrossEntropyGrad::kH), shapes.shape(HeadCrossEntropyGrad::kW), 3);
  }
  void operator()(const Attention& op) const { attention(op, WorkKind::kAttention, shapes.shape(Attention::kK)[1]); }
  void operator()(const AttentionGrad& op) const {
    attention(op, WorkKind::kAttentionGrad, shapes.shape(AttentionGrad::kK)[1]);
  }
  // Squared ReLU as two operations, clamp and power: each reads and writes; backward the power's derivative is a
  // product of three factors, seven readings and writings, and the clamp's reads two and writes one.
  void operator()(const Activation& op) const {
    if (op.kind == ActivationKind::kRelu2) work.eager = 4.0 / 2;
  }
  void operator()(const ActivationGrad& op) const {
    if (op.kind == ActivationKind::kRelu2) work.eager = 10.0 / 3;
  }
  void operator()(const TokenDispatch&) const { work.routing = true; }
  void operator()(const TokenDispatchGrad&) const { work.routing = true; }
  void operator()(const TokenCombine&) const { work.routing = true; }
  void operator()(const TokenCombineGrad&) const { work.routing = true; }
  void operator()(const AllReduce& op) const { talk(op.group, Exchange::kAllReduce); }
  void operator()(const AllGather& op) const { talk(op.group, Exchange::kAllGather); }
  void operator()(const ReduceScatter& op) const { talk(op.group, Exchange::kReduceScatter); }
  void operator()(const RowsToExperts& op) const { talk(op.group, Exchange::kAllToAll); }
  void operator()(const RowsFromExperts& op) const { talk(op.group, Exchange::kAllToAll); }
  // An all-to-all of pieces and their ordered sum are the halves of a reduce-scatter.
  void operator()(const ExchangePieces& op) const { talk(op.group, Exchange::kReduceScatter); }
  void operator()(const GatherPieces& op) const { talk(op.group, Exchange::kAllGather); }
  void operator()(const CollectPieces& op) const { talk(op.group, Exchange::kAllGather); }
  void operator()(const Send& op) const { talk(op.group, Exchange::kSend); }
  void operator()(const Receive& op) const { talk(op.group, Exchange::kReceive); }
  template <class T>
  void operator()(const T&) const {
    static_assert(!Communicates<T>, "what talks to other ranks has a price of its own");
  }

 private:
  // Activations and their gradients are rounded where they are first read, both ways at once: the weights' gradient
  // finds them so. Weights are rounded once a step, which is nothing beside its microbatches.
  void set_rounded() const {
    work.rounded = static_cast<double>(work.count) * static_cast<double>(work.m) * static_cast<double>(work.k);
  }
  double product_bytes() const {
    const auto product = [](int64_t a, int64_t b) { return static_cast<double>(a) * static_cast<double>(b); };
    return 2 * static_cast<double>(work.count) *
           (product(work.m, work.k) + product(work.k, work.n) + product(work.m, work.n));
  }
  // The logits go through memory between the products and the softmax: written, read, and their gradient likewise.
  void head(const Shape& h, const Shape& w, int64_t products) const {
    set_product(work, rows_of(h), w[0], w[1], products);
    work.bytes += static_cast<double>(products + 1) * 2 * static_cast<double>(rows_of(h)) * static_cast<double>(w[0]);
    work.head = true;
  }
  void attention(const AttentionAttributes& op, WorkKind kind, int64_t tokens) const {
    work.kind = kind;
    work.head_dim = op.head_dim;
    work.tokens = op.window > 0 ? std::min(op.window, tokens) : tokens;
  }
  void talk(RankGroup group, Exchange exchange) const {
    work.kind = WorkKind::kCommunication;
    work.group = group;
    work.exchange = exchange;
  }
};

}  // namespace

KernelWork work_of(const Program& program, const Operation& operation) {
  const Cost cost = cost_of(program, operation);
  KernelWork work{
      .flops = cost.flops, .bytes = cost.bytes_read + cost.bytes_written, .group = {}, .bytes_sent = cost.bytes_sent};
  const OpShapes shapes = program.shapes(operation);
  std::visit(Describe{shapes, work}, operation.op);
  return work;
}

namespace {

// Rows that arrive at experts lie in tensors with room for those of all ranks; what works on them there skips what is
// empty (ops/expert_exchange). By tensor, how much longer it is than what is in it with balanced loads.
class Room {
 public:
  explicit Room(const Program& program) : program_(program), of_(program.tensors.size(), 1) {}

  // How much of an operation's traffic is room. Operations come in order.
  double of(const Operation& operation) {
    double room = 1;
    if (const auto* rows = std::get_if<RowsToExperts>(&operation.op)) {
      room = static_cast<double>(rows->ranks / rows->expert_tensor);
      set(operation.outputs[RowsToExperts::kArrived], room);
      return 1;
    }
    if (std::holds_alternative<RowsFromExperts>(operation.op)) return 1;
    int64_t num_rows = 0;
    for (const TensorId id : operation.inputs)
      if (id && of_[static_cast<size_t>(id.index)] > room) {
        room = of_[static_cast<size_t>(id.index)];
        num_rows = program_.tensor(id).type.shape[0];
      }
    if (room > 1)
      for (const TensorId id : operation.outputs)
        if (id && program_.tensor(id).type.shape.rank() > 0 && program_.tensor(id).type.shape[0] == num_rows)
          set(id, room);
    return room;
  }

 private:
  void set(TensorId id, double room) { of_[static_cast<size_t>(id.index)] = room; }

  const Program& program_;
  std::vector<double> of_;
};

}  // namespace

PlayableProgram playable(const Program& program) {
  PlayableProgram result;
  result.works.reserve(program.operations.size());
  Room room(program);
  for (const Operation& operation : program.operations) {
    KernelWork work = work_of(program, operation);
    const double empty = room.of(operation);
    if (work.kind == WorkKind::kMemory) work.bytes /= empty;
    result.works.push_back(std::move(work));
  }
  LaneOrder order = order_lanes(program);
  result.waits = std::move(order.waits);
  result.outlives_run = std::move(order.outlives_run);
  return result;
}

}  // namespace colossus
