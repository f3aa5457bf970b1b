#include "convert/name_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace colossus {
namespace {

constexpr std::string_view kLayerWord = "layers.";

struct OurName {
  std::string pattern;  // "layers.{l}.attn.q"
  std::string layer;    // "" where it is of none
};

OurName split_name(const std::string& name) {
  if (!name.starts_with(kLayerWord)) return {name, ""};
  const size_t end = name.find('.', kLayerWord.size());
  return {std::string(kLayerWord) + "{l}" + name.substr(end), name.substr(kLayerWord.size(), end - kLayerWord.size())};
}

std::string filled(std::string_view pattern, std::string_view key, const std::string& value) {
  std::string text(pattern);
  if (const size_t at = text.find(key); at != std::string::npos) text.replace(at, key.size(), value);
  return text;
}

bool is_transposed(MatrixOrder layout) { return layout != MatrixOrder::kSame; }

Shape shape_of(const TheirTensor& theirs, int rank, MatrixOrder layout) {
  if (rank == 1) return {theirs.out};
  const Shape matrix = is_transposed(layout) ? Shape{theirs.out, theirs.in} : Shape{theirs.in, theirs.out};
  return theirs.num_matrices == 1 && rank == 2 ? matrix : Shape{theirs.num_matrices, matrix[0], matrix[1]};
}

class Writer {
 public:
  Writer(NameMap& map, std::string_view strip) : map_(map), strip_(strip) {}

  void add(size_t index, const NameRule& rule, const std::string& layer) {
    const Shape& shape = map_.ours[index].shape;
    const bool stacked = shape.rank() == 3, by_expert = rule.theirs.find("{e}") != std::string_view::npos;
    const int64_t num_matrices = stacked ? shape[0] : 1;
    std::string name = filled(rule.theirs, "{l}", layer);
    if (name.starts_with(strip_)) name.erase(0, strip_.size());
    for (int64_t e = 0; e < num_matrices; ++e) {
      MatrixLink link{
          .ours = index, .matrix = e, .in = shape.rank() == 1 ? 1 : shape[-2], .out = shape[-1], .layout = rule.layout};
      link.theirs = find(by_expert ? filled(name, "{e}", std::to_string(e)) : name);
      TheirTensor& theirs = map_.theirs[link.theirs];
      link.their_matrix = by_expert ? 0 : e;
      if (e == 0 || by_expert) first_out_[link.theirs] = theirs.links.empty() ? 0 : theirs.out;
      link.first_out = first_out_[link.theirs];
      theirs.in = link.in;
      theirs.out = link.first_out + link.out;
      theirs.num_matrices = std::max(theirs.num_matrices, link.their_matrix + 1);
      theirs.shape = shape_of(theirs, by_expert ? 2 : shape.rank(), rule.layout);
      theirs.links.push_back(map_.links.size());
      map_.links.push_back(link);
    }
  }

 private:
  size_t find(const std::string& name) {
    const auto [at, is_new] = by_name_.emplace(name, map_.theirs.size());
    if (is_new) map_.theirs.push_back({.name = name, .shape = {}, .links = {}});
    return at->second;
  }

  NameMap& map_;
  const std::string_view strip_;
  std::map<std::string, size_t> by_name_;
  std::map<size_t, int64_t> first_out_;
};

}  // namespace

std::span<const MatrixLink> NameMap::of_ours(size_t index) const {
  const auto [begin, end] = std::ranges::equal_range(links, index, {}, &MatrixLink::ours);
  return {begin, end};
}

Result<NameMap> make_name_map(const ModelConfig& model, std::span<const NameRule> rules, std::string_view strip) {
  NameMap map;
  ASSIGN_OR_RETURN(map.ours, parameter_table(model));
  Writer writer(map, strip);
  for (size_t i = 0; i < map.ours.size(); ++i) {
    const OurName name = split_name(map.ours[i].name);
    const auto rule = std::ranges::find(rules, name.pattern, &NameRule::ours);
    if (rule == rules.end())
      return invalid(fmt::format("the parameter {} has no name in this format; the model has a part that it lacks",
                                 map.ours[i].name));
    writer.add(i, *rule, name.layer);
  }
  return map;
}

}  // namespace colossus
