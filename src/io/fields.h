// One description of a configuration struct, from which come its defaults, TOML parsing, `--set`, help and printing:
//
//   enum class Optimizer { kAdamW, kMuon };
//   inline auto field_choices(Optimizer) {
//     return std::to_array<FieldChoice<Optimizer>>({{Optimizer::kAdamW, "adamw"}, {Optimizer::kMuon, "muon"}});
//   }
//   struct TrainConfig {
//     int64_t steps = 2000;
//     double learning_rate = 3e-4;
//     std::optional<double> clip_norm = 1.0;       // "none" in the file clears it
//     Optimizer optimizer = Optimizer::kAdamW;
//     ModelConfig model;                           // [model], or model = "file.toml" beside this file
//     std::vector<SourceConfig> sources;           // [[sources]]
//     void visit_fields(FieldVisitor& v) {
//       v.field("steps", steps, "optimizer steps", {.unit = "steps", .min = 1});
//       v.field("learning_rate", learning_rate, "peak learning rate", {.above = 0});
//       v.field("clip_norm", clip_norm, "largest norm of the gradient", {.above = 0});
//       v.field("optimizer", optimizer, "rule of the update");
//       v.group("model", model, "the network");
//       v.list("sources", sources, "texts and their weights");
//     }
//     // Optional: what spans fields. Runs only when the struct's own values were read without a fault.
//     void check_fields(FieldChecker& c) const {
//       c.require(steps > 10 || learning_rate < 1, "learning_rate", "is too high for so few steps; try 3e-4");
//     }
//   };
//
// "extends" is taken: in any table it names a file whose keys this table's keys are laid over.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "io/config_tree.h"

namespace colossus {

struct FieldOptions {
  const char* unit = "";  // "steps", "tokens", "bytes", "seconds", ...
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  double above = -std::numeric_limits<double>::infinity();  // exclusive lower bound
};

struct FieldSpec {
  const char* name;
  const char* help;
  FieldOptions options = {};
};

template <class E>
struct FieldChoice {
  E value;
  const char* name;
};

// What a type is called, how it is written, how it is read. read() returns "" or what was needed ("a whole number").
template <class T>
struct FieldType;

namespace internal {
std::string read_bool(const ConfigNode& node, bool& value);
std::string read_integer(const ConfigNode& node, int64_t min, int64_t max, int64_t& value);
std::string read_real(const ConfigNode& node, double& value);
std::string read_string(const ConfigNode& node, std::string& value);
std::string read_choice(const ConfigNode& node, const std::vector<std::string>& names, size_t& index);
}  // namespace internal

template <>
struct FieldType<bool> {
  static std::string name() { return "true|false"; }
  static std::optional<ConfigNode> write(bool value) { return ConfigNode{value, {}, ""}; }
  static std::string read(const ConfigNode& node, bool& value) { return internal::read_bool(node, value); }
};

template <std::integral T>
  requires(!std::same_as<T, bool>)
struct FieldType<T> {
  static_assert(sizeof(T) < 8 || std::is_signed_v<T>, "TOML's integers are int64");
  static std::string name() { return "integer"; }
  static std::optional<ConfigNode> write(T value) { return ConfigNode{int64_t{value}, {}, ""}; }
  static std::string read(const ConfigNode& node, T& value) {
    int64_t wide = 0;
    std::string needed =
        internal::read_integer(node, std::numeric_limits<T>::min(), std::numeric_limits<T>::max(), wide);
    if (needed.empty()) value = static_cast<T>(wide);
    return needed;
  }
};

template <std::floating_point T>
struct FieldType<T> {
  static std::string name() { return "number"; }
  static std::optional<ConfigNode> write(T value) { return ConfigNode{double{value}, {}, ""}; }
  static std::string read(const ConfigNode& node, T& value) {
    double wide = 0;
    std::string needed = internal::read_real(node, wide);
    if (needed.empty()) value = static_cast<T>(wide);
    return needed;
  }
};

template <>
struct FieldType<std::string> {
  static std::string name() { return "string"; }
  static std::optional<ConfigNode> write(const std::string& value) { return ConfigNode{value, {}, ""}; }
  static std::string read(const ConfigNode& node, std::string& value) { return internal::read_string(node, value); }
};

template <class E>
  requires std::is_enum_v<E>
struct FieldType<E> {
  static std::string name() {
    std::string names;
    for (const auto& choice : field_choices(E{})) names += (names.empty() ? "" : "|") + std::string(choice.name);
    return names;
  }
  static std::optional<ConfigNode> write(E value) {
    for (const auto& choice : field_choices(value)) {
      if (choice.value == value) return ConfigNode{std::string(choice.name), {}, ""};
    }
    CHECK(false, "an enum value has no name in field_choices");
    return {};
  }
  static std::string read(const ConfigNode& node, E& value) {
    std::vector<std::string> names;
    for (const auto& choice : field_choices(E{})) names.emplace_back(choice.name);
    size_t index = 0;
    std::string needed = internal::read_choice(node, names, index);
    if (needed.empty()) value = field_choices(E{})[index].value;
    return needed;
  }
};

// A list; a single value is a list of one.
template <class T>
struct FieldType<std::vector<T>> {
  static std::string name() { return "list of " + FieldType<T>::name(); }
  static std::optional<ConfigNode> write(const std::vector<T>& values) {
    ConfigArray array;
    for (const T& value : values) array.push_back(*FieldType<T>::write(value));
    return ConfigNode{std::move(array), {}, ""};
  }
  static std::string read(const ConfigNode& node, std::vector<T>& values) {
    const ConfigArray one = std::holds_alternative<ConfigArray>(node.value) ? ConfigArray{} : ConfigArray{node};
    const ConfigArray& array = one.empty() ? std::get<ConfigArray>(node.value) : one;
    values.clear();
    for (const ConfigNode& child : array) {
      T value{};
      std::string needed = FieldType<T>::read(child, value);
      if (!needed.empty()) return "a list, each element " + needed;
      values.push_back(std::move(value));
    }
    return "";
  }
};

template <class T>
struct FieldType<std::optional<T>> {
  static std::string name() { return FieldType<T>::name() + "|none"; }
  static std::optional<ConfigNode> write(const std::optional<T>& value) {
    return value ? FieldType<T>::write(*value) : std::nullopt;
  }
  static std::string read(const ConfigNode& node, std::optional<T>& value) {
    if (const std::string* text = node.text(); text != nullptr && *text == "none") {
      value.reset();
      return "";
    }
    T inner{};
    std::string needed = FieldType<T>::read(node, inner);
    if (!needed.empty()) return needed + ", or \"none\"";
    value = std::move(inner);
    return "";
  }
};

// A field without its type, for visitors.
class FieldAccess {
 public:
  virtual ~FieldAccess() = default;
  virtual std::string type_name() const = 0;
  virtual std::optional<ConfigNode> write() const = 0;  // nothing: an optional without a value
  virtual std::string read(const ConfigNode& node) = 0;
};

// Collects what spans fields (see check_fields above).
class FieldChecker {
 public:
  virtual ~FieldChecker() = default;
  // When `holds` is false, the fault is "[place] path.field = value <message>". `field` may lie deeper:
  // "net.num_heads", "sources[1]"; the place is then that of the last of the way that this file wrote.
  virtual void require(bool holds, const char* field, const std::string& message) = 0;
};

class FieldVisitor {
 public:
  virtual ~FieldVisitor() = default;

