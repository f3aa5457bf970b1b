#include "io/config_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

// The library's own switches. TOML_EXCEPTIONS 0: parse errors as values. Version 3.3 takes for granted that a key
// begins with a key's character, which broken text can make untrue: an abort, or undefined behaviour with NDEBUG.
// Without the assumption it goes on to the branch that reports the error.
#define TOML_EXCEPTIONS 0
#define TOML_MAX_NESTED_VALUES 16
#include <toml++/impl/preprocessor.h>
#undef TOML_ASSERT_ASSUME
#define TOML_ASSERT_ASSUME(condition) static_assert(true)
#include <toml++/toml.h>

namespace colossus {
namespace {

std::string directory_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

// Tables that nest. The library bounds how deep values do, but a dotted key makes a table for each of its parts, which
// are taken down by recursion: with the library's own bound these two keep the stack to some thousand levels.
constexpr int kMaxDotsOfALine = 250;  // commas aside; where they are text, nobody has so many either
constexpr int kMaxDepth = 64;         // of what is then read

Status check_keys(std::string_view text, const std::string& path) {
  int line = 1, dots = 0;
  for (const char c : text) {
    line += c == '\n';
    dots = c == '\n' || c == ',' ? 0 : dots + (c == '.');
    if (dots > kMaxDotsOfALine)
      return invalid(fmt::format("a key of more than {} parts", kMaxDotsOfALine)).at(fmt::format("{}:{}", path, line));
  }
  return ok_status();
}

struct Source {
  std::string path;
  std::string directory;
};

Result<ConfigNode> convert(const toml::node& node, const Source& source, int depth = 0) {
  ConfigNode result;
  result.place = {fmt::format("{}:{}", source.path, node.source().begin.line), source.directory};
  if (depth > kMaxDepth)
    return invalid(fmt::format("tables nested more than {} deep", kMaxDepth)).at(result.place.label);
  if (const auto* table = node.as_table()) {
    ConfigTable entries;
    for (const auto& [key, child] : *table) {
      ASSIGN_OR_RETURN(ConfigNode converted, convert(child, source, depth + 1));
      entries.push_back({std::string(key.str()), std::move(converted)});
    }
    result.value = std::move(entries);
  } else if (const auto* array = node.as_array()) {
    ConfigArray values;
    for (const auto& child : *array) {
      ASSIGN_OR_RETURN(ConfigNode converted, convert(child, source, depth + 1));
      values.push_back(std::move(converted));
    }
    result.value = std::move(values);
  } else if (const auto* boolean = node.as_boolean()) {
    result.value = boolean->get();
  } else if (const auto* integer = node.as_integer()) {
    result.value = integer->get();
  } else if (const auto* real = node.as_floating_point()) {
    result.value = real->get();
  } else if (const auto* text = node.as_string()) {
    result.value = text->get();
  } else {
    return invalid("dates and times are not settings; write the value as a string").at(result.place.label);
  }
  return result;
}

void set_places(ConfigNode& node, const ConfigPlace& place) {
  node.place = place;
  if (ConfigTable* table = node.table()) {
    for (ConfigEntry& entry : *table) set_places(entry.node, place);
  } else if (auto* array = std::get_if<ConfigArray>(&node.value)) {
    for (ConfigNode& child : *array) set_places(child, place);
  }
}

ConfigNode parse_override_value(const std::string& text, const ConfigPlace& place) {
  ConfigNode node;
  node.value = text;
  // One line only: a line break could smuggle in a second key.
  if (text.find_first_of("\r\n") == std::string::npos) {
    if (auto parsed = parse_toml("v = " + text, "override"); parsed.ok() && parsed->table()->size() == 1) {
      node = std::move(parsed->table()->front().node);
    }
  }
  set_places(node, place);
  node.typed = text;
  return node;
}

std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += {'\\', c};
    } else if (c == '\n') {
      result += "\\n";
    } else if (c == '\t') {
      result += "\\t";
    } else if (byte < 0x20 || byte == 0x7f) {
      result += fmt::format("\\u{:04X}", byte);
    } else {
      result += c;
    }
  }
  return result + '"';
}

std::string real_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", value);  // the shortest that reads back to the same double
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

bool bare_key(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

// Damerau-Levenshtein without overlapping edits.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), previous(b.size() + 1), row(b.size() + 1);
  std::iota(previous.begin(), previous.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, previous);
    std::swap(previous, row);
  }
  return previous[b.size()];
}

}  // namespace

