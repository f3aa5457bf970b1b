#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>

#include "io/config.h"

namespace colossus {
namespace {

constexpr int64_t kMaxConfigBytes = 4 << 20;
constexpr size_t kMaxFaults = 100;      // before unknown keys are told of no more
constexpr size_t kMaxExtends = 16;  // files one behind another; more is a mistake

std::string joined_path(const std::string& directory, const std::string& path) {
  // Normal by spelling, so that one file has one name in the chain of files that extend each other.
  return (std::filesystem::path(directory) / path).lexically_normal().string();
}

Result<ConfigNode> load_tree(FileSystem& files, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, read_file(files, path, kMaxConfigBytes));
  return parse_toml(text, path);
}

// "" when every number in `node` lies within the field's bounds.
std::string out_of_bounds(const ConfigNode& node, const FieldOptions& options) {
  if (const auto* array = std::get_if<ConfigArray>(&node.value)) {
    for (const ConfigNode& child : *array) {
      if (std::string why = out_of_bounds(child, options); !why.empty()) return why;
    }
    return "";
  }
  double number = 0;
  if (const auto* integer = std::get_if<int64_t>(&node.value)) {
    number = static_cast<double>(*integer);
  } else if (const auto* real = std::get_if<double>(&node.value)) {
    number = *real;
  } else {
    return "";
  }
  if (std::isnan(number)) return "must be a number";
  if (number < options.min) return fmt::format("must be at least {}", options.min);
  if (std::isfinite(options.above) && number <= options.above) return fmt::format("must be above {}", options.above);
  if (number > options.max) return fmt::format("must be at most {}", options.max);
  return "";
}

}  // namespace

namespace internal {

std::string read_bool(const ConfigNode& node, bool& value) {
  const bool* boolean = std::get_if<bool>(&node.value);
  if (boolean == nullptr) return "must be true or false";
  value = *boolean;
  return "";
}

std::string read_integer(const ConfigNode& node, int64_t min, int64_t max, int64_t& value) {
  const int64_t* integer = std::get_if<int64_t>(&node.value);
  const double* real = std::get_if<double>(&node.value);
  // 1e9 is a float to TOML, and the way people write a billion tokens. Above 2^53 a double may not be what was written.
  constexpr double kExact = 9007199254740992.0;
  if (integer != nullptr) {
    value = *integer;
  } else if (real != nullptr && std::floor(*real) == *real && std::abs(*real) <= kExact) {
    value = static_cast<int64_t>(*real);
  } else {
    return "must be a whole number";
  }
  if (value < min || value > max) return fmt::format("must lie between {} and {}", min, max);
  return "";
}

std::string read_real(const ConfigNode& node, double& value) {
  if (const double* real = std::get_if<double>(&node.value)) {
    value = *real;
  } else if (const int64_t* integer = std::get_if<int64_t>(&node.value)) {
    value = static_cast<double>(*integer);
  } else {
    return "must be a number";
  }
  return "";
}

std::string read_string(const ConfigNode& node, std::string& value) {
  if (const std::string* text = node.text()) {
    value = *text;
  } else if (!node.typed.empty()) {
    value = node.typed;
  } else {
    return "must be a string in quotes";
  }
  return "";
}

std::string read_choice(const ConfigNode& node, const std::vector<std::string>& names, size_t& index) {
  std::string given;
  if (read_string(node, given).empty()) {
    const auto found = std::find(names.begin(), names.end(), given);
    if (found != names.end()) {
      index = static_cast<size_t>(found - names.begin());
      return "";
    }
  }
  const std::string nearest = nearest_name(given, names);
  return fmt::format("must be one of {}{}", fmt::join(names, ", "),
                     nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest));
}

}  // namespace internal

namespace {

// What `path` ("sources[1].weight") leads to, or the last of the way that was written; null: nothing of it was.
ConfigNode* find_nearest(ConfigNode& root, std::string_view path) {
  ConfigNode* nearest = nullptr;
  ConfigNode* node = &root;
  while (!path.empty()) {
    const size_t end = std::min(path.find_first_of(".["), path.size());
    if (node->table() == nullptr || (node = find_key(*node->table(), path.substr(0, end))) == nullptr) return nearest;
    nearest = node;
    path.remove_prefix(end);
    if (path.starts_with('[')) {
      const size_t close = std::min(path.find(']'), path.size());
      size_t index = 0;
      std::from_chars(path.data() + 1, path.data() + close, index);
      auto* items = std::get_if<ConfigArray>(&node->value);
      if (items == nullptr || index >= items->size()) return nearest;
      nearest = node = &(*items)[index];
      path.remove_prefix(std::min(close + 1, path.size()));
    }
    if (path.starts_with('.')) path.remove_prefix(1);
  }
  return nearest;
}

}  // namespace

