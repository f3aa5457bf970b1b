#include "data/source_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

namespace colossus {
namespace {

constexpr int kMaxDepth = 200;

bool has_wildcard(std::string_view text) { return text.find_first_of("*?[") != std::string_view::npos; }

std::string join(const std::string& directory, const std::string& name) {
  if (directory.empty()) return name;
  return directory.back() == '/' ? directory + name : directory + "/" + name;
}

// Matches one character against the set that begins at pattern[at] == '['. Sets `next` behind it; an unclosed bracket
// stands for itself.
bool matches_set(char c, std::string_view pattern, size_t at, size_t* next) {
  size_t i = at + 1;
  const bool negated = i < pattern.size() && (pattern[i] == '!' || pattern[i] == '^');
  if (negated) ++i;
  const size_t close = pattern.find(']', i + 1);  // a bracket right at the start belongs to the set
  if (close == std::string_view::npos) {
    *next = at + 1;
    return c == '[';
  }
  bool found = false;
  for (; i < close; ++i) {
    if (i + 2 < close && pattern[i + 1] == '-') {
      found = found || (pattern[i] <= c && c <= pattern[i + 2]);
      i += 2;
    } else {
      found = found || pattern[i] == c;
    }
  }
  *next = close + 1;
  return found != negated;
}

class Finder {
 public:
  Finder(FileSystem& files, std::vector<SourceFile>& found) : files_(files), found_(found) {}

  Status add_input(const std::string& input) {
    const size_t before = found_.size() + num_repeated_;
    const auto entry = files_.stat(input);
    if (entry.ok()) {
      RETURN_IF_ERROR(add(input, *entry, 0));
    } else if (!has_wildcard(input)) {
      return entry.status();
    } else {
      RETURN_IF_ERROR(expand_input(input));
    }
    if (found_.size() + num_repeated_ == before) return not_found(fmt::format("{} gives no file", input));
    return ok_status();
  }

 private:
  Status add(const std::string& path, const FileEntry& entry, int depth) {
    if (entry.is_directory) return add_directory(path, depth);
    if (seen_.insert(path).second)
      found_.push_back({.path = path, .size_bytes = entry.size_bytes});
    else
      ++num_repeated_;
    return ok_status();
  }

  Status add_directory(const std::string& path, int depth) {
    if (depth > kMaxDepth) return invalid(fmt::format("{} is more than {} directories deep", path, kMaxDepth));
    ASSIGN_OR_RETURN(const auto entries, files_.list(path));
    for (const FileEntry& entry : entries) {
      if (entry.name.front() == '.' || (entry.is_directory && entry.is_link)) continue;
      // A link to nothing has no size and no target to open.
      if (entry.is_link && !files_.stat(join(path, entry.name)).ok()) continue;
      RETURN_IF_ERROR(add(join(path, entry.name), entry, depth + 1));
    }
    return ok_status();
  }

  Status expand_input(const std::string& pattern) {
    std::vector<std::string> components;
    for (size_t at = 0; at < pattern.size();) {
      const size_t slash = std::min(pattern.find('/', at), pattern.size());
      if (slash > at) components.push_back(pattern.substr(at, slash - at));
      at = slash + 1;
    }
    return expand(pattern.front() == '/' ? "/" : "", components, 0);
  }

  // Files below `directory` that match components[at..].
  Status expand(const std::string& directory, const std::vector<std::string>& components, size_t at) {
    const std::string& component = components[at];
    const bool last = at + 1 == components.size();
    if (!has_wildcard(component)) {
      const std::string path = join(directory, component);
      const auto entry = files_.stat(path);
      if (!entry.ok()) return ok_status();  // matches nothing here
      if (last) return add(path, *entry, 0);
      return entry->is_directory ? expand(path, components, at + 1) : ok_status();
    }
    if (component == "**" && last) return add_directory(directory, 0);
    if (component == "**") RETURN_IF_ERROR(expand(directory, components, at + 1));
    ASSIGN_OR_RETURN(const auto entries, files_.list(directory));
    for (const FileEntry& entry : entries) {
      const std::string path = join(directory, entry.name);
      if (component == "**") {
        if (!entry.is_directory || entry.is_link || entry.name.front() == '.') continue;
        RETURN_IF_ERROR(expand(path, components, at));
      } else if (matches_pattern(entry.name, component)) {
        if (last)
          RETURN_IF_ERROR(add(path, entry, 0));
        else if (entry.is_directory)
          RETURN_IF_ERROR(expand(path, components, at + 1));
      }
    }
    return ok_status();
  }

  FileSystem& files_;
  std::vector<SourceFile>& found_;
  std::unordered_set<std::string> seen_;
  size_t num_repeated_ = 0;
};

}  // namespace

bool matches_pattern(std::string_view name, std::string_view pattern) {
  if (!name.empty() && name.front() == '.' && (pattern.empty() || pattern.front() != '.')) return false;
  // Greedy with one point to come back to: the last star. Never exponential.
  size_t at = 0, in = 0, star = std::string_view::npos, star_at = 0;
  while (at < name.size()) {
    size_t next = in + 1;
    if (in < pattern.size() && pattern[in] == '*') {
      star = in++;
      star_at = at;
      continue;
    }
    const bool fits = in < pattern.size() &&
                      (pattern[in] == '?' ||
                       (pattern[in] == '[' ? matches_set(name[at], pattern, in, &next) : pattern[in] == name[at]));
    if (fits) {
      ++at;
      in = next;
    } else if (star != std::string_view::npos) {
      in = star + 1;
      at = ++star_at;
    } else {
      return false;
    }
  }
  while (in < pattern.size() && pattern[in] == '*') ++in;
  return in == pattern.size();
}

Result<std::vector<SourceFile>> find_source_files(FileSystem& files, const std::vector<std::string>& inputs) {
  if (inputs.empty()) return invalid("no input is named: give files, directories or patterns such as 'text/**/*.txt'");
  std::vector<SourceFile> found;
  Finder finder(files, found);
  for (const std::string& input : inputs) {
    if (input.empty()) return invalid("an input has an empty name");
    RETURN_IF_ERROR(finder.add_input(input));
  }
  return found;
}

}  // namespace colossus
