#include "comm/tcp_socket.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>
#include <vector>

namespace colossus {
namespace {

struct FreeInterfaces {
  void operator()(ifaddrs* all) const { ::freeifaddrs(all); }
};
struct FreeAddresses {
  void operator()(addrinfo* all) const { ::freeaddrinfo(all); }
};

size_t size_of_family(int family) {
  return family == AF_INET ? sizeof(sockaddr_in) : family == AF_INET6 ? sizeof(sockaddr_in6) : 0;
}

Result<std::vector<SocketAddress>> addresses_of_host() {
  std::array<char, 256> name{};
  const addrinfo wanted{.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  addrinfo* found = nullptr;
  const int error = ::gethostname(name.data(), name.size() - 1) != 0
                        ? EAI_NONAME
                        : ::getaddrinfo(name.data(), nullptr, &wanted, &found);
  const std::unique_ptr<addrinfo, FreeAddresses> all(found);
  if (error != 0) {
    return invalid(fmt::format("the host name \"{}\" has no address ({}); name the network interface to use",
                               name.data(), ::gai_strerror(error)));
  }
  std::vector<SocketAddress> addresses;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next)
    if (size_of_family(each->ai_family) != 0) addresses.emplace_back(each->ai_addr, each->ai_addrlen);
  return addresses;
}

Result<std::vector<SocketAddress>> addresses_of_interface(const std::string& interface) {
  ifaddrs* found = nullptr;
  if (::getifaddrs(&found) != 0) return unavailable("cannot list the network interfaces");
  const std::unique_ptr<ifaddrs, FreeInterfaces> all(found);
  std::vector<SocketAddress> addresses;
  std::vector<std::string> names;
  for (const ifaddrs* each = found; each != nullptr; each = each->ifa_next) {
    const size_t size = each->ifa_addr == nullptr ? 0 : size_of_family(each->ifa_addr->sa_family);
    if (size == 0) continue;
    if (interface == each->ifa_name) addresses.emplace_back(each->ifa_addr, size);
    if (std::ranges::find(names, each->ifa_name) == names.end()) names.emplace_back(each->ifa_name);
  }
  if (!addresses.empty()) return addresses;
  return invalid(
      fmt::format("no network interface \"{}\" with an address; there are: {}", interface, fmt::join(names, ", ")));
}

// Small messages at once: what can be said together is written together here.
void send_without_delay(const Descriptor& socket) {
  const int on = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

Result<Descriptor> make_socket(int family) {
  Descriptor socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return unavailable("cannot make a socket: " + system_text(errno));
  return socket;
}

Result<Listener> listen_at(const SocketAddress& address) {
  ASSIGN_OR_RETURN(Descriptor socket, make_socket(address.get()->sa_family));
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  if (::bind(socket.get(), address.get(), address.size()) != 0 || ::listen(socket.get(), SOMAXCONN) != 0 ||
      ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&bound), &size) != 0) {
    return unavailable(fmt::format("cannot listen on {}: {}", address.text(), system_text(errno)));
  }
  return Listener{std::move(socket), SocketAddress(reinterpret_cast<const sockaddr*>(&bound), size)};
}

}  // namespace

std::string system_text(int error) { return std::generic_category().message(error); }

Descriptor::~Descriptor() {
  if (valid()) ::close(number_);
}

SocketAddress::SocketAddress(const sockaddr* address, size_t size)
    : size_(static_cast<socklen_t>(std::min(size, kWireBytes))) {
  std::memcpy(&storage_, address, size_);
}

SocketAddress::Wire SocketAddress::wire() const {
  Wire wire{};
  std::memcpy(wire.data(), &storage_, size_);
  return wire;
}

Result<SocketAddress> SocketAddress::from_wire(const Wire& wire) {
  sa_family_t family = AF_UNSPEC;
  std::memcpy(&family, wire.data() + offsetof(sockaddr, sa_family), sizeof(family));
  const size_t size = size_of_family(family);
  if (size == 0) return invalid(fmt::format("an address of the unknown family {}", family));
  return SocketAddress(reinterpret_cast<const sockaddr*>(wire.data()), size);
}

std::string SocketAddress::text() const {
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (::getnameinfo(get(), size_, host.data(), host.size(), port.data(), port.size(),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return "an unknown address";
  const bool brackets = storage_.ss_family == AF_INET6;
  return fmt::format("{}{}{}:{}", brackets ? "[" : "", host.data(), brackets ? "]" : "", port.data());
}

Result<Listener> listen_on(const std::string& interface) {
  ASSIGN_OR_RETURN(const auto addresses, interface.empty() ? addresses_of_host() : addresses_of_interface(interface));
  Status first;
  for (const SocketAddress& address : addresses) {
    auto listener = listen_at(address);
    if (listener.ok()) return listener;
    if (first.ok()) first = listener.status();
  }
  return first.ok() ? invalid("the host name has no address of IP; name the network interface to use") : first;
}

Result<Descriptor> start_connecting(const SocketAddress& address) {
  ASSIGN_OR_RETURN(Descriptor socket, make_socket(address.get()->sa_family));
  send_without_delay(socket);
  if (::connect(socket.get(), address.get(), address.size()) != 0 && errno != EINPROGRESS)
    return unavailable(system_text(errno));
  return socket;
}

int connect_error(const Descriptor& socket) {
  int error = 0;
  socklen_t size = sizeof(error);
  return ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

Descriptor accept_one(const Descriptor& listener) {
  Descriptor socket(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket.valid()) send_without_delay(socket);
  return socket;
}

}  // namespace colossus
