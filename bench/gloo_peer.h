// Gloo's all-reduces, to compare with. Built from gloo_peer.cc where Gloo is installed, else from no_gloo.cc.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace colossus {

class GlooPeer {
 public:
  virtual ~GlooPeer() = default;
  virtual std::vector<std::string> algorithms() const = 0;  // "ring", "bcube"; none without Gloo
  virtual Status all_reduce(const std::string& algorithm, std::span<float> values) = 0;
};

// With the ranks of `end`, which find each other's addresses through it.
Result<std::unique_ptr<GlooPeer>> join_gloo_peer(Communicator& end);

}  // namespace colossus
