// The only file that knows Gloo. It uses Gloo's connections ("pairs") and messages ("unbound buffers") but not its
// collectives: those forward bytes through third ranks, which then fail without knowing whom they wait for.
//
// What Gloo of 2022 does on the way, and what is done about it here:
// - A message is written only when the receiver has asked for it. A peer that dies in the middle of one makes Gloo
//   close the pair, but only messages that had not begun hear of it. So a receive that never begins (the "canary") is
//   left with every peer, and a thread waits for it to fail.
// - A wait that runs out of time makes Gloo close all pairs of the group. Hence none is made shorter than the deadline,
//   and a wait is ended early with abortWaitRecv() and abortWaitSend().
// - A message that is longer than the receiver's buffer ends the process. The size is part of a message's slot, so that
//   messages of other sizes do not meet.
// - It writes to sockets whose other end may be gone without asking for EPIPE: SIGPIPE is blocked around it.
// - Waiting for a connection takes five times the timeout that was set.
// - A host name that does not resolve is a wild pointer, an interface without an address a leak: both are looked up
// here
//   first.
#include <fmt/format.h>
#include <gloo/common/error.h>
#include <gloo/transport/context.h>
#include <gloo/transport/device.h>
#include <gloo/transport/tcp/address.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "base/broken_pipe.h"
#include "base/clock.h"
#include "comm/communicator.h"

namespace colossus {
namespace {

using gloo::transport::UnboundBuffer;
using std::chrono::milliseconds;

// Not a MessageKind. Nothing is ever sent in these slots.
constexpr uint64_t kCanarySlot = uint64_t{0xfe} << 56;
constexpr uint64_t kProbeSlot = uint64_t{0xff} << 56;
// Gloo adds it to the time in nanoseconds: 64 bits must hold the sum.
constexpr milliseconds kForever = std::chrono::hours(24 * 365 * 10);

// Without the place in Gloo's sources that its messages begin with.
std::string plain_text(const std::exception& error) {
  const std::string_view text = error.what();
  const size_t end = text.starts_with('[') ? text.find("] ") : std::string_view::npos;
  return std::string(end == std::string_view::npos ? text : text.substr(end + 2));
}

Status check_host_name() {
  std::array<char, 256> name{};
  addrinfo* found = nullptr;
  const int error = ::gethostname(name.data(), name.size() - 1) != 0
                        ? EAI_NONAME
                        : ::getaddrinfo(name.data(), nullptr, nullptr, &found);
  if (found != nullptr) ::freeaddrinfo(found);
  if (error == 0) return ok_status();
  return invalid(fmt::format("the host name \"{}\" has no address ({}); name the network interface to use", name.data(),
                             ::gai_strerror(error)));
}

Status check_interface(const std::string& interface) {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return unavailable("cannot list the network interfaces");
  bool found = false;
  std::vector<std::string> names;
  for (const ifaddrs* each = all; each != nullptr; each = each->ifa_next) {
    const int family = each->ifa_addr == nullptr ? AF_UNSPEC : each->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    found = found || interface == each->ifa_name;
    if (std::find(names.begin(), names.end(), each->ifa_name) == names.end()) names.emplace_back(each->ifa_name);
  }
  ::freeifaddrs(all);
  if (found) return ok_status();
  return invalid(
      fmt::format("no network interface \"{}\" with an address; there are: {}", interface, fmt::join(names, ", ")));
}

milliseconds time_until(double deadline) {
  return milliseconds(std::max<int64_t>(1, std::llround(std::ceil(1000 * (deadline - monotonic_seconds())))));
}

// One message of an exchange.
struct Transfer {
  int peer = 0;
  bool outgoing = false;
  std::unique_ptr<UnboundBuffer> buffer;
  bool done = false;

  // Sets done; not when it was woken by wake(). Throws when the time is over (Gloo has then closed every connection of
  // the group) or the connection is lost.
  void wait(milliseconds timeout) {
    done = outgoing ? buffer->waitSend(nullptr, timeout) : buffer->waitRecv(nullptr, timeout);
  }
  void wake() { outgoing ? buffer->abortWaitSend() : buffer->abortWaitRecv(); }
};

struct LostRank {
  int rank;
  std::string why;
};

class GlooCommunicator final : public Communicator {
 public:
  explicit GlooCommunicator(GroupOptions options) : Communicator(std::move(options)) {}

