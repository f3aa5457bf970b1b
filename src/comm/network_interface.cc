#include "comm/network_interface.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

namespace colossus {
namespace {

struct FreeInterfaces {
  void operator()(ifaddrs* all) const { ::freeifaddrs(all); }
};
using Interfaces = std::unique_ptr<ifaddrs, FreeInterfaces>;
struct FreeAddresses {
  void operator()(addrinfo* all) const { ::freeaddrinfo(all); }
};

Interfaces all_interfaces() {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) all = nullptr;
  return Interfaces(all);
}

bool same_address(const sockaddr* a, const sockaddr* b) {
  if (a == nullptr || a->sa_family != b->sa_family) return false;
  if (a->sa_family == AF_INET)
    return std::memcmp(&reinterpret_cast<const sockaddr_in*>(a)->sin_addr,
                       &reinterpret_cast<const sockaddr_in*>(b)->sin_addr, sizeof(in_addr)) == 0;
  return a->sa_family == AF_INET6 &&
         std::memcmp(&reinterpret_cast<const sockaddr_in6*>(a)->sin6_addr,
                     &reinterpret_cast<const sockaddr_in6*>(b)->sin6_addr, sizeof(in6_addr)) == 0;
}

// The address this machine would send from; "connecting" a datagram socket sends nothing.
bool source_address(const sockaddr* to, socklen_t size, sockaddr_storage& from) {
  const int descriptor = ::socket(to->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return false;
  socklen_t from_size = sizeof(from);
  const bool found = ::connect(descriptor, to, size) == 0 &&
                     ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&from), &from_size) == 0;
  ::close(descriptor);
  return found;
}

std::string interface_with(const sockaddr* address) {
  const Interfaces all = all_interfaces();
  for (const ifaddrs* each = all.get(); each != nullptr; each = each->ifa_next)
    if (same_address(each->ifa_addr, address)) return each->ifa_name;
  return "";
}

std::vector<std::string> interfaces_to_others() {
  std::vector<std::string> names;
  const Interfaces all = all_interfaces();
  for (const ifaddrs* each = all.get(); each != nullptr; each = each->ifa_next) {
    const int family = each->ifa_addr == nullptr ? AF_UNSPEC : each->ifa_addr->sa_family;
    if ((family != AF_INET && family != AF_INET6) || (each->ifa_flags & IFF_LOOPBACK) != 0 ||
        (each->ifa_flags & IFF_UP) == 0)
      continue;
    if (std::ranges::find(names, each->ifa_name) == names.end()) names.emplace_back(each->ifa_name);
  }
  return names;
}

Result<std::string> interface_towards_host(const std::string& endpoint) {
  const size_t colon = endpoint.rfind(':');
  std::string host = endpoint.substr(0, colon);
  const std::string port = colon == std::string::npos ? "1" : endpoint.substr(colon + 1);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  const addrinfo wanted{.ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM};
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), port.c_str(), &wanted, &found);
  const std::unique_ptr<addrinfo, FreeAddresses> addresses(found);
  if (error != 0) return invalid(fmt::format("the host \"{}\" has no address: {}", host, ::gai_strerror(error)));
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    sockaddr_storage from{};
    if (!source_address(each->ai_addr, each->ai_addrlen, from)) continue;
    if (std::string name = interface_with(reinterpret_cast<const sockaddr*>(&from)); !name.empty()) return name;
  }
  return invalid(fmt::format("no network interface leads to {}; name one with --interface", endpoint));
}

}  // namespace

Result<std::string> interface_towards(const std::string& endpoint) {
  if (!endpoint.empty()) return interface_towards_host(endpoint);
  // An address that is nobody's (RFC 5737): where packets to the world would leave.
  const auto to_the_world = interface_towards_host("192.0.2.1:9");
  if (to_the_world.ok()) return to_the_world;
  const std::vector<std::string> names = interfaces_to_others();
  if (names.size() == 1) return names.front();
  if (names.empty()) return invalid("this machine has no network interface that leads to others");
  return invalid(fmt::format("ranks on other machines may be reached through {}; name one with --interface",
                             fmt::join(names, ", ")));
}

}  // namespace colossus
