// What another process sends over a connection, to a call that waits for bytes and one that does not.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>

#include "comm/tcp_connection.h"
#include "fuzz/fuzz.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  std::array<int, 2> ends;
  CHECK(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) == 0);
  const Descriptor poll(::epoll_create1(0)), peer(ends[1]);
  TcpConnection connection(Descriptor(ends[0]), poll.get(), 0);
  std::array<std::byte, 100> message{};
  std::array<std::byte, 40000> long_message{};
  std::array<std::byte, 65536> scratch;
  connection.receive(connection.port(1), 1, message);
  connection.receive(connection.port(2), 2, long_message);
  connection.send(connection.port(3), 3, long_message);
  for (size_t at = 0; at < size && !connection.lost();) {
    const size_t count = std::min<size_t>(size - at, 20000);
    const ssize_t sent = ::send(peer.get(), bytes + at, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) at += static_cast<size_t>(sent);
    connection.read(scratch);
    connection.write();
    while (::recv(peer.get(), scratch.data(), scratch.size(), MSG_DONTWAIT) > 0) {
    }
  }
  if (connection.port(1).receiving == TcpPort::Message::kDone) note_accepted();
  // What came ahead is for the next who asks.
  connection.withdraw(connection.port(1));
  if (!connection.lost()) connection.receive(connection.port(1), 1, message);
  for (const uint64_t channel : {1, 2, 3}) connection.withdraw(connection.port(channel));
  SocketAddress::Wire wire{};
  for (size_t i = 0; i < std::min(size, wire.size()); ++i) wire[i] = static_cast<std::byte>(bytes[i]);
  if (const auto address = SocketAddress::from_wire(wire); address.ok()) static_cast<void>(address->text());
  return 0;
}
