// A small shared dictionary: how ranks find each other before they can talk, and where membership is kept. Held by one
// process (tests), a directory all machines see, or etcd.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace colossus {

class KeyValueStore {
 public:
  static constexpr int64_t kMaxValueBytes = int64_t{1} << 20;
  static constexpr int kMaxKeyBytes = 200;

  virtual ~KeyValueStore() = default;

  // Keys are paths of letters, digits, '-', '_', '.' separated by '/', with no part empty, "." or ".."; values are
  // bytes, at most kMaxValueBytes. Anything else is kInvalid. Any number of threads.
  virtual Status set(const std::string& key, const std::string& value) = 0;
  virtual Result<std::optional<std::string>> get(const std::string& key) = 0;
  // Sets `key` if it holds `expected` (nullopt: if it does not exist) and says whether it did: atomic among all users
  // of the store, so that of several ranks that want the same thing one gets it.
  virtual Result<bool> compare_and_set(const std::string& key, const std::optional<std::string>& expected,
                                       const std::string& value) = 0;
  virtual Status remove(const std::string& key) = 0;  // of nothing: ok

  // Waits until the key exists. kUnavailable after `timeout_seconds`, with the key's name.
  Result<std::string> wait_for(const std::string& key, double timeout_seconds);
};

// The rule above, for those who implement it.
Status check_key(std::string_view key);
Status check_value(std::string_view key, std::string_view value);

// Within one process; any number of threads.
std::unique_ptr<KeyValueStore> make_memory_store();

// One file a key in `directory`, which every machine mounts: written beside and renamed, so that a reader sees a whole
// value or none; whoever writes holds a lock file made with O_EXCL, which a holder that died loses after
// `lock_seconds`. Machines' clocks are not compared. A holder that was stopped for longer than half of that between its
// last look at the clock and the rename can overwrite what another wrote meanwhile.
// On NFS a key that another machine made can stay invisible for as long as names are cached; mount with
// lookupcache=positive.
Result<std::unique_ptr<KeyValueStore>> open_directory_store(const std::string& directory, double lock_seconds = 10);

// "/path" or "dir:/path": a directory store. "etcd://host:port,host:port/prefix": etcd (comm/etcd_store.h); the prefix
// may be left out.
Result<std::unique_ptr<KeyValueStore>> open_store(const std::string& address);

}  // namespace colossus
