#include "comm/tcp_join.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <random>

#include "base/bytes.h"
#include "base/clock.h"
#include "comm/flight_recorder.h"

namespace colossus {
namespace {

using Secret = std::array<std::byte, 16>;

// Said first on each connection by whoever made it.
struct Hello {
  std::array<char, 8> magic = {'c', 'o', 'l', 'o', 'n', 'e', 't', '1'};
  Secret secret{};
  uint32_t rank = 0;
  uint32_t size = 0;
  SocketAddress::Wire address{};  // where this rank listens
};
static_assert(sizeof(Hello) == 60);

// Of rank 0, before `num_bytes` of text, or of all ranks' addresses.
struct Reply {
  enum Kind : uint32_t { kWelcome, kRefused, kFailed };
  uint32_t kind = kWelcome;
  uint32_t num_bytes = 0;
};

// What rank 0 puts into the store.
struct MeetingPlace {
  Secret secret{};
  SocketAddress::Wire address{};
};

constexpr double kLookIntoStoreSeconds = 0.25;

// A connection that was accepted and has not said all of its hello.
struct Newcomer {
  Descriptor socket;
  Hello hello;
  size_t num_bytes = 0;
  bool gone = false;

  // Whether the hello is whole. Reads nothing that comes behind it.
  bool read() {
    const auto rest = writable_bytes_of(hello).subspan(num_bytes);
    const ssize_t got = ::recv(socket.get(), rest.data(), rest.size(), MSG_DONTWAIT);
    if (got > 0) num_bytes += static_cast<size_t>(got);
    gone = got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
    return num_bytes == sizeof(hello);
  }
};

class Meeting {
 public:
  Meeting(const NetworkOptions& options, KeyValueStore& store, const std::string& key)
      : options_(options),
        store_(store),
        key_(key),
        deadline_(monotonic_seconds() + options.timeout_seconds),
        next_look_(monotonic_seconds() + kLookIntoStoreSeconds),
        sockets_(static_cast<size_t>(options.size)),
        addresses_(sockets_.size()) {}

  Result<std::vector<Descriptor>> hold() {
    ASSIGN_OR_RETURN(listener_, listen_on(options_.interface));
    addresses_[static_cast<size_t>(options_.rank)] = listener_.address.wire();
    if (options_.rank == 0) {
      RETURN_IF_ERROR(invite());
      const Status gathered = gather();
      RETURN_IF_ERROR(answer_all(gathered));
    } else {
      RETURN_IF_ERROR(come());
      RETURN_IF_ERROR(connect_with_others());
    }
    return std::move(sockets_);
  }

 private:
  Descriptor& socket_of(int rank) { return sockets_[static_cast<size_t>(rank)]; }
  bool late() const { return monotonic_seconds() >= deadline_; }

  // Until one of them is ready, at most until the deadline or for a moment. An error once the store has one: it may
  // know that this meeting has become pointless.
  Status wait(std::vector<pollfd>& sockets) {
    const double until = std::min(deadline_, next_look_);
    const double seconds = std::max(0.0, until - monotonic_seconds());
    ::poll(sockets.data(), sockets.size(), static_cast<int>(std::ceil(1000 * seconds)));
    if (monotonic_seconds() < next_look_) return ok_status();
    next_look_ = monotonic_seconds() + kLookIntoStoreSeconds;
    return store_.get(key_).status();
  }
  Status wait_for(const Descriptor& socket, short event) {
    std::vector<pollfd> sockets = {{.fd = socket.get(), .events = event, .revents = 0}};
    return wait(sockets);
  }

  // Of rank 0.
  Status invite() {
    std::random_device random;
    for (std::byte& each : secret_) each = static_cast<std::byte>(random());
    const MeetingPlace place{.secret = secret_, .address = addresses_.front()};
    ASSIGN_OR_RETURN(
        const bool first,
        store_.compare_and_set(key_, std::nullopt, std::string(reinterpret_cast<const char*>(&place), sizeof(place))));
    if (first) return ok_status();
    return invalid(
        fmt::format("\"{}\" exists already: two processes join as rank 0, or the key was used before", key_));
  }

  Status gather() {
    std::vector<Newcomer> newcomers;
    while (true) {
      std::vector<int> missing;
      std::vector<pollfd> sockets = {{.fd = listener_.socket.get(), .events = POLLIN, .revents = 0}};
      for (int rank = 1; rank < options_.size; ++rank) {
        if (!socket_of(rank).valid())
          missing.push_back(rank);
        else
          sockets.push_back({.fd = socket_of(rank).get(), .events = POLLIN, .revents = 0});
      }
      if (missing.empty()) return ok_status();
      if (late())
        return unavailable(fmt::format("{} did not come within {:g} s", rank_list(missing), options_.timeout_seconds));
      for (const Newcomer& newcomer : newcomers)
        sockets.push_back({.fd = newcomer.socket.get(), .events = POLLIN, .revents = 0});
      RETURN_IF_ERROR(wait(sockets));
      RETURN_IF_ERROR(look_after_those_who_came());
      accept_into(newcomers);
      for (Newcomer& newcomer : newcomers)
        if (newcomer.read()) RETURN_IF_ERROR(admit(newcomer));
      drop_done(newcomers);
    }
  }

