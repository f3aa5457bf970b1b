#include <map>
#include <mutex>

#include "comm/key_value_store.h"

namespace colossus {
namespace {

class MemoryStore final : public KeyValueStore {
 public:
  Status set(const std::string& key, const std::string& value) override {
    RETURN_IF_ERROR(check_key(key));
    RETURN_IF_ERROR(check_value(key, value));
    const std::lock_guard lock(mutex_);
    values_[key] = value;
    return ok_status();
  }

  Result<std::optional<std::string>> get(const std::string& key) override {
    RETURN_IF_ERROR(check_key(key));
    const std::lock_guard lock(mutex_);
    return find(key);
  }

  Result<bool> compare_and_set(const std::string& key, const std::optional<std::string>& expected,
                               const std::string& value) override {
    RETURN_IF_ERROR(check_key(key));
    RETURN_IF_ERROR(check_value(key, value));
    const std::lock_guard lock(mutex_);
    if (find(key) != expected) return false;
    values_[key] = value;
    return true;
  }

  Status remove(const std::string& key) override {
    RETURN_IF_ERROR(check_key(key));
    const std::lock_guard lock(mutex_);
    values_.erase(key);
    return ok_status();
  }

 private:
  std::optional<std::string> find(const std::string& key) const {
    const auto found = values_.find(key);
    return found == values_.end() ? std::nullopt : std::optional(found->second);
  }

  std::mutex mutex_;
  std::map<std::string, std::string> values_;
};

}  // namespace

std::unique_ptr<KeyValueStore> make_memory_store() { return std::make_unique<MemoryStore>(); }

}  // namespace colossus
