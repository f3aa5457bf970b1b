// Named memory on a device: the parameters, gradients and optimizer state that programs share.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "device/device.h"

namespace colossus {

class TensorSet {
 public:
  struct Entry {
    TensorType type;
    Role role = Role::kParameter;
    std::shared_ptr<DeviceMemory> memory;
    int64_t offset_bytes = 0;  // within memory: of a view
    bool is_view = false;
  };

  // Memory for every tensor of the program that lives outside its arena and is not here yet; views lie in their base's.
  // A tensor that is here with another type is our mistake (CHECK): two programs of one run disagree.
  Status add_all(Device& device, const Program& program);
  // The same for those of one role.
  Status add_role(Device& device, const Program& program, Role role);
  // A parameter that is only read, where it is stored; its name is new.
  Status add_stored(Device& device, const std::string& name, const TensorType& type, StoredBytes bytes);
  // Binds every outside tensor of the executable's program that is here, by name; of another type it is our mistake.
  void bind_to(Executable& executable) const;

  const Entry* find(const std::string& name) const;
  const Entry& at(const std::string& name) const;
  const std::map<std::string, Entry>& entries() const { return entries_; }
  int64_t num_bytes() const;
  int64_t held_bytes() const;  // without what is stored elsewhere and not in memory

 private:
  Status add(Device& device, const Program& program, const Tensor& tensor);

  std::map<std::string, Entry> entries_;  // ordered: whatever walks it does so in one order
};

}  // namespace colossus
