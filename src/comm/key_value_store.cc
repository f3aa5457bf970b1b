#include "comm/key_value_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/clock.h"
#include "comm/etcd_store.h"

namespace colossus {
namespace {

constexpr std::string_view kAllowed =
    "abcdefghijklmnopqrstuvwxyz"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "0123456789-_.";
constexpr double kLongestPauseSeconds = 0.1;

}  // namespace

Status check_key(std::string_view key) {
  if (key.size() > static_cast<size_t>(KeyValueStore::kMaxKeyBytes)) {
    return invalid(fmt::format("the key \"{}…\" has {} characters; at most {} are allowed", key.substr(0, 40),
                               key.size(), KeyValueStore::kMaxKeyBytes));
  }
  for (size_t begin = 0; begin <= key.size();) {
    const size_t end = std::min(key.find('/', begin), key.size());
    const std::string_view part = key.substr(begin, end - begin);
    if (part.empty() || part == "." || part == ".." || part.find_first_not_of(kAllowed) != std::string_view::npos) {
      return invalid(fmt::format(
          "\"{}\" is not a key: it needs parts of letters, digits, '-', '_' and '.', separated by '/'", key));
    }
    begin = end + 1;
  }
  return ok_status();
}

Status check_value(std::string_view key, std::string_view value) {
  if (value.size() <= static_cast<size_t>(KeyValueStore::kMaxValueBytes)) return ok_status();
  return invalid(fmt::format("the value of \"{}\" has {} bytes; at most {} are allowed", key, value.size(),
                             KeyValueStore::kMaxValueBytes));
}

Result<std::unique_ptr<KeyValueStore>> open_store(const std::string& address) {
  constexpr std::string_view kDirectory = "dir:", kEtcd = "etcd://";
  if (address.starts_with(kEtcd)) {
    const std::string_view place = std::string_view(address).substr(kEtcd.size());
    const size_t slash = std::min(place.find('/'), place.size());
    EtcdOptions options{.prefix = std::string(place.substr(std::min(slash + 1, place.size())))};
    for (size_t begin = 0; begin <= slash;) {
      const size_t end = std::min(place.find(',', begin), slash);
      options.endpoints.emplace_back(place.substr(begin, end - begin));
      begin = end + 1;
    }
    return open_etcd_store(std::move(options));
  }
  const std::string path = address.starts_with(kDirectory) ? address.substr(kDirectory.size()) : address;
  if (path.starts_with('/')) return open_directory_store(path);
  return invalid(fmt::format(
      "\"{}\" is not the address of a store; it needs dir:/path or etcd://host:port,host:port/prefix", address));
}

Result<std::string> KeyValueStore::wait_for(const std::string& key, double timeout_seconds) {
  const double deadline = monotonic_seconds() + timeout_seconds;
  for (double pause = 0.001;; pause = std::min(2 * pause, kLongestPauseSeconds)) {
    ASSIGN_OR_RETURN(std::optional<std::string> value, get(key));
    if (value) return *std::move(value);
    const double remaining = deadline - monotonic_seconds();
    if (remaining <= 0) {
      return unavailable(fmt::format("\"{}\" was not set within {:g} s", key, timeout_seconds));
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(std::min(pause, remaining)));
  }
}

}  // namespace colossus