  ~GlooCommunicator() override {
    {
      const std::lock_guard lock(mutex_);
      leaving_ = true;
      if (canary_ != nullptr) canary_->abortWaitRecv();
    }
    if (watcher_.joinable()) watcher_.join();
  }

  // Connects to all others, which do the same.
  Status join(KeyValueStore& store, const std::string& group_key, const std::string& interface) {
    if (size() == 1) return ok_status();
    RETURN_IF_ERROR((interface.empty() ? check_host_name() : check_interface(interface)).at(place()));
    const NoBrokenPipeSignal guard;  // Gloo's thread, which is made here, inherits it
    const double deadline = monotonic_seconds() + options().timeout_seconds;
    try {
      gloo::transport::tcp::attr attributes;
      attributes.iface = interface;
      device_ = gloo::transport::tcp::CreateDevice(attributes);
      context_ = device_->createContext(rank(), size());
      // Gloo waits five times as long for a connection.
      context_->setTimeout(std::max(milliseconds(1), time_until(deadline) / 5));
      for (int peer = 0; peer < size(); ++peer) {
        if (peer != rank()) context_->createPair(peer);
      }
    } catch (const std::exception& error) {
      return unavailable(fmt::format("cannot listen on {}: {}",
                                     interface.empty() ? "the address of the host name" : interface, plain_text(error)))
          .at(place());
    }
    RETURN_IF_ERROR(announce(store, group_key).at(place()));
    // All before the first connection: Gloo goes on for the whole time with one that a rank that left again refuses.
    std::vector<std::string> addresses(static_cast<size_t>(size()));
    for (int peer = 0; peer < size(); ++peer)
      if (peer != rank())
        RETURN_IF_ERROR(find(peer, store, group_key, deadline, addresses[static_cast<size_t>(peer)]).at(place()));
    for (int peer = 0; peer < size(); ++peer) {
      if (peer != rank()) RETURN_IF_ERROR(connect(peer, addresses[static_cast<size_t>(peer)]).at(place()));
    }
    watcher_ = std::thread([this] { watch(); });
    RETURN_IF_ERROR(barrier());
    // Everyone has read the addresses.
    static_cast<void>(store.remove(address_key(group_key, rank())));
    return ok_status();
  }

 protected:
  Status do_exchange(const Exchange& exchange, double deadline) override {
    std::vector<Transfer> transfers;
    {
      const NoBrokenPipeSignal guard;
      const std::lock_guard lock(mutex_);
      if (aborted_) return interrupted("aborted: " + *aborted_);
      RETURN_IF_ERROR(post(exchange, transfers));
      transfers_ = &transfers;
    }
    const Status status = wait_for_all(transfers, deadline);
    const std::lock_guard lock(mutex_);
    transfers_ = nullptr;
    return status;
  }

  void do_abort(const std::string& reason) override {
    {
      const std::lock_guard lock(mutex_);
      if (!aborted_) aborted_ = reason;
      wake_all();
    }
    // Each takes up to 10 ms: Gloo waits for its thread to come round.
    const std::lock_guard lock(closing_mutex_);
    for (int peer = 0; peer < size() && context_ != nullptr; ++peer) {
      if (peer != rank() && context_->getPair(peer) != nullptr) context_->getPair(peer)->close();
    }
  }

 private:
  std::string place() const { return fmt::format("group {}, rank {}", name(), rank()); }

  static std::string address_key(const std::string& group_key, int rank) {
    return fmt::format("{}/address.{}", group_key, rank);
  }

  // The address that each other rank shall connect to, in the order of the ranks, with nothing for this one.
  Status announce(KeyValueStore& store, const std::string& group_key) {
    std::string addresses;
    for (int peer = 0; peer < size(); ++peer) {
      if (peer == rank()) continue;
      const std::vector<char> bytes = context_->getPair(peer)->address().bytes();
      addresses.append(bytes.begin(), bytes.end());
    }
    const std::string key = address_key(group_key, rank());
    ASSIGN_OR_RETURN(const bool first, store.compare_and_set(key, std::nullopt, addresses));
    if (first) return ok_status();
    return invalid(fmt::format("\"{}\" exists already: two processes join as rank {}, or the group key was used before",
                               key, rank()));
  }

