// The groups a rank belongs to, by what its programs call them.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "tensor/placement.h"

namespace colossus {

// A device's own way to the ranks of a group, for memory that a Communicator cannot read.
class DeviceEnd {
 public:
  virtual ~DeviceEnd() = default;
};

class RankGroups {
 public:
  void set(RankGroup group, std::unique_ptr<Communicator> end) {
    device_ends_.erase(group);
    ends_[group] = std::move(end);
  }
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
  void clear() {
    device_ends_.clear();
    ends_.clear();
  }

  // Goes with the group's end. Null where the device has made none.
  DeviceEnd* device_end(RankGroup group) const {
    const auto found = device_ends_.find(group);
    return found == device_ends_.end() ? nullptr : found->second.get();
  }
  void set_device_end(RankGroup group, std::unique_ptr<DeviceEnd> end) { device_ends_[group] = std::move(end); }

 private:
  std::map<RankGroup, std::unique_ptr<Communicator>> ends_;
  std::map<RankGroup, std::unique_ptr<DeviceEnd>> device_ends_;
};

}  // namespace colossus
