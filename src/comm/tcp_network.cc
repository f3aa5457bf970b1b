#include "comm/tcp_network.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "base/clock.h"
#include "comm/tcp_hub.h"
#include "comm/tcp_join.h"
#include "io/checksum.h"

namespace colossus {
namespace {

using Message = TcpPort::Message;

struct LostRank {
  int rank;
  std::string why;
};

// "ranks 1, 4"
std::string text_of(std::vector<int> ranks) {
  std::ranges::sort(ranks);
  const auto repeated = std::ranges::unique(ranks);
  ranks.erase(repeated.begin(), repeated.end());
  return rank_list(ranks);
}

class TcpCommunicator final : public Communicator {
 public:
  struct Peer {
    TcpConnection* connection = nullptr;  // null: this rank
    TcpPort* port = nullptr;
  };

  // `hub` is null for a group of one.
  TcpCommunicator(GroupOptions options, std::shared_ptr<TcpHub> hub, std::vector<Peer> peers)
      : Communicator(std::move(options)), hub_(std::move(hub)), peers_(std::move(peers)) {}
  ~TcpCommunicator() override { leave("its end was destroyed"); }

 protected:
  Status do_exchange(const Exchange& exchange, double deadline) override {
    std::unique_lock lock(hub_->mutex());
    if (aborted_) return interrupted("aborted: " + *aborted_);
    TcpWaiter waiter;
    const TcpHub::Waiting waiting(*hub_, waiter);
    std::vector<Transfer> open = post(exchange, waiter);
    Status status;
    while (status.ok()) {
      std::erase_if(open, [](const Transfer& transfer) { return transfer.done(); });
      if (open.empty()) break;
      status = look_for_errors(open, deadline);
      if (status.ok()) hub_->wait(lock, waiter, deadline);
    }
    for (const Incoming& receive : exchange.receives) withdraw(receive.peer);
    for (const Outgoing& send : exchange.sends) withdraw(send.peer);
    return status;
  }

  void do_abort(const std::string& reason) override { leave(reason); }

 private:
  // One message of an exchange.
  struct Transfer {
    int peer;
    const Peer* at;
    bool outgoing;
    uint64_t written_by;  // what was said about it

    bool done() const {
      return (outgoing ? at->port->sending : at->port->receiving) == Message::kDone &&
             at->connection->num_written() >= written_by;
    }
  };

  const Peer& peer(int rank) const { return peers_[static_cast<size_t>(rank)]; }

  std::vector<Transfer> post(const Exchange& exchange, TcpWaiter& waiter) {
    const auto kind = static_cast<uint8_t>(exchange.kind);
    std::vector<Transfer> open;
    open.reserve(exchange.receives.size() + exchange.sends.size());
    const auto add = [&](int rank, bool outgoing) -> const Peer& {
      const Peer& at = peer(rank);
      at.port->waiter = &waiter;
      open.push_back({.peer = rank, .at = &at, .outgoing = outgoing, .written_by = 0});
      return at;
    };
    for (const Incoming& receive : exchange.receives) {
      const Peer& at = add(receive.peer, false);
      at.connection->receive(*at.port, kind, receive.bytes);
    }
    for (const Outgoing& send : exchange.sends) {
      const Peer& at = add(send.peer, true);
      at.connection->send(*at.port, kind, send.bytes);
    }
    for (Transfer& transfer : open) {
      transfer.written_by = transfer.at->connection->num_queued();
      transfer.at->connection->write();
    }
    hub_->wake_changed();
    return open;
  }

  Status look_for_errors(const std::vector<Transfer>& open, double deadline) {
    if (aborted_) return interrupted("aborted: " + *aborted_);
    std::vector<LostRank> lost, left;
    for (const Transfer& transfer : open) {
      const TcpPort& port = *transfer.at->port;
      if (!port.mismatch.empty()) return invalid(fmt::format("rank {} {}", transfer.peer, port.mismatch));
      if (const auto& why = transfer.at->connection->lost()) lost.push_back({transfer.peer, *why});
      if (port.left) left.push_back({transfer.peer, *port.left});
    }
    // Whoever lost a rank leaves: those who are gone say more than those who went because of them.
    if (!lost.empty()) return error_of("lost ", lost, "");
    if (!left.empty()) {
      passed_on_ = left.front().why;
      return error_of("", left, " left the group");
    }
    if (monotonic_seconds() < deadline) return ok_status();
    std::vector<int> silent;
    for (const Transfer& transfer : open) silent.push_back(transfer.peer);
    return unavailable(fmt::format("no answer from {} within {:g} s", text_of(silent), options().timeout_seconds));
  }