ConfigNode* find_key(ConfigTable& table, std::string_view key) {
  for (ConfigEntry& entry : table) {
    if (entry.key == key) return &entry.node;
  }
  return nullptr;
}

Result<ConfigNode> parse_toml(std::string_view text, const std::string& path) {
  RETURN_IF_ERROR(check_keys(text, path));
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    return invalid(fmt::format("not valid TOML: {}", parsed.error().description()))
        .at(fmt::format("{}:{}", path, parsed.error().source().begin.line));
  }
  return convert(parsed.table(), {path, directory_of(path)});
}

Status apply_override(ConfigNode& root, const std::string& assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    return invalid(fmt::format("expected key=value, such as train.steps=2000; got \"{}\"", assignment)).at("--set");
  }
  const std::string path = assignment.substr(0, equals);
  const ConfigPlace place = {"--set " + path, ""};
  if (std::count(path.begin(), path.end(), '.') >= kMaxDepth) {
    return invalid(fmt::format("more than {} groups inside each other", kMaxDepth)).at("--set");
  }
  ConfigNode* node = &root;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    const std::string key = path.substr(begin, end - begin);
    if (!bare_key(key)) return invalid(fmt::format("\"{}\" is not a key", key)).at(place.label);
    if (const std::string* file = node->text()) {
      ConfigNode extends = {*file, node->place, ""};
      node->value = ConfigTable{{"extends", std::move(extends)}};
    }
    ConfigTable* table = node->table();
    if (table == nullptr) {
      return invalid(fmt::format("\"{}\" is a value ({}), not a group", path.substr(0, begin - 1), toml_text(*node)))
          .at(place.label);
    }
    ConfigNode* child = find_key(*table, key);
    if (child == nullptr) {
      table->push_back({key, ConfigNode{ConfigTable{}, place, ""}});
      child = &table->back().node;
    }
    node = child;
    begin = end + 1;
  }
  *node = parse_override_value(assignment.substr(equals + 1), place);
  return ok_status();
}

void merge_tables(ConfigTable& base, ConfigTable over) {
  for (ConfigEntry& entry : over) {
    ConfigNode* old = find_key(base, entry.key);
    if (old == nullptr) {
      base.push_back(std::move(entry));
      continue;
    }
    ConfigTable* table = entry.node.table();
    if (table != nullptr && old->text() != nullptr && find_key(*table, "extends") == nullptr) {
      // The base names a file for this group, the overlay changes single keys of it.
      table->insert(table->begin(), {"extends", ConfigNode{*old->text(), old->place, ""}});
      *old = std::move(entry.node);
    } else if (table != nullptr && old->table() != nullptr) {
      merge_tables(*old->table(), std::move(*table));
    } else {
      *old = std::move(entry.node);
    }
  }
}

std::string toml_text(const ConfigNode& node) {
  if (const auto* boolean = std::get_if<bool>(&node.value)) return *boolean ? "true" : "false";
  if (const auto* integer = std::get_if<int64_t>(&node.value)) return fmt::format("{}", *integer);
  if (const auto* real = std::get_if<double>(&node.value)) return real_text(*real);
  if (const std::string* text = node.text()) return quoted(*text);
  std::string result;
  if (const ConfigTable* table = node.table()) {
    for (const ConfigEntry& entry : *table) {
      const std::string key = bare_key(entry.key) ? entry.key : quoted(entry.key);
      result += fmt::format("{}{} = {}", result.empty() ? "" : ", ", key, toml_text(entry.node));
    }
    return "{" + result + "}";
  }
  for (const ConfigNode& child : std::get<ConfigArray>(node.value)) {
    result += fmt::format("{}{}", result.empty() ? "" : ", ", toml_text(child));
  }
  return "[" + result + "]";
}

std::string nearest_name(std::string_view name, std::span<const std::string> names) {
  // Nobody mistypes so much; and looking would take time in proportion to it, for each name.
  constexpr size_t kMaxNameBytes = 200;
  if (name.size() > kMaxNameBytes) return "";
  std::string best;
  size_t best_distance = std::max<size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : names) {
    // Names of one or two letters are all near each other.
    const size_t limit = std::min(best_distance, std::max(candidate.size(), size_t{1}));
    if (const size_t distance = edit_distance(name, candidate); distance < limit) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace colossus
