#include "device/cpu/sends_under_way.h"

#include <algorithm>
#include <utility>

namespace colossus {

int64_t SendsUnderWay::begin(const Send& send) {
  const std::lock_guard lock(mutex_);
  entries_.push_back({next_, send});
  return next_++;
}

void SendsUnderWay::end(int64_t send, Status status) {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [&](const Entry& entry) { return entry.number == send; });
  if (failure_.ok()) failure_ = std::move(status);
  ended_.notify_all();
}

template <class Concerns>
std::optional<Link> SendsUnderWay::wait_while_any(const Concerns& concerns) {
  std::unique_lock lock(mutex_);
  const auto first = std::ranges::find_if(entries_, concerns, &Entry::send);
  if (first == entries_.end()) return std::nullopt;
  const Link link = first->send.link;
  ended_.wait(lock, [&] { return std::ranges::none_of(entries_, concerns, &Entry::send); });
  return link;
}

std::optional<Link> SendsUnderWay::wait_for_readers(std::span<const std::byte> bytes) {
  const std::byte *begin = bytes.data(), *end = begin + bytes.size();
  return wait_while_any(
      [=](const Send& send) { return send.bytes.data() < end && begin < send.bytes.data() + send.bytes.size(); });
}

void SendsUnderWay::wait_for_owner(const void* owner) {
  wait_while_any([=](const Send& send) { return send.owner == owner; });
}

void SendsUnderWay::wait_for_all() {
  wait_while_any([](const Send&) { return true; });
}

Status SendsUnderWay::take_failure() {
  const std::lock_guard lock(mutex_);
  return std::exchange(failure_, ok_status());
}

}  // namespace colossus
