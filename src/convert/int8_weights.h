// Weights in 8 bits beside their scales, as Grok-1 was released: "<name>.weight" (I8) and "<name>.scales" (F32 or BF16)
// of the same rank. Each size of the scales divides the weight's, and a scale belongs to a box of weights. What they
// stand for, weight * scale, has the type of the scales and is rounded to it once.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "convert/source.h"
#include "io/safetensors.h"

namespace colossus {

class Int8Weights {
 public:
  // Whether the entry is one half of such a pair; it is then kept until add_to. The other half may come later.
  bool take(const std::shared_ptr<const SafetensorsFile>& file, const SafetensorsEntry& entry);
  // What the pairs stand for, as "<name>" where the name is a path ("a/b/w"), else as "<name>.weight". Halves without
  // the other are named in `alone`.
  Status add_to(SourceTensors& tensors, std::vector<std::string>& alone);

 private:
  struct Half {
    std::shared_ptr<const SafetensorsFile> file;
    const SafetensorsEntry* entry = nullptr;
  };
  struct Pair {
    Half weight, scales;
  };
  std::map<std::string, Pair> pairs_;
};

}  // namespace colossus