  // Waits for the peer's addresses.
  Status find(int peer, KeyValueStore& store, const std::string& group_key, double deadline, std::string& found) {
    Result<std::string> addresses =
        store.wait_for(address_key(group_key, peer), std::max(0.0, deadline - monotonic_seconds()));
    if (!addresses.ok()) {
      return Status(addresses.status().code(), fmt::format("rank {} did not come within {:g} s: {}", peer,
                                                           options().timeout_seconds, addresses.status().message()));
    }
    const auto num_addresses = static_cast<size_t>(size()) - 1;
    const size_t each = context_->getPair(peer)->address().bytes().size();
    if (addresses->size() != num_addresses * each) {
      return invalid(
          fmt::format("rank {} came with {} bytes of addresses, {} are needed: it joins a group of another "
                      "size, or is another build",
                      peer, addresses->size(), num_addresses * each));
    }
    found = std::move(*addresses);
    return ok_status();
  }

  Status connect(int peer, const std::string& addresses) {
    const size_t each = context_->getPair(peer)->address().bytes().size();
    // Ours is after those of the ranks before us, the peer itself left out.
    const size_t index = static_cast<size_t>(rank() < peer ? rank() : rank() - 1);
    const char* begin = addresses.data() + index * each;
    const std::vector<char> bytes(begin, begin + each);
    try {
      context_->getPair(peer)->connect(bytes);
    } catch (const std::exception& error) {
      return unavailable(fmt::format("no connection with rank {} at {}: {}", peer,
                                     gloo::transport::tcp::Address(bytes).str(), plain_text(error)));
    }
    return ok_status();
  }

  static uint64_t slot_of(MessageKind kind, size_t size) { return uint64_t{static_cast<uint8_t>(kind)} << 56 | size; }

  // Hands all messages to Gloo, receives first, since what was asked for can be sent at once.
  Status post(const Exchange& exchange, std::vector<Transfer>& transfers) {
    std::vector<LostRank> lost;
    transfers.reserve(exchange.receives.size() + exchange.sends.size());
    const auto add = [&](int peer, bool outgoing, void* bytes, size_t size) {
      Transfer& transfer = transfers.emplace_back();
      transfer.peer = peer;
      transfer.outgoing = outgoing;
      try {
        transfer.buffer = context_->createUnboundBuffer(bytes, size);
        const uint64_t slot = slot_of(exchange.kind, size);
        outgoing ? transfer.buffer->send(peer, slot) : transfer.buffer->recv(peer, slot);
      } catch (const std::exception& error) {
        lost.push_back({peer, plain_text(error)});
      }
    };
    for (const Incoming& receive : exchange.receives) {
      add(receive.peer, false, receive.bytes.data(), receive.bytes.size());
    }
    for (const Outgoing& send : exchange.sends) {
      // Gloo has one type of buffer for both ways and only reads this one.
      add(send.peer, true, const_cast<std::byte*>(send.bytes.data()), send.bytes.size());
    }
    return lost.empty() ? ok_status() : lost_error(lost);
  }

  Status wait_for_all(std::vector<Transfer>& transfers, double deadline) {
    for (Transfer& transfer : transfers) {
      while (!transfer.done) {
        try {
          transfer.wait(time_until(deadline));
        } catch (const std::exception&) {
          // What happened is looked for below, for all transfers.
        }
        if (!transfer.done) RETURN_IF_ERROR(look_around(transfers, deadline));
      }
    }
    return ok_status();
  }

  // Why a wait ended without its message: an error, or ok if it was woken for something that does not concern this
  // exchange.
  Status look_around(std::vector<Transfer>& transfers, double deadline) {
    {
      const std::lock_guard lock(mutex_);
      if (aborted_) return interrupted("aborted: " + *aborted_);
    }
    const bool late = monotonic_seconds() >= deadline;
    std::vector<LostRank> lost;
    std::vector<int> silent;
    for (Transfer& transfer : transfers) {
      if (transfer.done) continue;
      std::optional<LostRank> gone;
      if (!late) gone = probe(transfer.peer);
      if (!late && !gone) continue;
      // What came before the end of the connection counts.
      if (settle(transfer)) continue;
      if (gone) lost.push_back(*gone);
      if (late) silent.push_back(transfer.peer);
    }
    if (!lost.empty()) return lost_error(lost);
    if (silent.empty()) return ok_status();
    std::sort(silent.begin(), silent.end());
    silent.erase(std::unique(silent.begin(), silent.end()), silent.end());
    return unavailable(fmt::format("no answer from {} within {:g} s", rank_list(silent), options().timeout_seconds));
  }

