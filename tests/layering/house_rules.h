// The rules a compiler does not check, as functions from text to faults, so that each can be seen to fail on a broken
// sample: includes go down, SIMD files share no inline function with the rest, no two headers define a type of one
// name, files stay short, no path of somebody's machine.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace colossus::house {

struct SourceFile {
  std::string path;  // from the project's root: "src/base/rng.h"
  std::string text;
};

struct Include {
  std::string name;
  bool angled;
  int line;
};

inline std::vector<Include> includes_of(const std::string& text) {
  std::vector<Include> found;
  std::istringstream lines(text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    const size_t hash = line.find_first_not_of(" \t");
    if (hash == std::string::npos || line[hash] != '#') continue;
    const size_t word = line.find_first_not_of(" \t", hash + 1);
    if (word == std::string::npos || line.compare(word, 7, "include") != 0) continue;
    const size_t open = line.find_first_of("<\"", word);
    if (open == std::string::npos) continue;
    const size_t close = line.find_first_of(">\"", open + 1);
    if (close == std::string::npos) continue;
    found.push_back({line.substr(open + 1, close - open - 1), line[open] == '<', number});
  }
  return found;
}

class HouseRules {
 public:
  // The format is explained in layers.txt itself. A line that is not understood is a fault of check().
  explicit HouseRules(const std::string& rules_text) {
    std::istringstream lines(rules_text);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string kind, word;
      if (!(words >> kind) || kind.starts_with('#')) continue;
      if (kind == "floor:") {
        for (; words >> word; ++num_libraries_) read_library(word);
        ++num_floors_;
      } else if (kind == "alternatives:") {
        words >> alternatives_;
      } else if (kind == "lift:") {
        words >> lift_.folder;
        while (words >> word && word != "->") lift_.suffixes.push_back(word);
        words >> lift_.to;
      } else {
        faults_.push_back(fmt::format("layers.txt: \"{}\" is not understood", line));
      }
    }
  }

  std::vector<std::string> check(const std::vector<SourceFile>& files) {
    std::map<std::string, const SourceFile*> by_path;
    for (const SourceFile& file : files) by_path[file.path] = &file;
    std::set<std::string> reached_by_simd;
    for (const SourceFile& file : files) {
      if (file.path.starts_with("src/")) check_floors(file);
      if (file.path.ends_with("_simd.cc")) check_simd(file, by_path, reached_by_simd);
      if (file.path.starts_with("src/") && file.path.ends_with(".h")) check_types(file);
      check_length(file);
      check_machine_paths(file);
    }
    return faults_;
  }

 private:
  struct Place {
    int floor;  // 0 is the top
    int library;
  };
  struct Lift {
    std::string folder, to;
    std::vector<std::string> suffixes;
  };

  // "program+ops": two folders of one library.
  void read_library(const std::string& word) {
    std::istringstream parts(word);
    for (std::string folder; std::getline(parts, folder, '+');) places_[folder] = {num_floors_, num_libraries_};
  }

  // Of a path within src/; null for a folder no floor lists.
  const Place* place_of(std::string_view path) const {
    std::string folder(path.substr(0, path.find('/')));
    const std::string_view stem = path.substr(0, path.rfind('.'));
    if (!lift_.folder.empty() && path.starts_with(lift_.folder)) {
      for (const std::string& suffix : lift_.suffixes) {
        if (stem.ends_with(suffix)) folder = lift_.to;
      }
    }
    const auto found = places_.find(folder);
    return found == places_.end() ? nullptr : &found->second;
  }

  void check_floors(const SourceFile& file) {
    const std::string_view path = std::string_view(file.path).substr(4);
    const Place* here = place_of(path);
    if (here == nullptr) {
      faults_.push_back(fmt::format("{}: its folder is on no floor of layers.txt", file.path));
      return;
    }
    for (const Include& include : includes_of(file.text)) {
      if (include.angled) continue;
      const Place* there = place_of(include.name);
      const std::string where = fmt::format("{}:{}", file.path, include.line);
      if (there == nullptr) {
        faults_.push_back(
            fmt::format("{}: \"{}\" must be written from src/, on a floor of layers.txt", where, include.name));
      } else if (there->library != here->library && there->floor <= here->floor) {
        faults_.push_back(
            fmt::format("{}: must not include \"{}\": includes go down, never up or sideways", where, include.name));
      }
    }
  }

  // A _simd.cc is compiled once per instruction set: an inline function of a shared header would exist in several
  // versions, and the linker might keep the widest for processors that lack it. So it and all it reaches include only
  // kernel headers (of device/cpu and ops) and three C headers.
  void check_simd(const SourceFile& file, const std::map<std::string, const SourceFile*>& by_path,
                  std::set<std::string>& visited) {
    constexpr std::array<std::string_view, 3> kHeaders = {"stdint.h", "stddef.h", "immintrin.h"};
    for (const Include& include : includes_of(file.text)) {
      const bool kernel = include.name.starts_with("device/cpu/") || include.name.starts_with("ops/");
      const bool standard = std::find(kHeaders.begin(), kHeaders.end(), include.name) != kHeaders.end();
      if (include.angled ? !standard : !kernel) {
        faults_.push_back(
            fmt::format("{}:{}: a _simd.cc reaches only headers of device/cpu and ops, <stdint.h>, "
                        "<stddef.h> and <immintrin.h>; not {}",
                        file.path, include.line, include.name));
      }
      const auto header = by_path.find("src/" + include.name);
      if (!include.angled && header != by_path.end() && visited.insert(header->first).second) {
        check_simd(*header->second, by_path, visited);
      }
    }
  }

  // Two types of one name are one type to the linker: templates of both would be merged without a word.
  void check_types(const SourceFile& file) {
    std::vector<std::string> namespaces;
    std::istringstream lines(file.text);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string kind, name;
      if (!(words >> kind)) continue;
      if (kind == "namespace" && words >> name && line.ends_with('{')) namespaces.push_back(name);
      if (line.starts_with("}  // namespace") && !namespaces.empty()) namespaces.pop_back();
      // What stands at the margin is no member; forward declarations have no body.
      if (line.front() == ' ' || (kind != "struct" && kind != "class" && kind != "enum")) continue;
      if (line.ends_with(';') && line.find('{') == std::string::npos) continue;
      while (words >> name && (name == "class" || name == "struct" || name.starts_with("[["))) continue;
      name = name.substr(0, name.find_first_of(":{<"));
      const auto [first, is_new] = types_.emplace(fmt::format("{}::{}", fmt::join(namespaces, "::"), name), file.path);
      const bool alternative = file.path.starts_with(alternatives_) && first->second.starts_with(alternatives_);
      if (!is_new && first->second != file.path && !alternative)
        faults_.push_back(
            fmt::format("{}: {} is defined in {}, too: rename one", file.path, first->first, first->second));
    }
  }

  void check_length(const SourceFile& file) {
    const bool header = file.path.ends_with(".h") || file.path.ends_with(".cuh");
    const bool source = file.path.ends_with(".cc") || file.path.ends_with(".cu");
    if ((!header && !source)) return;
    const int64_t wall = header ? 300 : 600;
    const int64_t lines = std::count(file.text.begin(), file.text.end(), '\n');
    if (lines > wall)
      faults_.push_back(fmt::format("{}: {} lines, the wall is {}: split it by noun", file.path, lines, wall));
  }

  void check_machine_paths(const SourceFile& file) {
    // In pieces, or this file would be at fault.
    static const std::array<std::string, 4> kPaths = {
        "/wo"
        "rk/",
        "/ho"
        "me/",
        "/ro"
        "ot/",
        "/Us"
        "ers/"};
    for (const std::string& path : kPaths) {
      for (size_t at = file.text.find(path); at != std::string::npos; at = file.text.find(path, at + 1)) {
        // "a/home/b" is a relative path or a URL, and no one's machine.
        const char before = at == 0 ? ' ' : file.text[at - 1];
        if (std::isalnum(static_cast<unsigned char>(before)) || before == '.' || before == '_' || before == '-')
          continue;
        const auto line = 1 + std::count(file.text.begin(), file.text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
        faults_.push_back(fmt::format("{}:{}: \"{}\" is a path of one machine", file.path, line, path));
      }
    }
  }

  int num_floors_ = 0, num_libraries_ = 0;
  std::map<std::string, Place> places_;
  Lift lift_;
  std::string alternatives_ = "none";
  std::map<std::string, std::string> types_;  // by name, where they are
  std::vector<std::string> faults_;
};

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Everything people wrote, sorted; not what builds and runs leave behind.
inline std::vector<SourceFile> project_files(const std::filesystem::path& root) {
  static const std::set<std::string> kFolders = {"src", "tests", "bench", "scripts", "cmake", "docs", "configs", ".ci"};
  static const std::set<std::string> kExtensions = {".h",  ".cc", ".cu",   ".cuh",   ".cmake", ".txt",
                                                    ".md", ".sh", ".toml", ".ipynb", ".py",    ""};
  std::vector<SourceFile> files;
  const auto add = [&](const std::filesystem::path& path) {
    if (std::filesystem::is_regular_file(path) && kExtensions.contains(path.extension().string())) {
      files.push_back({path.lexically_relative(root).generic_string(), read_text(path)});
    }
  };
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    if (!entry.is_directory()) {
      add(entry.path());
    } else if (kFolders.contains(entry.path().filename().string())) {
      for (const auto& inner : std::filesystem::recursive_directory_iterator(entry.path())) add(inner.path());
    }
  }
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return files;
}

}  // namespace colossus::house
