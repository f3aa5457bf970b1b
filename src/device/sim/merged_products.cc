#include "device/sim/merged_products.h"

#include <map>
#include <tuple>

namespace colossus {
namespace {

// What a product of a layer's weights reads: its first operand, and what it is added to.
struct Reads {
  bool is_product = false, of_weight_grad = false;
  TensorId operand, addend;
};

struct ReadsOf {
  const Operation& operation;

  Reads operator()(const Matmul& op) const { return {true, op.transpose_a, input(Matmul::kA), input(Matmul::kAddend)}; }
  Reads operator()(const GroupedMatmul&) const {
    return {true, false, input(GroupedMatmul::kA), input(GroupedMatmul::kAddend)};
  }
  Reads operator()(const GroupedMatmulGradWeight&) const {
    return {true, true, input(GroupedMatmulGradWeight::kA), {}};
  }
  template <class T>
  Reads operator()(const T&) const {
    return {};
  }

 private:
  TensorId input(int at) const {
    return static_cast<size_t>(at) < operation.inputs.size() ? operation.inputs[static_cast<size_t>(at)] : TensorId{};
  }
};

double elements(int64_t count, int64_t rows, int64_t columns) {
  return static_cast<double>(count) * static_cast<double>(rows) * static_cast<double>(columns);
}

void absorb(KernelWork& first, KernelWork& other, double shared_bytes) {
  first.flops += other.flops;
  first.bytes += std::max(0.0, other.bytes - shared_bytes);
  other = KernelWork{.absorbed = true, .group = {}};
}

}  // namespace

void merge_products(const Program& program, PlayableProgram& works) {
  std::map<std::tuple<bool, int, int64_t, int64_t>, size_t> of_operand;  // weight's gradient or not, operand, m, k
  std::map<int, size_t> product_of;                                      // by the tensor that it makes
  for (size_t at = 0; at < program.operations.size(); ++at) {
    const Operation& operation = program.operations[at];
    KernelWork& work = works.works[at];
    const Reads reads = std::visit(ReadsOf{operation}, operation.op);
    if (!reads.is_product || !work.narrow) continue;
    size_t first = at;
    const auto sum = reads.addend ? product_of.find(reads.addend.index) : product_of.end();
    const auto [beside, is_new] =
        of_operand.try_emplace(std::tuple{reads.of_weight_grad, reads.operand.index, work.m, work.k}, at);
    if (sum != product_of.end() && works.works[sum->second].m == work.m && works.works[sum->second].n == work.n) {
      // A sum of products is one of deeper operands; what lies between them is not written.
      first = sum->second;
      works.works[first].k += work.k;
      works.works[first].rounded += work.rounded;
      absorb(works.works[first], work, 2 * 2 * elements(work.count, work.m, work.n));
    } else if (!is_new && !reads.addend) {
      first = beside->second;
      works.works[first].n += work.n;
      absorb(works.works[first], work, 2 * elements(work.count, work.m, work.k));
    }
    if (!operation.outputs.empty() && operation.outputs[0]) product_of[operation.outputs[0].index] = first;
  }
}

}  // namespace colossus
