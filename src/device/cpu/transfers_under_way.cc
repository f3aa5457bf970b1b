#include "device/cpu/transfers_under_way.h"

#include <algorithm>
#include <utility>

namespace colossus {
namespace {

bool overlap(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.data() < b.data() + b.size() && b.data() < a.data() + a.size();
}

}  // namespace

int64_t TransfersUnderWay::begin(const Transfer& transfer) {
  const std::lock_guard lock(mutex_);
  entries_.push_back({next_, transfer});
  return next_++;
}

void TransfersUnderWay::end(int64_t transfer, Status status) {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [&](const Entry& entry) { return entry.number == transfer; });
  if (failure_.ok()) failure_ = std::move(status);
  ended_.notify_all();
}

template <class Concerns>
std::optional<Link> TransfersUnderWay::wait_while_any(const Concerns& concerns) {
  std::unique_lock lock(mutex_);
  const auto first = std::ranges::find_if(entries_, concerns, &Entry::transfer);
  if (first == entries_.end()) return std::nullopt;
  const Link link = first->transfer.link;
  ended_.wait(lock, [&] { return std::ranges::none_of(entries_, concerns, &Entry::transfer); });
  return link;
}

std::optional<Link> TransfersUnderWay::wait_to_write(std::span<const std::byte> bytes) {
  return wait_while_any([=](const Transfer& transfer) { return overlap(transfer.bytes, bytes); });
}

std::optional<Link> TransfersUnderWay::wait_to_read(std::span<const std::byte> bytes) {
  return wait_while_any([=](const Transfer& transfer) { return transfer.writes && overlap(transfer.bytes, bytes); });
}

void TransfersUnderWay::wait_for_owner(const void* owner) {
  wait_while_any([=](const Transfer& transfer) { return transfer.owner == owner; });
}

void TransfersUnderWay::wait_for_all() {
  wait_while_any([](const Transfer&) { return true; });
}

Status TransfersUnderWay::take_failure() {
  const std::lock_guard lock(mutex_);
  return std::exchange(failure_, ok_status());
}

}  // namespace colossus
