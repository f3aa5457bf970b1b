// Sockets of TCP as values: descriptors that close themselves, addresses that can be sent and printed.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "base/status.h"

namespace colossus {

class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }

  int get() const { return number_; }
  bool valid() const { return number_ >= 0; }

 private:
  int number_;
};

// IPv4 or IPv6, with a port.
class SocketAddress {
 public:
  static constexpr size_t kWireBytes = 28;
  using Wire = std::array<std::byte, kWireBytes>;

  SocketAddress() = default;
  SocketAddress(const sockaddr* address, size_t size);

  // For the machines of one run, which are of one kind.
  Wire wire() const;
  static Result<SocketAddress> from_wire(const Wire& wire);

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const { return size_; }
  std::string text() const;  // "10.0.0.7:40123", "[fe80::1]:40123"

 private:
  sockaddr_storage storage_{};
  socklen_t size_ = 0;
};

// What the system says of an error number.
std::string system_text(int error);

struct Listener {
  Descriptor socket;
  SocketAddress address;
};

// Listens at a free port of the network interface; "": of the address that the host name has. No socket here blocks.
Result<Listener> listen_on(const std::string& interface);

// Begins to connect. Once it can be written to, connect_error() says how that went.
Result<Descriptor> start_connecting(const SocketAddress& address);
int connect_error(const Descriptor& socket);  // 0: connected

// The next who connected; none: not valid().
Descriptor accept_one(const Descriptor& listener);

}  // namespace colossus