// Speaks for the struct whose fields were read last, the top frame.
class ConfigReader::Checker final : public FieldChecker {
 public:
  explicit Checker(ConfigReader& reader) : reader_(reader) {}
  void require(bool holds, const char* field, const std::string& message) override {
    if (holds) return;
    Frame& frame = reader_.frames_.back();
    const ConfigNode* node = find_nearest(frame.node, field);
    const auto value = frame.values.find(field);
    const std::string given = value == frame.values.end() ? "" : " = " + value->second;
    reader_.fault(
        invalid(fmt::format("{}{}{}{} {}", frame.path, field, given, node == nullptr ? " (default)" : "", message))
            .at(node == nullptr ? frame.node.place.label : node->place.label));
  }

 private:
  ConfigReader& reader_;
};

ConfigReader::ConfigReader(FileSystem* files, ConfigNode root, std::vector<std::string> known)
    : files_(files), known_(std::move(known)), checker_(std::make_unique<Checker>(*this)) {
  push(std::move(root), "");
}

void ConfigReader::push(ConfigNode node, std::string path) {
  const size_t faults_before = faults_.size();
  std::vector<std::string> chain;
  if (Status resolved = resolve(node, chain); !resolved.ok()) fault(std::move(resolved));
  frames_.push_back({std::move(node), std::move(path), {"extends"}, {}, faults_before});
}

Status ConfigReader::resolve(ConfigNode& node, std::vector<std::string>& chain) {
  const ConfigNode* extends = find_key(*node.table(), "extends");
  if (extends == nullptr) return ok_status();
  const ConfigPlace place = extends->place;
  if (extends->text() == nullptr) return invalid("extends must be a file's name in quotes").at(place.label);
  const std::string path = joined_path(place.directory, *extends->text());
  if (files_ == nullptr)
    return invalid(fmt::format("cannot read {} here: this text stands alone", path)).at(place.label);
  if (std::find(chain.begin(), chain.end(), path) != chain.end()) {
    return invalid(fmt::format("{} extends itself: {} -> {}", path, fmt::join(chain, " -> "), path)).at(place.label);
  }
  if (chain.size() >= kMaxExtends) {
    return invalid(fmt::format("more than {} files extend each other; the last is {}", kMaxExtends, path))
        .at(place.label);
  }
  chain.push_back(path);
  Result<ConfigNode> base = load_tree(*files_, path);
  if (!base.ok()) return base.status().at(place.label);
  RETURN_IF_ERROR(resolve(*base, chain));
  merge_tables(*base->table(), std::move(*node.table()));
  node.value = std::move(base->value);
  return ok_status();
}

void ConfigReader::visit(const FieldSpec& spec, FieldAccess& access) {
  Frame& frame = frames_.back();
  frame.seen.insert(spec.name);
  if (const ConfigNode* node = find_key(*frame.node.table(), spec.name)) {
    std::string needed = access.read(*node);
    if (needed.empty()) {
      if (const auto value = access.write()) needed = out_of_bounds(*value, spec.options);
    }
    if (!needed.empty()) {
      const std::string unit = *spec.options.unit == 0 ? "" : fmt::format(" ({})", spec.options.unit);
      fault(invalid(fmt::format("{}{} = {} {}{}", frame.path, spec.name, toml_text(*node), needed, unit))
                .at(node->place.label));
    }
  }
  const auto value = access.write();
  frame.values[spec.name] = value ? toml_text(*value) : "none";
}

void ConfigReader::begin_group(const FieldSpec& spec) {
  Frame& frame = frames_.back();
  frame.seen.insert(spec.name);
  const std::string path = frame.path + spec.name + ".";
  ConfigNode group = {ConfigTable{}, frame.node.place, ""};
  if (ConfigNode* node = find_key(*frame.node.table(), spec.name)) {
    group.place = node->place;
    if (node->table() != nullptr) {
      group.value = *node->table();
    } else if (node->text() != nullptr && node->text()->find_first_of("./") == std::string::npos) {
      // A word, not a file: the flag of that name.
      group.value = ConfigTable{{*node->text(), ConfigNode{true, node->place, ""}}};
    } else if (node->text() != nullptr) {
      group.value = ConfigTable{{"extends", *node}};
    } else {
      fault(invalid(fmt::format("{}{} = {} must be a table, or the name of a file that holds it", frame.path, spec.name,
                                toml_text(*node)))
                .at(node->place.label));
    }
  }
  push(std::move(group), path);
}

