// The groups a rank belongs to, by what its programs call them.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "tensor/placement.h"

namespace colossus {

class RankGroups {
 public:
  void set(RankGroup group, std::unique_ptr<Communicator> end) { ends_[group] = std::move(end); }
  // Null when this rank has no such group.
  Communicator* find(RankGroup group) const {
    const auto found = ends_.find(group);
    return found == ends_.end() ? nullptr : found->second.get();
  }
  const std::map<RankGroup, std::unique_ptr<Communicator>>& ends() const { return ends_; }
  void set_step(int64_t step) {
    for (auto& [group, end] : ends_) end->set_step(step);
  }
  // Ends what goes on in all groups; any thread.
  void abort(const std::string& reason) {
    for (auto& [group, end] : ends_) end->abort(reason);
  }
  void clear() { ends_.clear(); }

 private:
  std::map<RankGroup, std::unique_ptr<Communicator>> ends_;
};

}  // namespace colossus
