// Ranks that are threads of this process: a message is copied when both its ends have come to it.
#include "device/cuda/peers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <set>
#include <vector>

#include "base/check.h"
#include "device/cuda/emulated/emulated_gpu.h"

namespace colossus::gpu {
namespace {

struct Message {
  int to;
  const std::byte* bytes;
  int64_t num_bytes;
  bool taken = false;
};

struct Group {
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Message>>> on_the_way;  // by from and to
  int num_ends = 0;
  std::set<int> gone;
};

// Under the lock of the machine.
std::map<int64_t, Group> groups;
int64_t next_group = 1;

}  // namespace

bool others_may_help() { return !groups.empty(); }

struct Peers::State {
  // Of this rank; what streams were given may outlive it.
  struct Fate {
    bool aborted = false;
    int lost = -1;  // a peer that will not come
  };
  int64_t group = 0;
  int rank = 0, size = 1;
  std::shared_ptr<Fate> fate = std::make_shared<Fate>();
};

// One rank's part of an exchange.
struct Peers::Exchange {
  std::shared_ptr<State::Fate> fate;
  int64_t group;
  int rank;
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;

  Poll begin() const;
};

Poll Peers::Exchange::begin() const {
  if (fate->aborted) return [] { return true; };
  std::vector<std::shared_ptr<Message>> sent;
  for (const Outgoing& message : sends) {
    sent.push_back(std::make_shared<Message>(message.peer, message.bytes, message.num_bytes));
    groups.at(group).on_the_way[{rank, message.peer}].push_back(sent.back());
  }
  return [self = *this, sent = std::move(sent), left = receives]() mutable {
    if (self.fate->aborted) return true;
    Group& group = groups.at(self.group);
    const auto is_lost = [&](int peer) {
      if (group.gone.contains(peer)) self.fate->lost = peer;
    };
    std::erase_if(left, [&](const Incoming& incoming) {
      auto& queue = group.on_the_way[{incoming.peer, self.rank}];
      if (queue.empty()) {
        is_lost(incoming.peer);
        return false;
      }
      CHECK(queue.front()->num_bytes == incoming.num_bytes, "a message has another size than its receiver expects");
      std::memcpy(incoming.bytes, queue.front()->bytes, static_cast<size_t>(incoming.num_bytes));
      queue.front()->taken = true;
      queue.pop_front();
      notify_machine();
      return true;
    });
    std::erase_if(sent, [&](const auto& message) {
      if (!message->taken) is_lost(message->to);
      return message->taken;
    });
    return left.empty() && sent.empty();
  };
}

Peers::Peers(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<Peers>> Peers::make(Communicator& group) {
  auto state = std::make_unique<State>();
  state->rank = group.rank();
  state->size = group.size();
  if (group.rank() == 0) {
    const auto lock = lock_machine();
    state->group = next_group++;
    groups[state->group].num_ends = group.size();
  }
  RETURN_IF_ERROR(group.broadcast(std::as_writable_bytes(std::span(&state->group, 1)), 0));
  RETURN_IF_ERROR(group.barrier());  // all are here: what follows has no deadline
  const auto lock = lock_machine();
  if (!groups.contains(state->group)) return unavailable("emulated GPUs talk to those of their own process only");
  return std::unique_ptr<Peers>(new Peers(std::move(state)));
}

Peers::~Peers() {
  abort();
  const auto lock = lock_machine();
  if (--groups.at(state_->group).num_ends == 0) groups.erase(state_->group);
}

int Peers::rank() const { return state_->rank; }
int Peers::size() const { return state_->size; }

void Peers::exchange(Stream stream, std::span<const Outgoing> sends, std::span<const Incoming> receives) {
  std::set<int> to, from;
  for (const Outgoing& message : sends)
    CHECK(message.num_bytes > 0 && message.peer != rank() && message.peer < size() && to.insert(message.peer).second);
  for (const Incoming& message : receives)
    CHECK(message.num_bytes > 0 && message.peer != rank() && message.peer < size() && from.insert(message.peer).second);
  enqueue(stream, std::function<Poll()>([exchange = Exchange{.fate = state_->fate,
                                                             .group = state_->group,
                                                             .rank = rank(),
                                                             .sends = {sends.begin(), sends.end()},
                                                             .receives = {receives.begin(), receives.end()}}] {
            return exchange.begin();
          }));
}

Status Peers::status() {
  const auto lock = lock_machine();
  if (state_->fate->aborted) return interrupted("aborted");
  return state_->fate->lost < 0 ? ok_status() : unavailable(fmt::format("rank {} is gone", state_->fate->lost));
}

void Peers::abort() {
  const auto lock = lock_machine();
  state_->fate->aborted = true;
  Group& group = groups.at(state_->group);
  group.gone.insert(state_->rank);
  for (auto& [ends, messages] : group.on_the_way)
    if (ends.first == state_->rank) messages.clear();
  notify_machine();
}

}  // namespace colossus::gpu
