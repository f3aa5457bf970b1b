#include "parallel/shard_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "base/check.h"

namespace colossus {
namespace {

// Operations that are written in front of those of a program.
class Insertions {
 public:
  explicit Insertions(Program& program) : program_(program), before_(program.operations.size() + 1) {}

  // Before operation `at`; at the end for one behind the last. Behind what was put there before.
  void add(size_t at, Operation operation) { before_[at].push_back(std::move(operation)); }

  void apply() {
    std::vector<Operation> operations;
    for (size_t at = 0; at < before_.size(); ++at) {
      std::ranges::move(before_[at], std::back_inserter(operations));
      if (at < program_.operations.size()) operations.push_back(std::move(program_.operations[at]));
    }
    program_.operations = std::move(operations);
  }

 private:
  Program& program_;
  std::vector<std::vector<Operation>> before_;
};

TensorId append(Program& program, Tensor tensor) {
  program.tensors.push_back(std::move(tensor));
  return {static_cast<int32_t>(program.tensors.size()) - 1};
}

TensorType floats(Shape shape) { return {std::move(shape), DType::kF32}; }

std::map<std::string, TensorId> ids_by_name(const Program& program) {
  std::map<std::string, TensorId> ids;
  for (size_t i = 0; i < program.tensors.size(); ++i) ids[program.tensors[i].name] = {static_cast<int32_t>(i)};
  return ids;
}

// Of the layer that an operation belongs to; none outside the layers.
std::string layer_scope(int64_t layer) { return layer < 0 ? "" : fmt::format("layers.{}", layer); }

// By tensor: the bucket it is a member of, or -1.
template <class Bucket>
std::vector<int> buckets_of_tensors(const Program& program, std::span<const Bucket> buckets) {
  const auto ids = ids_by_name(program);
  std::vector<int> bucket_of(program.tensors.size(), -1);
  for (size_t bucket = 0; bucket < buckets.size(); ++bucket)
    for (const BucketMember& member : buckets[bucket].members)
      if (const auto found = ids.find(member.name); found != ids.end())
        bucket_of[static_cast<size_t>(found->second.index)] = static_cast<int>(bucket);
  return bucket_of;
}

// One bucket's way through the backward pass.
struct Exchanged {
  const ExchangedBucket* bucket = nullptr;
  size_t first = 0, last = 0;  // operations that add into it
  int64_t layer = -1;
  // Filled in by declare_exchanged().
  std::vector<TensorId> sums;     // as of the bucket
  std::vector<TensorId> sent;     // these, and those before each
  std::vector<Operation> folded;  // what is added to them
  std::vector<TensorId> received;
  std::vector<TensorId> nodes;  // of the addition
  TensorId kept;
};

std::vector<Exchanged> find_exchanged(const Program& program, std::span<const ExchangedBucket> buckets) {
  const auto ids = ids_by_name(program);
  std::vector<int> bucket_of(program.tensors.size(), -1);
  for (size_t bucket = 0; bucket < buckets.size(); ++bucket)
    for (const GradientSum& sum : buckets[bucket].sums)
      for (const BucketMember& member : sum.members)
        if (const auto found = ids.find(member.name); found != ids.end())
          bucket_of[static_cast<size_t>(found->second.index)] = static_cast<int>(bucket);
  std::vector<std::optional<Exchanged>> by_bucket(buckets.size());
  for (size_t at = 0; at < program.operations.size(); ++at)
    for (const TensorId id : program.operations[at].inputs) {
      const int bucket = id ? bucket_of[static_cast<size_t>(id.index)] : -1;
      if (bucket < 0) continue;
      auto& found = by_bucket[static_cast<size_t>(bucket)];
      if (!found) {
        found.emplace();
        found->bucket = &buckets[static_cast<size_t>(bucket)];
        found->first = at;
      }
      found->last = at;
      found->layer = layer_of(program.operations[at].scope);
    }
  std::vector<Exchanged> exchanged;
  for (auto& found : by_bucket)
    if (found) exchanged.push_back(std::move(*found));
  std::ranges::stable_sort(exchanged, {}, &Exchanged::last);
  return exchanged;
}

// What is to be added to a sum, along the tree.
Operation fold(Program& program, const GradientSum& sum, TensorId id) {
  const Tensor whole = program.tensor(id);
  Operation operation{TreeSum{}, {id}, {}};
  operation.inputs.push_back(append(
      program, {.name = sum.name + ".row", .type = floats({1, whole.type.shape[0]}), .role = whole.role, .base = id}));
  auto& additions = std::get<TreeSum>(operation.op).additions;
  for (const std::string& name : sum.added) {
    operation.inputs.push_back(
        append(program, {.name = name, .type = floats({1, whole.type.shape[0]}), .role = Role::kState}));
    additions.insert(additions.end(), {0, static_cast<int64_t>(operation.inputs.size()) - 2});
  }
  return operation;
}

// Its tensors; the gradients among `ids` become parts of the sums.
void declare_exchanged(Program& program, const std::map<std::string, TensorId>& ids, Exchanged& exchanged) {
  const ExchangedBucket& bucket = *exchanged.bucket;
  const Role role = bucket.num_kept > 0 ? Role::kSum : Role::kGradient;
  for (const GradientSum& sum : bucket.sums) {
    const TensorId whole = append(program, {.name = sum.name, .type = floats({bucket.size}), .role = role});
    for (const BucketMember& member : sum.members) {
      const auto found = ids.find(member.name);
      CHECK(found != ids.end(), member.name.c_str());  // or its place would be exchanged without it
      Tensor& tensor = program.tensor(found->second);
      CHECK(tensor.role == Role::kGradient && !tensor.base, member.name.c_str());
      tensor.role = role;
      tensor.base = whole;
      tensor.offset = member.offset;
    }
    if (!sum.added.empty()) exchanged.folded.push_back(fold(program, sum, whole));
    for (const std::string& name : sum.before)
      exchanged.sent.push_back(append(program, {.name = name, .type = floats({bucket.size}), .role = Role::kState}));
    exchanged.sums.push_back(whole);
    exchanged.sent.push_back(whole);
  }
  const ExchangePieces& exchange = bucket.exchange;
  const int64_t piece = exchange.size(exchange.rank);
  const auto receive = [&](const char* ending, int64_t num_sums) {
    exchanged.received.push_back(append(program, {.name = bucket.name + ending, .type = floats({num_sums, piece})}));
  };
  receive(".before", exchange.num_before());
  receive(".behind", exchange.num_behind());
  exchanged.nodes =
      nodes_by_rank(exchange, exchanged.received, exchanged.sent, [&](TensorId sum, Shape shape, int64_t offset) {
        const Tensor& whole = program.tensor(sum);
        return append(program, {.name = whole.name + ".here",
                                .type = floats(std::move(shape)),
                                .role = whole.role,
                                .base = sum,
                                .offset = offset});
      });
  exchanged.kept =
      bucket.num_kept > 0
          ? append(program, {.name = bucket.name, .type = floats({bucket.num_kept, piece}), .role = Role::kGradient})
          : append(program, {.name = bucket.name + ".own",
                             .type = floats({piece}),
                             .role = Role::kGradient,
                             .base = exchanged.sums.front(),
                             .offset = exchange.begin(exchange.rank)});
}

// Calls emit(operation) for what is to be done when a bucket's gradients are complete, and when they have come.
template <class Emit>
void emit_exchange(Exchanged& exchanged, Emit emit) {
  for (Operation& operation : exchanged.folded) emit(std::move(operation));
  emit(Operation{exchanged.bucket->exchange, exchanged.sent, exchanged.received});
}
template <class Emit>
void emit_addition(const Exchanged& exchanged, Emit emit) {
  std::vector<TensorId> inputs = exchanged.nodes;
  inputs.insert(inputs.begin() + TreeSum::kSum, exchanged.kept);
  emit(Operation{exchanged.bucket->addition, std::move(inputs), {}});
  if (exchanged.bucket->replicas) emit(Operation{*exchanged.bucket->replicas, {exchanged.sums.front()}, {}});
}

// A bucket in one stretch of the program.
struct Gathered {
  size_t bucket;
  bool backward;
  int64_t layer;
  size_t first, last;  // operations that read it
  size_t group = 0;    // of buckets that are gathered together
};

// In order of first use.
std::vector<Gathered> find_gathered(const Program& program, const std::vector<int>& bucket_of, size_t num_buckets) {
  std::vector<std::optional<Gathered>> stretches(2 * num_buckets);
  for (size_t at = 0; at < program.operations.size(); ++at) {
    const Operation& operation = program.operations[at];
    for (const TensorId id : operation.inputs) {
      const int bucket = id ? bucket_of[static_cast<size_t>(id.index)] : -1;
      if (bucket < 0) continue;
      const bool backward = operation.phase != Phase::kForward;
      auto& found = stretches[2 * static_cast<size_t>(bucket) + (backward ? 1 : 0)];
      if (!found)
        found = {.bucket = static_cast<size_t>(bucket),
                 .backward = backward,
                 .layer = layer_of(operation.scope),
                 .first = at,
                 .last = at};
      found->last = at;
    }
  }
  std::vector<Gathered> gathered;
  for (const auto& found : stretches)
    if (found) gathered.push_back(*found);
  std::ranges::stable_sort(gathered, {}, &Gathered::first);
  for (size_t i = 1; i < gathered.size(); ++i) {
    const Gathered& before = gathered[i - 1];
    const bool same = before.layer == gathered[i].layer && before.backward == gathered[i].backward;
    gathered[i].group = before.group + (same ? 0 : 1);
  }
  return gathered;
}

// A bucket that would be gathered again as soon as it is gone stays.
void join_stretches(std::vector<Gathered>& gathered) {
  for (Gathered& forward : gathered) {
    if (forward.backward) continue;
    const auto again = std::ranges::find_if(gathered, [&](const Gathered& other) {
      return other.backward && other.bucket == forward.bucket && other.group <= forward.group + 2;
    });
    if (again == gathered.end()) continue;
    forward.last = std::exchange(again->last, 0);  // of no operation
  }
  std::erase_if(gathered, [](const Gathered& stretch) { return stretch.last < stretch.first; });
}

}  // namespace

Program exchange_gradients(Program program, std::span<const ExchangedBucket> buckets) {
  std::vector<Exchanged> exchanged = find_exchanged(program, buckets);
  const auto ids = ids_by_name(program);
  Insertions insertions(program);
  const auto insert = [&](size_t at, const Exchanged& of) {
    return [&insertions, at, scope = layer_scope(of.layer)](Operation operation) {
      operation.scope = scope;
      operation.phase = Phase::kBackward;
      insertions.add(at, std::move(operation));
    };
  };
  std::vector<const Exchanged*> under_way;
  // Where they were added up at once, the computing lane would wait for the exchange.
  const auto add_up = [&](size_t at, auto which) {
    for (const Exchanged* other : under_way)
      if (which(*other)) emit_addition(*other, insert(at, *other));
    std::erase_if(under_way, [&](const Exchanged* other) { return which(*other); });
  };
  for (Exchanged& own : exchanged) {
    declare_exchanged(program, ids, own);
    add_up(own.last + 1, [&](const Exchanged& other) { return other.layer != own.layer; });
    emit_exchange(own, insert(own.last + 1, own));
    under_way.push_back(&own);
  }
  add_up(program.operations.size(), [](const Exchanged&) { return true; });
  for (const Exchanged& own : exchanged)
    if (own.bucket->num_kept > 0)
      for (const TensorId sum : own.sums) insert(own.first, own)({Zeros{.size = own.bucket->size}, {}, {sum}});
  insertions.apply();
  DCHECK(verify(program).ok(), verify(program).message().c_str());
  return program;
}

Program write_exchange(std::span<const ExchangedBucket> buckets) {
  Program program;
  program.name = "exchange";
  const auto emit = [&](Operation operation) {
    operation.phase = Phase::kUpdate;
    program.operations.push_back(std::move(operation));
  };
  std::optional<Exchanged> before;  // is added up while this one is under way
  for (const ExchangedBucket& bucket : buckets) {
    Exchanged own;
    own.bucket = &bucket;
    declare_exchanged(program, {}, own);
    emit_exchange(own, emit);
    if (before) emit_addition(*before, emit);
    before = std::move(own);
  }
  if (before) emit_addition(*before, emit);
  DCHECK(verify(program).ok(), verify(program).message().c_str());
  return program;
}

Program gather_parameters(Program program, std::span<const GatheredBucket> buckets) {
  const std::vector<int> bucket_of = buckets_of_tensors(program, buckets);
  std::vector<Gathered> gathered = find_gathered(program, bucket_of, buckets.size());
  std::vector<size_t> group_begins;  // the first operation that reads a bucket of the group
  for (const Gathered& stretch : gathered)
    if (stretch.group == group_begins.size()) group_begins.push_back(stretch.first);
  join_stretches(gathered);

  const auto ids = ids_by_name(program);
  Insertions insertions(program);
  std::vector<TensorId> pieces(buckets.size());
  std::vector<char> is_again(buckets.size(), 0);
  for (const Gathered& stretch : gathered) {
    const GatheredBucket& bucket = buckets[stretch.bucket];
    TensorId& piece = pieces[stretch.bucket];
    const bool again = std::exchange(is_again[stretch.bucket], 1) != 0;
    if (!piece)
      piece = append(
          program,
          {.name = bucket.piece, .type = floats({bucket.pieces.size(bucket.pieces.rank)}), .role = Role::kParameter});
    int64_t size = 0;
    for (int64_t rank = 0; rank < bucket.pieces.ranks; ++rank) size += bucket.pieces.size(rank);
    const TensorId whole =
        append(program, {.name = bucket.piece + (again ? ".whole.again" : ".whole"), .type = floats({size})});
    // The first stretch's tensors are those that were parameters; the second one's are theirs once more.
    std::map<int32_t, TensorId> views;
    for (const BucketMember& member : bucket.members) {
      const auto found = ids.find(member.name);
      if (found == ids.end()) continue;
      TensorId view = found->second;
      if (again) {
        Tensor copy = program.tensor(view);
        copy.name += ".again";
        view = append(program, std::move(copy));
      }
      Tensor& tensor = program.tensor(view);
      tensor.role = Role::kActivation;
      tensor.base = whole;
      tensor.offset = member.offset;
      views[found->second.index] = view;
    }
    for (size_t at = stretch.first; at <= stretch.last; ++at)
      for (TensorId& id : program.operations[at].inputs)
        if (const auto found = views.find(id.index); found != views.end()) id = found->second;
    // When the group before begins; the first two at the start.
    const size_t at = stretch.group == 0 ? 0 : group_begins[stretch.group - 1];
    insertions.add(stretch.group <= 1 ? 0 : at, {CollectPieces{bucket.pieces},
                                                 {piece},
                                                 {whole},
                                                 layer_scope(stretch.layer),
                                                 stretch.backward ? Phase::kBackward : Phase::kForward});
  }
  insertions.apply();
  DCHECK(verify(program).ok(), verify(program).message().c_str());
  return program;
}

}  // namespace colossus