  // They have nothing to say before all are there.
  Status look_after_those_who_came() {
    for (int rank = 1; rank < options_.size; ++rank) {
      std::byte nothing{};
      if (socket_of(rank).valid() && ::recv(socket_of(rank).get(), &nothing, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
        return unavailable(fmt::format("lost rank {} while the others were awaited", rank));
    }
    return ok_status();
  }

  void accept_into(std::vector<Newcomer>& newcomers) {
    for (Descriptor socket = accept_one(listener_.socket); socket.valid(); socket = accept_one(listener_.socket))
      newcomers.push_back({.socket = std::move(socket), .hello = {}, .num_bytes = 0, .gone = false});
  }

  static void drop_done(std::vector<Newcomer>& newcomers) {
    std::erase_if(newcomers, [](const Newcomer& each) { return each.gone || each.num_bytes == sizeof(Hello); });
  }

  bool knows_the_secret(const Hello& hello) const {
    return hello.magic == Hello().magic && hello.secret == secret_ && hello.rank < sockets_.size();
  }

  // One who came to rank 0. Strangers are left standing.
  Status admit(Newcomer& newcomer) {
    const Hello& hello = newcomer.hello;
    if (hello.magic != Hello().magic || hello.secret != secret_) return ok_status();
    if (hello.size != sockets_.size())
      return refuse(newcomer, fmt::format("rank {} joins a group of another size: {}, not {}", hello.rank, hello.size,
                                          sockets_.size()));
    if (!knows_the_secret(hello) || hello.rank == 0 || sockets_[hello.rank].valid()) {
      static_cast<void>(refuse(newcomer, fmt::format("two processes join as rank {}", hello.rank)));
      return ok_status();
    }
    sockets_[hello.rank] = std::move(newcomer.socket);
    addresses_[hello.rank] = hello.address;
    return ok_status();
  }

  Status refuse(const Newcomer& newcomer, const std::string& why) {
    static_cast<void>(reply(newcomer.socket, Reply::kRefused, std::as_bytes(std::span(why))));
    return invalid(why);
  }

  // All have come, or it is known that not all will.
  Status answer_all(const Status& gathered) {
    static_cast<void>(store_.remove(key_));
    const std::string& why = gathered.message();
    for (int rank = 1; rank < options_.size; ++rank) {
      if (!socket_of(rank).valid()) continue;
      const Status sent = gathered.ok() ? reply(socket_of(rank), Reply::kWelcome, std::as_bytes(std::span(addresses_)))
                                        : reply(socket_of(rank), Reply::kFailed, std::as_bytes(std::span(why)));
      if (gathered.ok() && !sent.ok())
        return Status(sent.code(), fmt::format("lost rank {}: {}", rank, sent.message()));
    }
    return gathered;
  }

  Status reply(const Descriptor& socket, Reply::Kind kind, std::span<const std::byte> bytes) {
    const Reply head{.kind = kind, .num_bytes = static_cast<uint32_t>(bytes.size())};
    RETURN_IF_ERROR(send_all(socket, bytes_of(head)));
    return send_all(socket, bytes);
  }

  Status send_all(const Descriptor& socket, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent > 0) {
        bytes = bytes.subspan(static_cast<size_t>(sent));
        continue;
      }
      if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) return unavailable(system_text(errno));
      if (late()) return unavailable(fmt::format("no answer within {:g} s", options_.timeout_seconds));
      RETURN_IF_ERROR(wait_for(socket, POLLOUT));
    }
    return ok_status();
  }

  Status receive_all(const Descriptor& socket, std::span<std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t got = ::recv(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (got > 0) {
        bytes = bytes.subspan(static_cast<size_t>(got));
        continue;
      }
      if (got == 0) return unavailable("it closed the connection");
      if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) return unavailable(system_text(errno));
      if (late()) return unavailable(fmt::format("no answer within {:g} s", options_.timeout_seconds));
      RETURN_IF_ERROR(wait_for(socket, POLLIN));
    }
    return ok_status();
  }

  // To rank 0, as another.
  Status come() {
    const auto value = store_.wait_for(key_, options_.timeout_seconds);
    if (!value.ok())
      return Status(value.status().code(), fmt::format("rank 0 did not come within {:g} s: {}",
                                                       options_.timeout_seconds, value.status().message()));
    MeetingPlace place;
    if (value->size() != sizeof(place))
      return invalid(fmt::format("\"{}\" holds {} bytes, {} are needed: rank 0 is another build", key_, value->size(),
                                 sizeof(place)));
    std::memcpy(&place, value->data(), sizeof(place));
    secret_ = place.secret;
    addresses_.front() = place.address;
    ASSIGN_OR_RETURN(sockets_.front(), connected_with_first());
    return ask_first();
  }

