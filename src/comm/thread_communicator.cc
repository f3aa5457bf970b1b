#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>

#include "base/clock.h"
#include "comm/communicator.h"

namespace colossus {
namespace {

// A sender's bytes on offer. It lives in the sender's call, which does not return before the message is out of its
// channel and no longer copied.
struct Message {
  enum class State { kOffered, kCopying, kTaken, kRefused };
  std::span<const std::byte> bytes;
  int kind = 0;
  State state = State::kOffered;
  std::string refusal;
};

// What the ends share. One mutex: groups of threads are small, and copies are made outside of it.
struct ThreadGroup {
  explicit ThreadGroup(int size)
      : ends(static_cast<size_t>(size)), channels(static_cast<size_t>(size) * static_cast<size_t>(size)) {}

  struct End {
    std::condition_variable changed;  // something this end may wait for
    std::optional<std::string> left;  // why it takes part no longer
  };

  End& end(int rank) { return ends[static_cast<size_t>(rank)]; }
  std::deque<Message*>& channel(int from, int to) {
    return channels[static_cast<size_t>(from) * ends.size() + static_cast<size_t>(to)];
  }

  void leave(int rank, const std::string& reason) {
    const std::lock_guard lock(mutex);
    if (end(rank).left) return;
    end(rank).left = reason;
    for (End& other : ends) other.changed.notify_all();
  }

  std::mutex mutex;
  std::vector<End> ends;
  std::vector<std::deque<Message*>> channels;  // in order, by sender and receiver
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(GroupOptions options, std::shared_ptr<ThreadGroup> group)
      : Communicator(std::move(options)), group_(std::move(group)) {}
  ~ThreadCommunicator() override { group_->leave(rank(), "its end was destroyed"); }

 protected:
  Status do_exchange(const Exchange& exchange, double deadline) override {
    std::vector<Message> offers;
    offers.reserve(exchange.sends.size());
    std::unique_lock lock(group_->mutex);
    for (const Outgoing& send : exchange.sends) {
      offers.push_back({.bytes = send.bytes, .kind = static_cast<int>(exchange.kind)});
      group_->channel(rank(), send.peer).push_back(&offers.back());
      group_->end(send.peer).changed.notify_one();
    }
    std::vector<Incoming> open = exchange.receives;
    Status status;
    while (status.ok()) {
      const size_t before = open.size();
      status = take_offered(exchange.kind, open, lock);
      if (!status.ok() || open.size() < before) continue;
      std::vector<int> awaited = ranks_of(open);
      for (size_t i = 0; i < offers.size(); ++i) {
        if (offers[i].state == Message::State::kRefused) status = invalid(offers[i].refusal);
        if (offers[i].state != Message::State::kTaken) awaited.push_back(exchange.sends[i].peer);
      }
      if (!status.ok() || awaited.empty()) break;
      status = wait(awaited, deadline, lock);
    }
    if (!status.ok()) withdraw(exchange, offers, lock);
    return status;
  }

  void do_abort(const std::string& reason) override { group_->leave(rank(), reason); }

 private:
  // Takes what peers have on offer for the `open` receives, and strikes those off.
  Status take_offered(MessageKind kind, std::vector<Incoming>& open, std::unique_lock<std::mutex>& lock) {
    for (size_t i = 0; i < open.size();) {
      const Incoming receive = open[i];
      std::deque<Message*>& channel = group_->channel(receive.peer, rank());
      if (channel.empty()) {
        ++i;
        continue;
      }
      Message& message = *channel.front();
      channel.pop_front();
      if (message.kind != static_cast<int>(kind) || message.bytes.size() != receive.bytes.size()) {
        message.refusal =
            fmt::format("rank {} expects {} bytes{}, not {}", rank(), receive.bytes.size(),
                        message.kind != static_cast<int>(kind) ? " of another operation" : "", message.bytes.size());
        message.state = Message::State::kRefused;
        group_->end(receive.peer).changed.notify_one();
        return invalid(fmt::format("rank {} sends {} bytes{}, not {}", receive.peer, message.bytes.size(),
                                   message.kind != static_cast<int>(kind) ? " of another operation" : "",
                                   receive.bytes.size()));
      }
      message.state = Message::State::kCopying;
      lock.unlock();
      if (!message.bytes.empty()) std::memcpy(receive.bytes.data(), message.bytes.data(), message.bytes.size());
      lock.lock();
      message.state = Message::State::kTaken;
      group_->end(receive.peer).changed.notify_one();
      open.erase(open.begin() + static_cast<std::ptrdiff_t>(i));
    }
    return ok_status();
  }

  // Until something changed for this end; an error if nothing can or the time is over.
  Status wait(std::vector<int>& awaited, double deadline, std::unique_lock<std::mutex>& lock) {
    std::sort(awaited.begin(), awaited.end());
    awaited.erase(std::unique(awaited.begin(), awaited.end()), awaited.end());
    ThreadGroup::End& self = group_->end(rank());
    if (self.left) return interrupted("aborted: " + *self.left);
    for (const int peer : awaited) {
      if (const auto& left = group_->end(peer).left) {
        return unavailable(fmt::format("rank {} left the group: {}", peer, *left));
      }
    }
    const double remaining = deadline - monotonic_seconds();
    if (remaining <= 0) {
      return unavailable(fmt::format("no answer from {} within {:g} s", rank_list(awaited), options().timeout_seconds));
    }
    self.changed.wait_for(lock, std::chrono::duration<double>(remaining));
    return ok_status();
  }

  // Nobody may look at this call's buffers once it has returned.
  void withdraw(const Exchange& exchange, const std::vector<Message>& offers, std::unique_lock<std::mutex>& lock) {
    for (size_t i = 0; i < offers.size(); ++i) {
      std::erase(group_->channel(rank(), exchange.sends[i].peer), &offers[i]);
    }
    group_->end(rank()).changed.wait(lock, [&] {
      return std::none_of(offers.begin(), offers.end(),
                          [](const Message& offer) { return offer.state == Message::State::kCopying; });
    });
  }

  static std::vector<int> ranks_of(const std::vector<Incoming>& receives) {
    std::vector<int> ranks;
    for (const Incoming& receive : receives) ranks.push_back(receive.peer);
    return ranks;
  }

  const std::shared_ptr<ThreadGroup> group_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_thread_group(const GroupOptions& options_of_all) {
  CHECK(options_of_all.size >= 1, "a group has at least one rank");
  const auto group = std::make_shared<ThreadGroup>(options_of_all.size);
  std::vector<std::unique_ptr<Communicator>> ends;
  for (int rank = 0; rank < options_of_all.size; ++rank) {
    GroupOptions options = options_of_all;
    options.rank = rank;
    ends.push_back(std::make_unique<ThreadCommunicator>(std::move(options), group));
  }
  return ends;
}

}  // namespace colossus