  template <class T>
  void field(const char* name, T& value, const char* help, FieldOptions options = {}) {
    struct Access final : FieldAccess {
      explicit Access(T& value) : value_(value) {}
      std::string type_name() const override { return FieldType<T>::name(); }
      std::optional<ConfigNode> write() const override { return FieldType<T>::write(value_); }
      std::string read(const ConfigNode& node) override { return FieldType<T>::read(node, value_); }
      T& value_;
    };
    Access access(value);
    visit({name, help, options}, access);
  }

  template <class S>
  void group(const char* name, S& fields, const char* help) {
    begin_group({name, help});
    visit_struct(fields);
    end_group();
  }

  // A list of structs: [[name]] tables. A file that has any replaces all of the default's.
  template <class S>
  void list(const char* name, std::vector<S>& items, const char* help) {
    S example{};
    const std::optional<size_t> count = begin_list({name, help}, items.size());
    if (count) items.assign(*count, S{});
    for (size_t i = 0; i < items.size(); ++i) {
      if (!begin_item(i)) continue;
      visit_struct(items[i]);
      end_item();
    }
    if (begin_example()) {
      visit_struct(example);
      end_item();
    }
    end_list();
  }

  template <class S>
  void visit_struct(S& fields) {
    fields.visit_fields(*this);
    FieldChecker* checker = finish_fields();
    if constexpr (requires(const S& s, FieldChecker& c) { s.check_fields(c); }) {
      if (checker != nullptr) std::as_const(fields).check_fields(*checker);
    }
  }

 protected:
  virtual void visit(const FieldSpec& spec, FieldAccess& access) = 0;
  virtual void begin_group(const FieldSpec& spec) = 0;
  virtual void end_group() = 0;
  // The number of items to make before they are visited; nothing leaves the list as it is.
  virtual std::optional<size_t> begin_list(const FieldSpec& spec, size_t size) = 0;
  virtual bool begin_item(size_t index) = 0;      // false: do not visit it
  virtual bool begin_example() { return false; }  // true: visit one default item, for help
  virtual void end_item() = 0;
  virtual void end_list() = 0;
  // All fields of the struct were visited; the checker to run check_fields with, or null.
  virtual FieldChecker* finish_fields() { return nullptr; }
};

}  // namespace colossus
