#include "train/input_feed.h"

#include <algorithm>

namespace colossus {

std::vector<size_t> elements_of_part(const TensorPart& part, const MeshPosition& position) {
  const Shape& whole = part.whole.shape;
  const int64_t T = whole[1];
  const int64_t context = part.placement.find(MeshAxis::kContext) ? position[MeshAxis::kContext].size : 1;
  const Slice slice = local_slice(whole, part.placement, position);
  std::vector<size_t> elements;
  for (int64_t row = 0; row < slice.shape[0]; ++row)
    for (int64_t column = 0; column < slice.shape[1]; ++column)
      elements.push_back(
          static_cast<size_t>((slice.begin[0] + row) * T + folded_token(T, context, slice.begin[1] + column)));
  return elements;
}

InputFeed::InputFeed(Device& device, const ProgramOptions& options, std::span<const TensorPart> inputs,
                     const Ranks& ranks)
    : device_(device), options_(options) {
  const auto count = static_cast<size_t>(options.batch * options.tokens);
  tokens_.resize(count);
  targets_.resize(count);
  if (options.document_mask) document_start_.resize(count);
  for (const TensorPart& part : inputs)
    if (!part.placement.axes().empty()) elements_[part.name] = elements_of_part(part, ranks.mesh.position(ranks.rank));
}

Status InputFeed::add(Executable& executable) {
  const Program& program = executable.program();
  RETURN_IF_ERROR(memories_.add_role(device_, program, Role::kInput));
  memories_.bind_to(executable);
  for (const auto& [name, whole] :
       {std::pair{"tokens", &tokens_}, {"targets", &targets_}, {"document_start", &document_start_}}) {
    if (!program.find(name)) continue;
    const auto cut = elements_.find(name);
    rows_of_[&program].push_back({.whole = whole,
                                  .elements = cut == elements_.end() ? nullptr : &cut->second,
                                  .memory = memories_.at(name).memory});
  }
  return ok_status();
}

Status InputFeed::read(const Loader& data, int64_t step, int64_t first_row, int64_t num_rows) {
  RETURN_IF_ERROR(data.fill(step, first_row, options_.batch, tokens_, targets_, document_start_));
  std::fill(targets_.begin() + std::max<int64_t>(0, num_rows) * options_.tokens, targets_.end(), -1);
  return ok_status();
}

void InputFeed::write(const Program& program) {
  for (const Rows& rows : rows_of_[&program]) {
    std::span<const int32_t> values = *rows.whole;
    if (rows.elements) {
      part_.resize(rows.elements->size());
      std::ranges::transform(*rows.elements, part_.begin(), [&](size_t element) { return values[element]; });
      values = part_;
    }
    device_.write(*rows.memory, 0, std::as_bytes(values));
  }
}

}  // namespace colossus
