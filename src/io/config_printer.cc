#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "io/config.h"

namespace colossus {
namespace {

std::string bounds_text(const FieldOptions& options) {
  std::vector<std::string> parts;
  if (std::isfinite(options.min)) parts.push_back(fmt::format("at least {}", options.min));
  if (std::isfinite(options.above)) parts.push_back(fmt::format("above {}", options.above));
  if (std::isfinite(options.max)) parts.push_back(fmt::format("at most {}", options.max));
  return fmt::format("{}", fmt::join(parts, ", "));
}

// Breaks at blanks so that no line, indented by `indent` columns but for the first, is wider than `width`.
std::string wrapped(const std::string& text, size_t indent, size_t width) {
  std::string result;
  size_t column = indent;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const size_t length = end - begin;
    if (column > indent && column + 1 + length > width) {
      result += '\n' + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      result += ' ';
      ++column;
    }
    result.append(text, begin, length);
    column += length;
    begin = end + 1;
  }
  return result;
}

}  // namespace

ConfigPrinter::ConfigPrinter(PrintOptions options) : options_(options) { frames_.emplace_back(); }

std::string ConfigPrinter::frame_text(const Frame& frame) {
  std::string text;
  // A table with sub-tables only needs no header of its own; an empty one must say that it is there.
  const bool header = !frame.header.empty() && (!frame.own.empty() || frame.children.empty());
  if (header) text += "\n" + frame.header + "\n";
  return text + frame.own + frame.children;
}

std::string ConfigPrinter::text() const {
  std::string text = frame_text(frames_.front());
  text.erase(0, text.find_first_not_of('\n'));
  return text;
}

void ConfigPrinter::visit(const FieldSpec& spec, FieldAccess& access) {
  std::string& own = frames_.back().own;
  if (options_.comments) {
    const std::string unit = *spec.options.unit == 0 ? "" : fmt::format(" [{}]", spec.options.unit);
    const std::string bounds = bounds_text(spec.options);
    own += fmt::format("# {}{}{}\n", spec.help, unit, bounds.empty() ? "" : ", " + bounds);
  }
  const auto value = access.write();
  own += fmt::format("{} = {}\n", spec.name, value ? toml_text(*value) : "\"none\"");
}

void ConfigPrinter::push(const char* name, const char* brackets) {
  const std::string& outer = frames_.back().path;
  const std::string path = outer.empty() ? name : outer + "." + name;
  const std::string header = *brackets == '[' ? fmt::format("[[{}]]", path) : fmt::format("[{}]", path);
  frames_.push_back({header, path, "", ""});
}

void ConfigPrinter::begin_group(const FieldSpec& spec) {
  push(spec.name, "");
  if (options_.comments) frames_.back().header = fmt::format("# {}\n{}", spec.help, frames_.back().header);
}

void ConfigPrinter::end_group() {
  const std::string text = frame_text(frames_.back());
  frames_.pop_back();
  frames_.back().children += text;
}

std::optional<size_t> ConfigPrinter::begin_list(const FieldSpec& spec, size_t size) {
  lists_.push_back(spec.name);
  // No [[table]] at all would read back as the default; an empty array says empty.
  if (size == 0) frames_.back().own += fmt::format("{} = []\n", spec.name);
  return std::nullopt;
}

bool ConfigPrinter::begin_item(size_t index) {
  push(lists_.back(), "[");
  // Headers of items are never dropped: each starts a new element.
  Frame& frame = frames_.back();
  frame.own = frame.header + "\n";
  frame.header.clear();
  return true;
}

void ConfigPrinter::end_item() {
  const std::string text = "\n" + frame_text(frames_.back());
  frames_.pop_back();
  frames_.back().children += text;
}

void ConfigPrinter::end_list() { lists_.pop_back(); }

void ConfigDescriber::visit(const FieldSpec& spec, FieldAccess& access) {
  const auto value = access.write();
  fields_.push_back({prefixes_.back() + spec.name, access.type_name(), value ? toml_text(*value) : "none",
                     bounds_text(spec.options), spec.options.unit, spec.help});
}

void ConfigDescriber::begin_group(const FieldSpec& spec) {
  fields_.push_back({prefixes_.back() + spec.name, "group", "", "", "", spec.help});
  prefixes_.push_back(prefixes_.back() + spec.name + ".");
}

void ConfigDescriber::end_group() { prefixes_.pop_back(); }

std::optional<size_t> ConfigDescriber::begin_list(const FieldSpec& spec, size_t size) {
  fields_.push_back({prefixes_.back() + spec.name, "list", "", "", "", spec.help});
  prefixes_.push_back(prefixes_.back() + spec.name + "[].");
  return std::nullopt;
}

bool ConfigDescriber::begin_item(size_t index) { return false; }

std::vector<std::string> paths_of(std::span<const FieldHelp> fields) {
  std::vector<std::string> paths;
  for (const FieldHelp& field : fields) paths.push_back(field.path);
  return paths;
}

std::string format_field_help(std::span<const FieldHelp> fields, int width) {
  constexpr size_t kIndent = 6;
  std::string text;
  for (const FieldHelp& field : fields) {
    const bool group = field.type == "group" || field.type == "list";
    text += group ? fmt::format("\n  {}: {}\n", field.path, field.help)
                  : fmt::format("  {} = {}{}\n", field.path, field.standard,
                                field.unit.empty() ? "" : " [" + field.unit + "]");
    if (group) continue;
    const std::string bounds = field.bounds.empty() ? "" : "; " + field.bounds;
    text += std::string(kIndent, ' ') +
            wrapped(fmt::format("{} ({}{})", field.help, field.type, bounds), kIndent,
                    static_cast<size_t>(std::max(width, 40))) +
            "\n";
  }
  return text;
}

}  // namespace colossus