  static Status error_of(const char* before, const std::vector<LostRank>& lost, const char* behind) {
    std::vector<int> ranks;
    for (const LostRank& one : lost) ranks.push_back(one.rank);
    const auto& first = *std::ranges::min_element(lost, {}, &LostRank::rank);
    return unavailable(fmt::format("{}{}{}: {}", before, text_of(ranks), behind, first.why));
  }

  void withdraw(int rank) {
    const Peer& at = peer(rank);
    at.connection->withdraw(*at.port);
  }

  void leave(const std::string& reason) {
    if (hub_ == nullptr) return;
    const std::lock_guard lock(hub_->mutex());
    if (!aborted_) aborted_ = reason;
    for (const Peer& each : peers_) {
      if (each.connection == nullptr) continue;
      each.port->change();
      each.connection->leave(*each.port, passed_on_.empty() ? reason : passed_on_);
      each.connection->write();
    }
    hub_->wake_changed();
  }

  const std::shared_ptr<TcpHub> hub_;
  const std::vector<Peer> peers_;  // by rank
  std::optional<std::string> aborted_;
  std::string passed_on_;  // why others left before this end did: what a third one should hear
};

}  // namespace

Result<std::unique_ptr<TcpNetwork>> TcpNetwork::join(const NetworkOptions& options, KeyValueStore& store,
                                                     const std::string& key) {
  if (options.size < 1 || options.rank < 0 || options.rank >= options.size) {
    return invalid(
        fmt::format("[group {}] rank {} of a group of {} cannot join", options.name, options.rank, options.size));
  }
  RETURN_IF_ERROR(check_key(key));
  std::vector<Descriptor> sockets;
  if (options.size > 1) {
    auto joined = join_by_tcp(options, store, key);
    if (!joined.ok()) return joined.status().at(fmt::format("group {}, rank {}", options.name, options.rank));
    sockets = std::move(joined).value();
  }
  return std::unique_ptr<TcpNetwork>(
      new TcpNetwork(options.rank, options.size, std::make_shared<TcpHub>(std::move(sockets))));
}

std::unique_ptr<Communicator> TcpNetwork::group(const std::string& name, const std::vector<int>& members,
                                                double timeout_seconds) const {
  const auto own = std::ranges::find(members, rank_);
  CHECK(own != members.end(), "a rank joins the groups that it is in");
  const uint64_t channel = checksum(fmt::format("{} {}", name, fmt::join(members, ",")));
  std::vector<TcpCommunicator::Peer> peers;
  const std::lock_guard lock(hub_->mutex());
  for (const int member : members) {
    CHECK(member >= 0 && member < size_, "a group's members are ranks of the network");
    auto& peer = peers.emplace_back();
    if (member == rank_) continue;
    peer.connection = &hub_->connection(member);
    peer.port = &peer.connection->port(channel);
    CHECK(!peer.port->opened, "two groups differ in name or members");
    peer.port->opened = true;
  }
  return std::make_unique<TcpCommunicator>(GroupOptions{.name = name,
                                                        .rank = static_cast<int>(own - members.begin()),
                                                        .size = static_cast<int>(members.size()),
                                                        .timeout_seconds = timeout_seconds},
                                           hub_, std::move(peers));
}

Result<std::unique_ptr<Communicator>> join_tcp_group(const GroupOptions& options, KeyValueStore& store,
                                                     const std::string& key, const std::string& interface) {
  ASSIGN_OR_RETURN(const auto network, TcpNetwork::join({.name = options.name,
                                                         .rank = options.rank,
                                                         .size = options.size,
                                                         .timeout_seconds = options.timeout_seconds,
                                                         .interface = interface},
                                                        store, key));
  std::vector<int> all;
  for (int rank = 0; rank < options.size; ++rank) all.push_back(rank);
  return network->group(options.name, all, options.timeout_seconds);
}

}  // namespace colossus
