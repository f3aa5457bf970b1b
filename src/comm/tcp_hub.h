// What the groups of one process share: its connections, and who waits at them. Not for use outside of comm/tcp_*.
//
// There is no thread: of the threads that wait in calls one waits for the sockets and moves the bytes of all, the
// others wait for that one; when its own call is done, another takes over. A process that waits for nothing reads
// nothing, and misses nothing: peers' short messages lie in the sockets until it comes, long ones are sent only when it
// asks.
#pragma once

#include <sys/epoll.h>

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "comm/tcp_connection.h"

namespace colossus {

class TcpHub {
 public:
  // sockets[i]: connected with rank i; not valid for the own rank.
  explicit TcpHub(std::vector<Descriptor> sockets);

  // All that follows is done with it held.
  std::mutex& mutex() { return mutex_; }
  TcpConnection& connection(int rank) { return *connections_[static_cast<size_t>(rank)]; }

  // A call's presence among those that wait.
  class Waiting {
   public:
    Waiting(TcpHub& hub, TcpWaiter& waiter) : hub_(hub), waiter_(waiter) { hub.waiters_.push_back(&waiter); }
    ~Waiting();
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

   private:
    TcpHub& hub_;
    TcpWaiter& waiter_;
  };
  // Until something may have changed for the waiter, at most until the deadline. Gives the lock back meanwhile.
  void wait(std::unique_lock<std::mutex>& lock, TcpWaiter& waiter, double deadline);
  // Those for whom something changed; by whoever spoke to a connection.
  void wake_changed();

 private:
  void serve(int event_count);

  std::mutex mutex_;
  Descriptor poll_, alarm_;  // the alarm ends a wait for the sockets
  std::vector<std::unique_ptr<TcpConnection>> connections_;
  std::vector<TcpWaiter*> waiters_;
  const TcpWaiter* poller_ = nullptr;  // waits for the sockets
  std::vector<std::byte> scratch_;
  std::vector<epoll_event> events_;
};

}  // namespace colossus