  // Whether a transfer that can make no progress any more was done before.
  static bool settle(Transfer& transfer) {
    try {
      // The first may only take back the wake-up of a wait that was not going on.
      for (int i = 0; i < 2 && !transfer.done; ++i) transfer.wait(milliseconds(1));
    } catch (const std::exception&) {
    }
    return transfer.done;
  }

  // Whether the connection is lost, and how. Gloo tells it only to those who send: an announcement that the peer
  // ignores.
  std::optional<LostRank> probe(int peer) {
    const NoBrokenPipeSignal guard;
    try {
      const std::unique_ptr<UnboundBuffer> nothing = context_->createUnboundBuffer(nullptr, 0);
      nothing->send(peer, kProbeSlot);
      return std::nullopt;
    } catch (const std::exception& error) {
      return LostRank{peer, plain_text(error)};
    }
  }

  static Status lost_error(std::vector<LostRank>& lost) {
    std::sort(lost.begin(), lost.end(), [](const LostRank& a, const LostRank& b) { return a.rank < b.rank; });
    std::vector<int> ranks;
    for (const LostRank& one : lost) {
      if (ranks.empty() || ranks.back() != one.rank) ranks.push_back(one.rank);
    }
    return unavailable(fmt::format("lost {}: {}", rank_list(ranks), lost.front().why));
  }

  // With mutex_ held.
  void wake_all() {
    if (transfers_ == nullptr) return;
    for (Transfer& transfer : *transfers_) transfer.wake();
  }

  // Waits for connections to be lost, and wakes the exchange in progress to look whether it minds.
  void watch() {
    const NoBrokenPipeSignal guard;
    std::vector<int> alive;
    for (int peer = 0; peer < size(); ++peer) {
      if (peer != rank()) alive.push_back(peer);
    }
    while (!alive.empty()) {
      {
        const std::lock_guard lock(mutex_);
        if (leaving_) return;
        canary_ = context_->createUnboundBuffer(&canary_byte_, 1);
        std::erase_if(alive, [&](int peer) { return !try_receive_canary(peer); });
        wake_all();
      }
      if (alive.empty()) return;
      try {
        // False when this end leaves.
        canary_->waitRecv(nullptr, kForever);
      } catch (const std::exception&) {
        // A connection is lost; which one shows when the next canary is left.
      }
    }
  }

  bool try_receive_canary(int peer) {
    try {
      canary_->recv(peer, kCanarySlot);
      return true;
    } catch (const std::exception&) {
      return false;
    }
  }

  std::shared_ptr<gloo::transport::Device> device_;
  std::shared_ptr<gloo::transport::Context> context_;
  std::mutex closing_mutex_;
  std::mutex mutex_;
  std::optional<std::string> aborted_;
  bool leaving_ = false;
  std::vector<Transfer>* transfers_ = nullptr;  // of the exchange in progress
  std::unique_ptr<UnboundBuffer> canary_;
  std::byte canary_byte_{};
  std::thread watcher_;
};

}  // namespace

Result<std::unique_ptr<Communicator>> join_gloo_group(const GroupOptions& options, KeyValueStore& store,
                                                      const std::string& group_key, const std::string& interface) {
  if (options.size < 1 || options.rank < 0 || options.rank >= options.size) {
    return invalid(
        fmt::format("[group {}] rank {} of a group of {} cannot join", options.name, options.rank, options.size));
  }
  RETURN_IF_ERROR(check_key(group_key));
  auto end = std::make_unique<GlooCommunicator>(options);
  RETURN_IF_ERROR(end->join(store, group_key, interface));
  return std::unique_ptr<Communicator>(std::move(end));
}

}  // namespace colossus
