#include "comm/tcp_hub.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/check.h"
#include "base/clock.h"

namespace colossus {
namespace {

constexpr size_t kScratchBytes = size_t{64} << 10;
constexpr size_t kMaxEvents = 128;
constexpr uint32_t kAlarm = ~uint32_t{0};
constexpr double kLongestPollSeconds = 3600;

}  // namespace

TcpHub::TcpHub(std::vector<Descriptor> sockets)
    : poll_(::epoll_create1(EPOLL_CLOEXEC)),
      alarm_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      scratch_(kScratchBytes),
      events_(kMaxEvents) {
  CHECK(poll_.valid() && alarm_.valid(), "a process may have two more descriptors");
  epoll_event event{.events = EPOLLIN, .data = {.u32 = kAlarm}};
  CHECK(::epoll_ctl(poll_.get(), EPOLL_CTL_ADD, alarm_.get(), &event) == 0, "an alarm can be waited for");
  for (size_t rank = 0; rank < sockets.size(); ++rank)
    connections_.push_back(
        sockets[rank].valid()
            ? std::make_unique<TcpConnection>(std::move(sockets[rank]), poll_.get(), static_cast<uint32_t>(rank))
            : nullptr);
}

TcpHub::Waiting::~Waiting() {
  std::erase(hub_.waiters_, &waiter_);
  if (hub_.poller_ == nullptr && !hub_.waiters_.empty()) hub_.waiters_.front()->condition.notify_one();
}

void TcpHub::wait(std::unique_lock<std::mutex>& lock, TcpWaiter& waiter, double deadline) {
  const double remaining = std::clamp(deadline - monotonic_seconds(), 0.0, kLongestPollSeconds);
  if (poller_ != nullptr) {
    waiter.condition.wait_for(lock, std::chrono::duration<double>(remaining));
    return;
  }
  poller_ = &waiter;
  lock.unlock();
  const int count = ::epoll_wait(poll_.get(), events_.data(), static_cast<int>(events_.size()),
                                 static_cast<int>(std::ceil(1000 * remaining)));
  lock.lock();
  poller_ = nullptr;
  serve(count);
  waiter.changed = false;
  wake_changed();
}

void TcpHub::serve(int event_count) {
  for (int i = 0; i < event_count; ++i) {
    const epoll_event& event = events_[static_cast<size_t>(i)];
    if (event.data.u32 == kAlarm) {
      uint64_t count = 0;
      static_cast<void>(!::read(alarm_.get(), &count, sizeof(count)));
      continue;
    }
    TcpConnection& connection = *connections_[event.data.u32];
    if ((event.events & ~static_cast<uint32_t>(EPOLLOUT)) != 0) connection.read(scratch_);
    connection.write();  // what was asked for just now, too
  }
}

void TcpHub::wake_changed() {
  for (TcpWaiter* waiter : waiters_) {
    if (!waiter->changed) continue;
    waiter->changed = false;
    waiter->condition.notify_one();
    const uint64_t one = 1;
    if (waiter == poller_) static_cast<void>(!::write(alarm_.get(), &one, sizeof(one)));
  }
}

}  // namespace colossus