  Result<Descriptor> connected_with_first() {
    ASSIGN_OR_RETURN(const SocketAddress address, SocketAddress::from_wire(addresses_.front()));
    auto socket = start_connecting(address);
    if (!socket.ok()) return no_connection(0, socket.status().message());
    RETURN_IF_ERROR(wait_until_connected(*socket));
    if (const int error = connect_error(*socket); error != 0) return no_connection(0, system_text(error));
    return socket;
  }

  Status wait_until_connected(const Descriptor& socket) {
    while (true) {
      std::vector<pollfd> sockets = {{.fd = socket.get(), .events = POLLOUT, .revents = 0}};
      RETURN_IF_ERROR(wait(sockets));
      if (sockets.front().revents != 0) return ok_status();
      if (late()) return no_connection(0, fmt::format("no answer within {:g} s", options_.timeout_seconds));
    }
  }

  Status no_connection(int rank, const std::string& why) const {
    const auto address = SocketAddress::from_wire(addresses_[static_cast<size_t>(rank)]);
    return unavailable(
        fmt::format("no connection with rank {} at {}: {}", rank, address.ok() ? address->text() : "?", why));
  }

  Status say_hello(const Descriptor& socket) {
    const Hello hello{.secret = secret_,
                      .rank = static_cast<uint32_t>(options_.rank),
                      .size = static_cast<uint32_t>(options_.size),
                      .address = listener_.address.wire()};
    return send_all(socket, bytes_of(hello));
  }

  Status ask_first() {
    Reply head;
    Status status = say_hello(sockets_.front());
    if (status.ok()) status = receive_all(sockets_.front(), writable_bytes_of(head));
    const auto table = std::as_writable_bytes(std::span(addresses_));
    std::string why(head.kind == Reply::kWelcome ? 0 : std::min<size_t>(head.num_bytes, 4096), '\0');
    if (status.ok() && why.empty() && head.num_bytes != table.size()) status = invalid("it is another build");
    if (status.ok())
      status = receive_all(sockets_.front(), why.empty() ? table : std::as_writable_bytes(std::span(why)));
    if (!status.ok()) return Status(status.code(), "lost rank 0: " + status.message());
    if (why.empty()) return ok_status();
    return head.kind == Reply::kRefused ? invalid(why) : unavailable(why);
  }

  // Those before this rank are called, those behind it call.
  Status connect_with_others() {
    struct Call {
      int rank;
      Descriptor socket;
    };
    std::vector<Call> calls;
    for (int rank = 1; rank < options_.rank; ++rank) {
      ASSIGN_OR_RETURN(const SocketAddress address, SocketAddress::from_wire(addresses_[static_cast<size_t>(rank)]));
      auto socket = start_connecting(address);
      if (!socket.ok()) return no_connection(rank, socket.status().message());
      calls.push_back({rank, std::move(socket).value()});
    }
    std::vector<Newcomer> newcomers;
    while (true) {
      const std::vector<int> missing = ranks_without_connection();
      if (missing.empty()) return ok_status();
      if (late())
        return unavailable(
            fmt::format("no connection with {} within {:g} s", rank_list(missing), options_.timeout_seconds));
      std::vector<pollfd> sockets;
      for (const Call& call : calls) sockets.push_back({.fd = call.socket.get(), .events = POLLOUT, .revents = 0});
      sockets.push_back({.fd = listener_.socket.get(), .events = POLLIN, .revents = 0});
      for (const Newcomer& newcomer : newcomers)
        sockets.push_back({.fd = newcomer.socket.get(), .events = POLLIN, .revents = 0});
      RETURN_IF_ERROR(wait(sockets));
      for (size_t i = 0; i < calls.size(); ++i) {
        if (sockets[i].revents == 0) continue;
        if (const int error = connect_error(calls[i].socket); error != 0)
          return no_connection(calls[i].rank, system_text(error));
        RETURN_IF_ERROR(say_hello(calls[i].socket));
        socket_of(calls[i].rank) = std::move(calls[i].socket);
      }
      std::erase_if(calls, [](const Call& call) { return !call.socket.valid(); });
      accept_into(newcomers);
      for (Newcomer& newcomer : newcomers)
        if (newcomer.read() && knows_the_secret(newcomer.hello) && !sockets_[newcomer.hello.rank].valid())
          sockets_[newcomer.hello.rank] = std::move(newcomer.socket);
      drop_done(newcomers);
    }
  }

  std::vector<int> ranks_without_connection() {
    std::vector<int> ranks;
    for (int rank = 0; rank < options_.size; ++rank)
      if (rank != options_.rank && !socket_of(rank).valid()) ranks.push_back(rank);
    return ranks;
  }

  const NetworkOptions& options_;
  KeyValueStore& store_;
  const std::string& key_;
  const double deadline_;
  double next_look_;
  Listener listener_;
  Secret secret_{};
  std::vector<Descriptor> sockets_;
  std::vector<SocketAddress::Wire> addresses_;  // by rank
};

}  // namespace

Result<std::vector<Descriptor>> join_by_tcp(const NetworkOptions& options, KeyValueStore& store,
                                            const std::string& key) {
  return Meeting(options, store, key).hold();
}

}  // namespace colossus
