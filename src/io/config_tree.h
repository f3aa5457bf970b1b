// A configuration as it was written: nested tables of values, each knowing the place it came from. What the keys mean
// is said by fields.h; config.h brings the two together.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"

namespace colossus {

struct ConfigNode;
struct ConfigEntry;
using ConfigArray = std::vector<ConfigNode>;
using ConfigTable = std::vector<ConfigEntry>;  // few keys: found by walking

// Where a value was written.
struct ConfigPlace {
  std::string label;      // "runs/demo.toml:12" or "--set train.steps"
  std::string directory;  // files the value names (extends, a group's file) are relative to it; "" is the current one
};

struct ConfigNode {
  std::variant<ConfigTable, ConfigArray, bool, int64_t, double, std::string> value;
  ConfigPlace place;
  // An override's value as typed. Shells drop quotes, so `--set run.name=007` must still be able to be a string.
  std::string typed;

  const ConfigTable* table() const { return std::get_if<ConfigTable>(&value); }
  ConfigTable* table() { return std::get_if<ConfigTable>(&value); }
  const std::string* text() const { return std::get_if<std::string>(&value); }
};

struct ConfigEntry {
  std::string key;
  ConfigNode node;
};

// The entry of `key`, or null.
ConfigNode* find_key(ConfigTable& table, std::string_view key);

// TOML to a tree; `path` is only for places and messages. Dates and times are refused: no setting here is one.
Result<ConfigNode> parse_toml(std::string_view text, const std::string& path);

// Puts "a.b.c=value" into the tree, making tables on the way. The value is read as TOML, or else as the bare string.
// A string on the way is the name of a group's file, and becomes a table that extends it.
Status apply_override(ConfigNode& root, const std::string& assignment);

// Lays `over` on `base`, key by key; tables merge, all else is replaced.
void merge_tables(ConfigTable& base, ConfigTable over);

// A value on one line as TOML writes it: 7, 0.5, "text", [1, 2].
std::string toml_text(const ConfigNode& node);

// The name most like `name` (insertions, deletions, replacements, swaps of neighbours), or "" when none is near.
std::string nearest_name(std::string_view name, std::span<const std::string> names);

}  // namespace colossus
