// Configuration structs (fields.h) from TOML files and overrides, and back to text.
//
//   ASSIGN_OR_RETURN(RunConfig run, load_config<RunConfig>(local_files(), "runs/demo.toml", {{"train.steps=2000"}}));
//
// Every fault is found before any is reported; a message has one line per fault:
//   [runs/demo.toml:12] model.num_kv_heads = 7 does not divide num_heads = 48; try 6 or 8
//   [--set train.step] unknown key; did you mean train.steps?
#pragma once

#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "io/config_tree.h"
#include "io/fields.h"
#include "io/file_system.h"

namespace colossus {

// One line of help.
struct FieldHelp {
  std::string path;      // "train.learning_rate"; "sources[].weight" inside a list; "model" for a group itself
  std::string type;      // "number"; "group" for a group
  std::string standard;  // the default as TOML; "none"
  std::string bounds;    // "above 0, at most 1"; "" when free
  std::string unit;
  std::string help;
};

// Text for --help: aligned, wrapped to `width` columns.
std::string format_field_help(std::span<const FieldHelp> fields, int width);

// `comments`: the help of each field above it.
struct PrintOptions {
  bool comments = false;
};

// Visitors behind the functions at the end.
class ConfigReader final : public FieldVisitor {
 public:
  // `files` may be null: then a group's file or "extends" is a fault. `known`: every path, for suggestions.
  ConfigReader(FileSystem* files, ConfigNode root, std::vector<std::string> known);
  Status finish();  // all faults as one status

 private:
  struct Frame {
    ConfigNode node;                            // a table, its "extends" resolved
    std::string path;                           // "train." or ""
    std::set<std::string> seen;                 // keys the struct has
    std::map<std::string, std::string> values;  // as they are now, for check_fields
    size_t faults_before = 0;
  };
  class Checker;

  void visit(const FieldSpec& spec, FieldAccess& access) override;
  void begin_group(const FieldSpec& spec) override;
  void end_group() override;
  std::optional<size_t> begin_list(const FieldSpec& spec, size_t size) override;
  bool begin_item(size_t index) override;
  void end_item() override;
  void end_list() override;
  FieldChecker* finish_fields() override;

  void push(ConfigNode node, std::string path);
  void report_unknown_keys(const Frame& frame);
  // Loads what the table extends and lays the table over it.
  Status resolve(ConfigNode& node, std::vector<std::string>& chain);
  void fault(Status status) { faults_.push_back(std::move(status)); }

  FileSystem* files_;
  std::vector<std::string> known_;
  std::vector<Frame> frames_;
  std::vector<std::vector<ConfigNode>> lists_;  // the tables of the lists being read, outermost first
  std::vector<std::string> list_paths_;
  std::vector<Status> faults_;
  std::unique_ptr<FieldChecker> checker_;
};

class ConfigPrinter final : public FieldVisitor {
 public:
  explicit ConfigPrinter(PrintOptions options);
  std::string text() const;

 private:
  // TOML wants a table's own values before its sub-tables, whatever order the struct has.
  struct Frame {
    std::string header;  // "[train]", "[[sources]]" or ""
    std::string path;    // "train" or ""
    std::string own;
    std::string children;
  };

  void visit(const FieldSpec& spec, FieldAccess& access) override;
  void begin_group(const FieldSpec& spec) override;
  void end_group() override;
  std::optional<size_t> begin_list(const FieldSpec& spec, size_t size) override;
  bool begin_item(size_t index) override;
  void end_item() override;
  void end_list() override;

  void push(const char* name, const char* brackets);
  static std::string frame_text(const Frame& frame);

  PrintOptions options_;
  std::vector<Frame> frames_;
  std::vector<const char*> lists_;
};

class ConfigDescriber final : public FieldVisitor {
 public:
  const std::vector<FieldHelp>& fields() const { return fields_; }

 private:
  void visit(const FieldSpec& spec, FieldAccess& access) override;
  void begin_group(const FieldSpec& spec) override;
  void end_group() override;
  std::optional<size_t> begin_list(const FieldSpec& spec, size_t size) override;
  bool begin_item(size_t index) override;
  bool begin_example() override { return true; }
  void end_item() override {}
  void end_list() override { end_group(); }

  std::vector<std::string> prefixes_ = {""};
  std::vector<FieldHelp> fields_;
};

// Reads `path` and applies the overrides in order; their faults are all in the status.
Result<ConfigNode> load_config_tree(FileSystem& files, const std::string& path, std::span<const std::string> overrides);
Status apply_overrides(ConfigNode& root, std::span<const std::string> overrides);
std::vector<std::string> paths_of(std::span<const FieldHelp> fields);

// Every field with its default.
template <class C>
std::vector<FieldHelp> describe_config(C defaults = {}) {
  ConfigDescriber describer;
  describer.visit_struct(defaults);
  return describer.fields();
}

template <class C>
Result<C> read_config(FileSystem* files, ConfigNode tree, C config = {}) {
  ConfigReader reader(files, std::move(tree), paths_of(describe_config(config)));
  reader.visit_struct(config);
  RETURN_IF_ERROR(reader.finish());
  return config;
}

// `defaults`: what fields have that neither the file nor an override names.
template <class C>
Result<C> load_config(FileSystem& files, const std::string& path, std::span<const std::string> overrides = {},
                      C defaults = {}) {
  ASSIGN_OR_RETURN(ConfigNode tree, load_config_tree(files, path, overrides));
  return read_config(&files, std::move(tree), std::move(defaults));
}

// The same from text alone; it may name no other file. `name` is for messages.
template <class C>
Result<C> parse_config(std::string_view text, const std::string& name, std::span<const std::string> overrides = {},
                       C defaults = {}) {
  ASSIGN_OR_RETURN(ConfigNode tree, parse_toml(text, name));
  RETURN_IF_ERROR(apply_overrides(tree, overrides));
  return read_config(nullptr, std::move(tree), std::move(defaults));
}

// TOML that parse_config reads back to an equal struct. Optionals without a value are written as "none".
template <class C>
std::string print_config(C config, PrintOptions options = {}) {
  ConfigPrinter printer(options);
  printer.visit_struct(config);
  return printer.text();
}

}  // namespace colossus
