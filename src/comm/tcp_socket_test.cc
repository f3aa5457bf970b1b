#include "comm/tcp_socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>

#include <cerrno>
#include <cstring>

namespace colossus {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

void wait_for(const Descriptor& socket, short events) {
  pollfd one{.fd = socket.get(), .events = events, .revents = 0};
  ASSERT_EQ(::poll(&one, 1, 10'000), 1);
}

TEST(TcpSocket, AnInterfaceIsFoundByItsName) {
  const auto listener = listen_on("lo");
  ASSERT_TRUE(listener.ok()) << listener.status().message();
  EXPECT_THAT(listener->address.text(), StartsWith("127.0.0.1:"));
  EXPECT_FALSE(accept_one(listener->socket).valid()) << "nobody connected";
  const auto from = start_connecting(listener->address);
  ASSERT_TRUE(from.ok());
  wait_for(listener->socket, POLLIN);
  const Descriptor to = accept_one(listener->socket);
  ASSERT_TRUE(to.valid());
  wait_for(*from, POLLOUT);
  EXPECT_EQ(connect_error(*from), 0);
}

TEST(TcpSocket, AnInterfaceThatIsNotThereIsToldFromThoseThatAre) {
  const auto listener = listen_on("ib77");
  ASSERT_FALSE(listener.ok());
  EXPECT_THAT(listener.status().message(),
              AllOf(HasSubstr("no network interface \"ib77\""), HasSubstr("there are: "), HasSubstr("lo")));
}

TEST(TcpSocket, WithoutAnInterfaceTheHostsNameSaysWhere) {
  const auto listener = listen_on("");
  if (!listener.ok()) {  // of a machine whose name nobody knows
    EXPECT_THAT(listener.status().message(), HasSubstr("name the network interface to use"));
    return;
  }
  const auto from = start_connecting(listener->address);
  ASSERT_TRUE(from.ok()) << listener->address.text();
  wait_for(listener->socket, POLLIN);
  EXPECT_TRUE(accept_one(listener->socket).valid());
}

TEST(TcpSocket, WhoDoesNotListenIsNoConnection) {
  SocketAddress address;
  {
    const auto listener = listen_on("lo");
    ASSERT_TRUE(listener.ok());
    address = listener->address;
  }
  const auto socket = start_connecting(address);
  if (!socket.ok()) {
    EXPECT_EQ(socket.status().message(), system_text(ECONNREFUSED));
    return;
  }
  wait_for(*socket, POLLOUT);
  EXPECT_EQ(connect_error(*socket), ECONNREFUSED);
  EXPECT_EQ(connect_error(Descriptor()), EBADF);
}

TEST(TcpSocket, AddressesGoOverTheWireAndBack) {
  sockaddr_in in4{};
  in4.sin_family = AF_INET;
  in4.sin_port = htons(40123);
  in4.sin_addr.s_addr = htonl(0x0A000007);
  const SocketAddress four(reinterpret_cast<const sockaddr*>(&in4), sizeof(in4));
  EXPECT_EQ(four.text(), "10.0.0.7:40123");
  EXPECT_EQ(SocketAddress::from_wire(four.wire())->text(), "10.0.0.7:40123");
  sockaddr_in6 in6{};
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(80);
  in6.sin6_addr = in6addr_loopback;
  const SocketAddress six(reinterpret_cast<const sockaddr*>(&in6), sizeof(in6));
  EXPECT_EQ(SocketAddress::from_wire(six.wire())->text(), "[::1]:80");
}

TEST(TcpSocket, AddressesThatAreNoneAreRefused) {
  SocketAddress::Wire wire{};
  EXPECT_THAT(SocketAddress::from_wire(wire).status().message(), EndsWith("of the unknown family 0"));
  const sa_family_t local = AF_UNIX;
  std::memcpy(wire.data() + offsetof(sockaddr, sa_family), &local, sizeof(local));
  EXPECT_THAT(SocketAddress::from_wire(wire).status().message(), EndsWith("of the unknown family 1"));
  EXPECT_EQ(SocketAddress().text(), "an unknown address");
  const auto socket = start_connecting(SocketAddress());
  ASSERT_FALSE(socket.ok());
  EXPECT_EQ(socket.status().code(), ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace colossus
