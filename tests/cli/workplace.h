// A directory with a small text, a tokenizer and shards made by the binary itself, and the smallest model that learns.
#pragma once

#include <string>
#include <vector>

#include "place.h"
#include "small_run.h"

namespace colossus {

class Workplace : public Place {
 public:
  Workplace() {
    write("text.txt", small_text(1500));
    write("run.toml", std::string(kSmallModel) + kRest);
    must_succeed({"tokenizer", "train", "--vocab", "300", "--out", "tok.json", "text.txt"});
    must_succeed({"data", "build", "--tokenizer", "tok.json", "--out", "shards", "text.txt"});
  }

  // {"train", ...} of a run in directory `out`.
  static std::vector<std::string> train(const std::string& out, std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"train", "run.toml", "--data", "shards", "--out", out};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  // The metrics of a run, one line for each step and evaluation, without what the clock wrote into them.
  std::vector<std::string> losses(const std::string& out) const;
  // The directory of the newest checkpoint; what an interrupted save left is none.
  std::string newest_checkpoint(const std::string& out) const {
    const auto entries = local_files().list(path(out + "/checkpoints"));
    std::string newest;
    if (entries.ok())
      for (const FileEntry& entry : *entries)
        if (!entry.name.ends_with(".tmp")) newest = entry.name;
    CHECK(!newest.empty(), out.c_str());
    return out + "/checkpoints/" + newest;
  }

 private:
  static constexpr const char* kRest = R"(num_layers = 1
[train]
steps = 300
batch = 4
evaluate_every = 100
evaluation_tokens = 256
checkpoint_every = 20
seed = 7
)";
};

inline std::vector<std::string> Workplace::losses(const std::string& out) const {
  std::vector<std::string> kept;
  const std::string text = read(out + "/metrics.jsonl");
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    for (const char* name : {"\"train/loss\":", "\"validation/loss\":"}) {
      const size_t begin = line.find(name);
      if (begin != std::string::npos) kept.push_back(line.substr(begin, line.find_first_of(",}", begin) - begin));
    }
  }
  return kept;
}

}  // namespace colossus
