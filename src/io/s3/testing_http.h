// For tests only: an HTTP server of this process, on the loopback interface.
#pragma once

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"

namespace colossus {

struct TestHttpRequest {
  std::string method;
  std::string target;                          // as it came: "/a%20b?c=d"
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

struct TestHttpAnswer {
  int status = 200;
  std::vector<std::string> headers = {};
  std::string body = {};
  int64_t length = -1;  // what an answer to HEAD says of a body that does not come
  // What goes wrong on the way.
  bool none = false;  // the connection ends
  bool cut = false;   // it ends within the answer
  double wait_seconds = 0;
};

class TestHttpServer {
 public:
  // Called by many threads.
  explicit TestHttpServer(std::function<TestHttpAnswer(const TestHttpRequest&)> answer) : answer_(std::move(answer)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    CHECK(listener_ >= 0 && ::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    CHECK(::listen(listener_, 64) == 0);
    CHECK(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    accepter_ = std::thread([this] { accept(); });
  }
  ~TestHttpServer() {
    stopping_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    accepter_.join();
    for (const int socket : sockets_) ::shutdown(socket, SHUT_RDWR);
    for (std::thread& connection : connections_) connection.join();
    for (const int socket : sockets_) ::close(socket);
    ::close(listener_);
  }
  TestHttpServer(const TestHttpServer&) = delete;
  TestHttpServer& operator=(const TestHttpServer&) = delete;

  int port() const { return port_; }

 private:
  void accept() {
    while (!stopping_) {
      const int socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (socket < 0) continue;
      sockets_.push_back(socket);
      connections_.emplace_back([this, socket] {
        std::string received;
        while (!stopping_ && serve(socket, received)) {
        }
        ::shutdown(socket, SHUT_RDWR);
      });
    }
  }

  static bool receive(int socket, std::string& received) {
    char bytes[65536];
    const ssize_t got = ::recv(socket, bytes, sizeof(bytes), 0);
    if (got <= 0) return false;
    received.append(bytes, static_cast<size_t>(got));
    return true;
  }

  static TestHttpRequest parse_head(const std::string& head) {
    TestHttpRequest request;
    for (size_t at = 0; at < head.size();) {
      const size_t end = std::min(head.find("\r\n", at), head.size());
      const std::string line = head.substr(at, end - at);
      at = end + 2;
      if (request.method.empty()) {
        request.method = line.substr(0, line.find(' '));
        request.target = line.substr(request.method.size() + 1, line.rfind(' ') - request.method.size() - 1);
        continue;
      }
      std::string name = line.substr(0, line.find(':'));
      std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
      const size_t value = line.find_first_not_of(' ', name.size() + 1);
      request.headers[name] = value == std::string::npos ? "" : line.substr(value);
    }
    return request;
  }

  // One request; false when the connection is to end.
  bool serve(int socket, std::string& received) {
    size_t head_end = 0;
    while ((head_end = received.find("\r\n\r\n")) == std::string::npos)
      if (!receive(socket, received)) return false;
    TestHttpRequest request = parse_head(received.substr(0, head_end));
    received.erase(0, head_end + 4);
    const auto length = static_cast<size_t>(std::strtoull(request.headers["content-length"].c_str(), nullptr, 10));
    while (received.size() < length)
      if (!receive(socket, received)) return false;
    request.body = received.substr(0, length);
    received.erase(0, length);

    const TestHttpAnswer answer = answer_(request);
    for (double waited = 0; waited < answer.wait_seconds && !stopping_; waited += 1e-3)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (answer.none) return false;
    const auto body_bytes = static_cast<int64_t>(answer.body.size());
    std::string text = fmt::format("HTTP/1.1 {} Some Words\r\nContent-Length: {}\r\n", answer.status,
                                   answer.length >= 0 ? answer.length : body_bytes);
    for (const std::string& header : answer.headers) text += header + "\r\n";
    text += "\r\n";
    const size_t body_sent = request.method == "HEAD" ? 0 : answer.body.size();
    text += answer.body.substr(0, body_sent);
    if (answer.cut) text.erase(text.size() - std::max<size_t>(4, body_sent / 2));
    for (size_t at = 0; at < text.size();) {
      const ssize_t sent = ::send(socket, text.data() + at, text.size() - at, MSG_NOSIGNAL);
      if (sent <= 0) return false;
      at += static_cast<size_t>(sent);
    }
    return !answer.cut;
  }

  const std::function<TestHttpAnswer(const TestHttpRequest&)> answer_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stopping_ = false;
  std::list<std::thread> connections_;  // and sockets_: of accepter_, until it has ended
  std::vector<int> sockets_;
  std::thread accepter_;
};

}  // namespace colossus