void ConfigReader::end_group() { frames_.pop_back(); }

std::optional<size_t> ConfigReader::begin_list(const FieldSpec& spec, size_t size) {
  Frame& frame = frames_.back();
  frame.seen.insert(spec.name);
  lists_.emplace_back();
  list_paths_.push_back(frame.path + spec.name);
  ConfigNode* node = find_key(*frame.node.table(), spec.name);
  if (node == nullptr) return std::nullopt;
  const ConfigArray* array = std::get_if<ConfigArray>(&node->value);
  for (const ConfigNode& item : array != nullptr ? *array : ConfigArray{*node}) {
    if (item.table() != nullptr) {
      lists_.back().push_back(item);
    } else {
      fault(invalid(fmt::format("{}{} must hold tables, [[{}{}]]; got {}", frame.path, spec.name, frame.path, spec.name,
                                toml_text(item)))
                .at(item.place.label));
    }
  }
  return lists_.back().size();
}

bool ConfigReader::begin_item(size_t index) {
  if (index >= lists_.back().size()) return false;  // the default's items, which the file leaves alone
  push(lists_.back()[index], fmt::format("{}[{}].", list_paths_.back(), index));
  return true;
}

void ConfigReader::end_item() { frames_.pop_back(); }

void ConfigReader::end_list() {
  lists_.pop_back();
  list_paths_.pop_back();
}

void ConfigReader::report_unknown_keys(const Frame& frame) {
  const std::vector<std::string> here(frame.seen.begin(), frame.seen.end());
  for (const ConfigEntry& entry : *frame.node.table()) {
    if (frame.seen.contains(entry.key)) continue;
    if (faults_.size() >= kMaxFaults)
      return fault(invalid("more unknown keys follow; is this the right file?").at(entry.node.place.label));
    std::string advice;
    if (const std::string nearest = nearest_name(entry.key, here); !nearest.empty()) {
      advice = fmt::format("; did you mean {}{}?", frame.path, nearest);
    } else {
      // The right key in the wrong table.
      for (const std::string& path : known_) {
        if (path.ends_with("." + entry.key) || path == entry.key) {
          advice = fmt::format("; did you mean {}?", path);
          break;
        }
      }
    }
    if (advice.empty()) {
      std::vector<std::string> names;
      std::copy_if(here.begin(), here.end(), std::back_inserter(names), [](const auto& n) { return n != "extends"; });
      advice = fmt::format("; known here: {}", fmt::join(names, ", "));
    }
    fault(invalid(fmt::format("{}{}: unknown key{}", frame.path, entry.key, advice)).at(entry.node.place.label));
  }
}

FieldChecker* ConfigReader::finish_fields() {
  const Frame& frame = frames_.back();
  report_unknown_keys(frame);
  return faults_.size() == frame.faults_before ? checker_.get() : nullptr;
}

Status ConfigReader::finish() {
  CHECK(frames_.size() == 1 && lists_.empty(), "groups and lists must be closed");
  if (faults_.empty()) return ok_status();
  if (faults_.size() == 1) return faults_.front();
  std::string message = fmt::format("{} faults in the configuration:", faults_.size());
  for (const Status& status : faults_) message += "\n  " + status.message();
  return {faults_.front().code(), std::move(message)};
}

Status apply_overrides(ConfigNode& root, std::span<const std::string> overrides) {
  std::vector<std::string> faults;
  for (const std::string& assignment : overrides) {
    if (Status status = apply_override(root, assignment); !status.ok()) faults.push_back(status.message());
  }
  return faults.empty() ? ok_status() : invalid(fmt::format("{}", fmt::join(faults, "\n  ")));
}

Result<ConfigNode> load_config_tree(FileSystem& files, const std::string& path,
                                    std::span<const std::string> overrides) {
  ASSIGN_OR_RETURN(ConfigNode root, load_tree(files, path));
  RETURN_IF_ERROR(apply_overrides(root, overrides));
  return root;
}

}  // namespace colossus
