#include "convert/mapped_tensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

namespace colossus {
namespace {

constexpr size_t kMostNamed = 3;

std::string first_of(const std::vector<std::string>& names) {
  const std::vector<std::string> shown(names.begin(),
                                       names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), kMostNamed)));
  return fmt::format("{}{}", fmt::join(shown, ", "),
                     names.size() > kMostNamed ? fmt::format(" and {} more", names.size() - kMostNamed) : "");
}

Status check_present(const NameMap& map, const OpenedModel& model) {
  std::vector<std::string> missing;
  for (const TheirTensor& theirs : map.theirs) {
    const auto found = model.tensors.find(theirs.name);
    if (found == model.tensors.end())
      missing.push_back(theirs.name);
    else if (!(found->second.shape == theirs.shape))
      return invalid(fmt::format("[{}] {} is {}; the configuration describes a network that needs {}",
                                 found->second.place, theirs.name, found->second.shape.to_string(),
                                 theirs.shape.to_string()));
  }
  if (missing.empty()) return ok_status();
  const std::string beginning = fmt::format("{}: ", missing.front());
  for (const std::string& other : model.other_types)
    if (other.starts_with(beginning))
      return invalid(fmt::format("{}; needed F32, F16 or BF16 (or I8 with scales)", other));
  return invalid(fmt::format("the tensors lack {}; the configuration describes another network, or a shard is missing",
                             first_of(missing)));
}

}  // namespace

Status check_tensors(const NameMap& map, const OpenedModel& model, std::vector<std::string>& notes) {
  RETURN_IF_ERROR(check_present(map, model));
  std::set<std::string_view> known;
  for (const TheirTensor& theirs : map.theirs) known.insert(theirs.name);
  std::vector<std::string> unknown;
  for (const auto& [name, tensor] : model.tensors) {
    if (known.contains(name)) continue;
    if (std::ranges::any_of(model.no_parameters, [&](std::string_view end) { return name.ends_with(end); })) continue;
    if (model.config.tie_embeddings && name == "lm_head.weight")
      notes.emplace_back("lm_head.weight was passed over: tie_word_embeddings says that it is the embedding");
    else
      unknown.push_back(name);
  }
  for (const std::string& other : model.other_types) {
    const std::string name = other.substr(0, other.rfind(": "));
    if (std::ranges::none_of(model.no_parameters, [&](std::string_view end) { return name.ends_with(end); }))
      unknown.push_back(other);
  }
  if (!unknown.empty())
    return invalid(fmt::format("the network has no place for {}; its family is not what the configuration says",
                               first_of(unknown)));
  for (size_t i = 0; i < map.ours.size(); ++i) {
    const SourceTensor* first = nullptr;
    for (const MatrixLink& link : map.of_ours(i)) {
      const SourceTensor& part = model.tensors.at(map.theirs[link.theirs].name);
      if (!first) first = &part;
      if (part.dtype != first->dtype)
        return invalid(fmt::format("{} is {} and {} is {}; the parts of one tensor must be of one type", first->name,
                                   dtype_name(first->dtype), part.name, dtype_name(part.dtype)));
    }
  }
  return ok_status();
}

}  // namespace colossus
