#include "device/cpu/sends_under_way.h"

#include <algorithm>
#include <utility>

namespace colossus {

int64_t SendsUnderWay::begin(const void* owner, std::span<const std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  entries_.push_back({next_, owner, bytes});
  return next_++;
}

void SendsUnderWay::end(int64_t send, Status status) {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [&](const Entry& entry) { return entry.send == send; });
  if (failure_.ok()) failure_ = std::move(status);
  ended_.notify_all();
}

template <class Concerns>
void SendsUnderWay::wait_while_any(const Concerns& concerns) {
  std::unique_lock lock(mutex_);
  ended_.wait(lock, [&] { return std::none_of(entries_.begin(), entries_.end(), concerns); });
}

void SendsUnderWay::wait_for_readers(std::span<const std::byte> bytes) {
  const std::byte *begin = bytes.data(), *end = begin + bytes.size();
  wait_while_any(
      [=](const Entry& entry) { return entry.bytes.data() < end && begin < entry.bytes.data() + entry.bytes.size(); });
}

void SendsUnderWay::wait_for_owner(const void* owner) {
  wait_while_any([=](const Entry& entry) { return entry.owner == owner; });
}

void SendsUnderWay::wait_for_all() {
  wait_while_any([](const Entry&) { return true; });
}

Status SendsUnderWay::take_failure() {
  const std::lock_guard lock(mutex_);
  return std::exchange(failure_, ok_status());
}

}  // namespace colossus
